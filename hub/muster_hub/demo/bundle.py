"""Pack the demo's models as bundles: files and the manifest that names them."""

import io
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muster_hub.demo import export
from muster_hub.demo.digits import CLASSES, SIDE, Classifier, Digits
from muster_protocol import baseline, chunks, features, limits, manifest

MODEL = "digits"
GOLDEN_CASES = 16
MEMORY_BYTES = 512 * limits.MIB
ONNX_FILE = "digits.onnx"
TFLITE_FILE = "digits.tflite"
GOLDEN_FILE = "golden.npz"
BASELINE_FILE = "baseline.bin"


@dataclass(frozen=True)
class Bundle:
    """A manifest and its files by name, before they are cut into chunks."""

    manifest: manifest.Manifest
    files: dict[str, bytes]

    def chunks(self) -> dict[str, bytes]:
        """Every blob a device may ask for, by SHA-256: manifest, chunks and chunk indexes."""
        encoded = manifest.encode(self.manifest)
        blobs = {chunks.sha256_hex(encoded): encoded}
        for data in self.files.values():
            pieces = [bytes(piece) for piece in chunks.cut(data)]
            if len(pieces) > 1:
                index = chunks.index_of(chunks.sha256_hex(piece) for piece in pieces)
                pieces += [bytes(piece) for piece in chunks.cut(index)]
            blobs.update((chunks.sha256_hex(piece), piece) for piece in pieces)
        return blobs


def pack(
    version: str, files: dict[str, bytes], *, probation_seconds: float, lineage: manifest.Lineage
) -> Bundle:
    """A bundle of the two builds, golden vectors and baseline found in ``files``."""
    tensor = manifest.Tensor
    return Bundle(
        manifest.Manifest(
            model=MODEL,
            version=version,
            created=int(time.time()),
            inputs=(tensor(export.INPUT, "FP32", (-1, SIDE, SIDE)),),
            outputs=(tensor(export.OUTPUT, "FP32", (-1, len(CLASSES))),),
            builds=(
                manifest.Build("onnx", ONNX_FILE, MEMORY_BYTES, opset=export.OPSET),
                manifest.Build("tflite", TFLITE_FILE, MEMORY_BYTES),
            ),
            files=tuple(entry(name, data) for name, data in sorted(files.items())),
            golden=manifest.Golden(GOLDEN_FILE),
            baseline=BASELINE_FILE,
            classifier=manifest.Classifier(export.OUTPUT, CLASSES),
            fallbacks=(manifest.Fallback("no-decision", "no_decision"),),
            start=manifest.Start(wall_seconds=30, cpu_seconds=20),
            probation=manifest.Probation(seconds=probation_seconds),
            lineage=lineage,
        ),
        files,
    )


def release(
    version: str, classifier: Classifier, digits: Digits, probation_seconds: float
) -> Bundle:
    """The bundle of a trained classifier."""
    layers = classifier.layers()
    lineage = manifest.Lineage(
        source="muster_hub.demo.digits",
        data="scikit-learn load_digits, training half",
        metrics={
            "held_out_accuracy": classifier.accuracy(digits.held_out_images, digits.held_out_labels)
        },
    )
    files = {
        ONNX_FILE: export.to_onnx(layers, SIDE),
        TFLITE_FILE: export.to_tflite(layers, SIDE),
        GOLDEN_FILE: golden(classifier, digits),
        BASELINE_FILE: fit_baseline(classifier, digits),
    }
    return pack(version, files, probation_seconds=probation_seconds, lineage=lineage)


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
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]  # keys are names of arrays here
    return buffer.getvalue()


def fit_baseline(classifier: Classifier, digits: Digits) -> bytes:
    """Brightness, contrast and sharpness of plain training images; unseen class and confidence."""
    watched = [
        *features.image(export.INPUT, height=SIDE, width=SIDE),
        *features.classifier(export.OUTPUT),
    ]
    tensors = {export.INPUT: digits.train_images, export.OUTPUT: classifier.unseen}
    return baseline.encode(baseline.fit(tensors, watched))


def entry(path: str, data: bytes) -> manifest.File:
    """The manifest's entry for a file: hash, size and the names of its chunk index's chunks."""
    pieces = [chunks.sha256_hex(piece) for piece in chunks.cut(data)]
    index: tuple[str, ...] = ()
    if len(pieces) > 1:
        index = tuple(chunks.sha256_hex(piece) for piece in chunks.cut(chunks.index_of(pieces)))
    return manifest.File(path, len(data), chunks.sha256_hex(data), index)
