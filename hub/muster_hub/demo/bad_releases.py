"""Four releases that no device may run, and the reason each must be refused for."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from muster_hub.demo import bundles, export, traps
from muster_hub.demo.bundles import Bundle
from muster_hub.demo.digits import CLASSES, SIDE
from muster_hub.demo.export import Layers
from muster_hub.demo.outsider import Outsider
from muster_protocol.wire import manifest
from muster_protocol.wire.errors import Refusal

PROBATION_SECONDS = 1.0


@dataclass(frozen=True)
class BadRelease:
    """A release, how the outsider brings it out, and what a device must answer."""

    title: str
    bundle: Bundle
    publish: Callable[[Outsider, Bundle], None]
    refusal: Refusal


def all_four(directory: Path, good: dict[str, bytes], layers: Layers) -> list[BadRelease]:
    """The four, made from the files and the layers of a good release."""

    def pack(version: str, files: dict[str, bytes]) -> Bundle:
        lineage = manifest.Lineage(source="an outsider", notes=version)
        return bundles.pack(
            directory / version,
            version,
            files,
            probation_seconds=PROBATION_SECONDS,
            lineage=lineage,
        )

    trap = {
        bundles.ONNX_FILE: traps.deep_tree_onnx(SIDE, len(CLASSES)),
        bundles.TFLITE_FILE: traps.recursive_tflite(SIDE),
    }
    return [
        BadRelease(
            "chunks altered at every source",
            pack("altered", {**good, **_unsure(layers, 0.9)}),
            _altered,
            Refusal.CHUNK_ALTERED,
        ),
        BadRelease(
            "a manifest that no release key signed",
            pack("unsigned", {**good, **_unsure(layers, 0.7)}),
            _unsigned,
            Refusal.UNSIGNED_MANIFEST,
        ),
        BadRelease(
            "a model whose golden vectors fail on the device",
            pack("unproved", {**good, **_unsure(layers, 0.8)}),
            _careless,
            Refusal.GOLDEN_MISMATCH,
        ),
        BadRelease(
            "a model that kills its process",
            pack("deadly", {**good, **trap}),
            _careless,
            Refusal.WORKER_DIED,
        ),
    ]


def _unsure(layers: Layers, factor: float) -> dict[str, bytes]:
    """Both builds with the last layer scaled: other bytes, and other answers than proved."""
    *hidden, (weight, bias) = layers
    scaled = [*hidden, (weight * np.float32(factor), bias)]
    return {
        bundles.ONNX_FILE: export.to_onnx(scaled, SIDE),
        bundles.TFLITE_FILE: export.to_tflite(scaled, SIDE),
    }


def _altered(outsider: Outsider, bundle: Bundle) -> None:
    """Only the models' chunks: the others are shared with the version that serves."""
    outsider.sign(bundle)
    models = (bundles.ONNX_FILE, bundles.TFLITE_FILE)
    outsider.spread(bundle, altered=[bundle.manifest.file(path).sha256 for path in models])


def _unsigned(outsider: Outsider, bundle: Bundle) -> None:
    outsider.spread(bundle)


def _careless(outsider: Outsider, bundle: Bundle) -> None:
    outsider.sign(bundle)
    outsider.spread(bundle)
