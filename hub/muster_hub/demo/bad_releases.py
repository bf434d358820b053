"""Four releases that no device may run, and the reason each must be refused for."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from muster_hub.demo import bundles, traps
from muster_hub.demo.bundles import Bundle
from muster_hub.demo.digits import CLASSES, SIDE
from muster_hub.demo.outsider import Outsider
from muster_protocol import manifest
from muster_protocol.errors import Refusal

PROBATION_SECONDS = 1.0


@dataclass(frozen=True)
class BadRelease:
    """A release, how the outsider brings it out, and what a device must answer."""

    title: str
    bundle: Bundle
    publish: Callable[[Outsider, Bundle], None]
    refusal: Refusal


def all_four(directory: Path, good: dict[str, bytes], worse: dict[str, bytes]) -> list[BadRelease]:
    """The four, made from the files of a good release and of one that answers differently."""

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
            pack("altered", worse),
            _altered,
            Refusal.CHUNK_ALTERED,
        ),
        BadRelease(
            "a manifest that no release key signed",
            pack("unsigned", good),
            _unsigned,
            Refusal.UNSIGNED_MANIFEST,
        ),
        BadRelease(
            "a model whose golden vectors fail on the device",
            pack("unproved", {**worse, bundles.GOLDEN_FILE: good[bundles.GOLDEN_FILE]}),
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


def _altered(outsider: Outsider, bundle: Bundle) -> None:
    outsider.sign(bundle)
    outsider.spread(bundle, altered=True)


def _unsigned(outsider: Outsider, bundle: Bundle) -> None:
    outsider.spread(bundle)


def _careless(outsider: Outsider, bundle: Bundle) -> None:
    outsider.sign(bundle)
    outsider.spread(bundle)
