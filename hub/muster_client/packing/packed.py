"""A model's file as it was read, and the bundle that was made of it. Pure."""

from dataclasses import dataclass
from pathlib import Path

from muster_client.packing.advice import Advice
from muster_client.packing.findings import Probed
from muster_protocol.signals.baseline import Baseline
from muster_protocol.wire.explanation import Explanation
from muster_protocol.wire.manifest import Manifest, Runtime


@dataclass(frozen=True)
class ModelFile:
    """A model and the files beside it."""

    path: Path
    runtime: Runtime
    opset: int | None = None
    ir_version: int | None = None
    made_by: str = ""
    """The program that wrote it, where it says."""
    side_files: tuple[Path, ...] = ()
    """Files that hold part of its tensors."""
    classes: tuple[str, ...] = ()
    """Names of classes that the model carries."""
    operators: frozenset[str] = frozenset()
    foreign: frozenset[str] = frozenset()
    """Domains of operators that ONNX Runtime may not have."""
    rewritten: bytes | None = None
    """The model without its ZipMap, to be packed in the file's place."""
    scores: str = ""
    """The output that a ZipMap hid."""


@dataclass(frozen=True)
class Packed:
    """A bundle's folder and what is known of it."""

    folder: Path
    manifest: Manifest
    size_bytes: int
    model: ModelFile
    probed: Probed
    rows: int
    """Of data, all run through the model."""
    rows_from: str
    """Where golden vectors are from: the data, a sample, or made up."""
    baseline: Baseline | None
    accuracy: float | None
    advice: tuple[Advice, ...]
    explanation: Explanation | None = None
    """None: it could not be explained, or nobody wanted it."""
