"""Pack the demo's models as bundles: files and the manifest that names them."""

import functools
import io
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec
from numpy.typing import NDArray

from muster_hub.demo import export
from muster_hub.demo.digits import CLASSES, SIDE, Classifier, Digits
from muster_hub.registry import bundle
from muster_hub.signing import model_signature
from muster_protocol.signals import baseline, features, learning
from muster_protocol.wire import chunks, limits, manifest
from muster_protocol.wire.tensors import Tensor

MODEL = "digits"
GOLDEN_CASES = 16
MEMORY_BYTES = 512 * limits.MIB
ONNX_FILE = "digits.onnx"
TFLITE_FILE = "digits.tflite"
GOLDEN_FILE = "golden.npz"
BASELINE_FILE = "baseline.bin"
BASELINE_WINDOWS, BASELINE_WINDOW_ROWS = 150, 80
"""About as many rows as a window of the demo has."""


@dataclass(frozen=True)
class Bundle:
    """A bundle's folder, as `muster model push` takes it, and what it is cut into."""

    directory: Path
    encoded: bytes
    """The manifest's exact bytes."""
    blobs: dict[str, bytes]
    """Everything a device may ask for, by SHA-256: manifest, chunks and chunk indexes."""

    @property
    def manifest(self) -> manifest.Manifest:
        """Its manifest, parsed."""
        return manifest.decode(self.encoded)


def pack(
    directory: Path,
    version: str,
    files: Mapping[str, bytes],
    *,
    probation_seconds: float,
    lineage: manifest.Lineage,
) -> Bundle:
    """Write a bundle of the two builds, golden vectors and baseline found in ``files``."""
    directory.mkdir(parents=True)
    hashes = {name: chunks.sha256_hex(data) for name, data in files.items()}
    signature = model_signature.sign(hashes, f"{MODEL}-{version}", _model_key())
    files = {**files, model_signature.FILE: signature}
    for name, data in files.items():
        (directory / name).write_bytes(data)
    blobs: dict[str, bytes] = {}

    def put(data: bytes | memoryview) -> None:
        blobs[chunks.sha256_hex(data)] = bytes(data)

    encoded = bundle.pack(
        {name: directory / name for name in files},
        put,
        model=MODEL,
        version=version,
        created=int(time.time()),
        inputs=(Tensor(export.INPUT, "FP32", (-1, SIDE, SIDE)),),
        outputs=(Tensor(export.OUTPUT, "FP32", (-1, len(CLASSES))),),
        builds=(
            manifest.Build("onnx", ONNX_FILE, MEMORY_BYTES, opset=export.OPSET),
            manifest.Build("tflite", TFLITE_FILE, MEMORY_BYTES),
        ),
        golden=manifest.Golden(GOLDEN_FILE),
        baseline=BASELINE_FILE,
        classifier=manifest.Classifier(export.OUTPUT, CLASSES),
        fallbacks=(manifest.Fallback("no-decision", "no_decision"),),
        start=manifest.Start(wall_seconds=30, cpu_seconds=20),
        probation=manifest.Probation(seconds=probation_seconds),
        lineage=lineage,
    )
    (directory / "manifest.json").write_bytes(encoded)
    return Bundle(directory, encoded, blobs)


@functools.cache
def _model_key() -> ec.EllipticCurvePrivateKey:
    """Who made the demo's models: as long as this process lives."""
    return ec.generate_private_key(ec.SECP256R1())


def files_of(classifier: Classifier, digits: Digits) -> dict[str, bytes]:
    """Both builds of a classifier, its golden vectors and its baseline."""
    layers = classifier.layers()
    return {
        ONNX_FILE: export.to_onnx(layers, SIDE),
        TFLITE_FILE: export.to_tflite(layers, SIDE),
        GOLDEN_FILE: golden(classifier, digits),
        BASELINE_FILE: fit_baseline(classifier, digits),
    }


def release(
    directory: Path,
    version: str,
    classifier: Classifier,
    digits: Digits,
    *,
    probation_seconds: float,
) -> Bundle:
    """The bundle of a trained classifier, with where it comes from and how good it is."""
    accuracy = classifier.accuracy(digits.held_out_images, digits.held_out_labels)
    lineage = manifest.Lineage(
        source="muster_hub.demo.digits",
        data="scikit-learn load_digits, training half",
        metrics={"held_out_accuracy": accuracy},
    )
    files = files_of(classifier, digits)
    return pack(directory, version, files, probation_seconds=probation_seconds, lineage=lineage)


def golden(classifier: Classifier, digits: Digits) -> bytes:
    """An ``.npz`` of training images and the probabilities scikit-learn gives them."""
    images = digits.train_images[:GOLDEN_CASES]
    return npz(
        {
            f"input:{export.INPUT}": images,
            f"output:{export.OUTPUT}": classifier.probabilities(images),
        }
    )


def npz(arrays: dict[str, NDArray[Any]]) -> bytes:
    """Arrays by name as a NumPy archive."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]  # keys are names of arrays here
    return buffer.getvalue()


def fit_baseline(classifier: Classifier, digits: Digits) -> bytes:
    """Brightness, contrast and sharpness of plain training images; unseen class and confidence."""
    watched = [
        *features.image(export.INPUT, height=SIDE, width=SIDE),
        *features.classifier(export.OUTPUT),
    ]
    # A camera sees digits at random, again and again: so does training.
    seen = np.random.default_rng(classifier.seed).integers(
        len(digits.train_images), size=BASELINE_WINDOWS * BASELINE_WINDOW_ROWS
    )
    tensors = {export.INPUT: digits.train_images[seen], export.OUTPUT: classifier.unseen[seen]}
    in_time = learning.InTime(rows=BASELINE_WINDOW_ROWS)
    return baseline.encode(learning.fit(tensors, watched, in_time))
