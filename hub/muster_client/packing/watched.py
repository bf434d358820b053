"""What a device is to watch of a model's inputs and outputs, by names that people know. Pure."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from muster_client.packing.advice import Notes
from muster_client.packing.rows import Rows
from muster_protocol.signals import features
from muster_protocol.signals.features import Confidence, Element, Feature, Norm, Predicted
from muster_protocol.wire import bounds, limits
from muster_protocol.wire.manifest import Classifier
from muster_protocol.wire.tensors import Tensor
from muster_protocol.wire.usable import elements, is_recorded

INPUT_ELEMENTS_MAX = 128
"""Of an array without names of columns; more are watched through norms and projections."""
OUTPUT_ELEMENTS_MAX = 16
PROJECTIONS = 8
CHANNELS = frozenset({1, 3, 4})
NORMS: tuple[Literal["mean_abs", "rms", "max_abs"], ...] = ("mean_abs", "rms", "max_abs")


def features_of(
    rows: Rows,
    outputs: Sequence[Tensor],
    classifier: Classifier | None,
    images: Mapping[str, tuple[int, int]],
    seed: str,
    notes: Notes,
) -> list[Feature]:
    """Columns by name, images by brightness, contrast and sharpness, scores as class and
    confidence, and what is large through norms and projections seeded by ``seed``."""
    found: list[Feature] = []
    for tensor in rows.tensors:
        if not is_recorded(tensor):
            what = "text" if tensor.datatype == "BYTES" else "of varying size"
            notes.add("not_watched", f"Input {tensor.name!r} is {what}: its drift isn't watched.")
        else:
            found += _of_input(tensor, rows, images.get(tensor.name), seed)
    for tensor in outputs:
        if is_recorded(tensor):
            found += _of_output(tensor, classifier)
    return [*_named_apart(found)]


def _of_input(
    tensor: Tensor, rows: Rows, image: tuple[int, int] | None, seed: str
) -> Iterator[Feature]:
    columns = rows.columns.get(tensor.name)
    height_width, first = _image(tensor, image)
    if columns and len(columns) <= limits.FEATURES_MAX - 2 * OUTPUT_ELEMENTS_MAX:
        for index, column in enumerate(columns):
            kind: features.Kind = "boolean" if column in rows.booleans else "numeric"
            yield Feature(_clean(column), Element(tensor.name, index), kind)
    elif height_width is not None:
        height, width = height_width
        yield from _renamed(
            features.image(tensor.name, height=height, width=width, channels_first=first)
        )
    elif elements(tensor) <= INPUT_ELEMENTS_MAX:
        yield from _elements(tensor)
    else:
        yield from _norms(tensor)
        digest = hashlib.sha256(f"{seed}/{tensor.name}".encode()).digest()[:16]
        yield from _renamed(features.projections(tensor.name, PROJECTIONS, digest))


def _renamed(found: Sequence[Feature]) -> Iterator[Feature]:
    for feature in found:
        yield Feature(_clean(feature.name), feature.source, feature.kind)


def _image(tensor: Tensor, asked: tuple[int, int] | None) -> tuple[tuple[int, int] | None, bool]:
    """(Height and width, whether channels come first) of what is an image."""
    shape = tensor.element_shape
    if asked is not None:
        return asked, len(shape) == 3 and shape[1:] == asked
    if len(shape) == 3 and shape[2] in CHANNELS and min(shape[:2]) >= 3:
        return (shape[0], shape[1]), False
    if len(shape) == 3 and shape[0] in CHANNELS and min(shape[1:]) >= 3:
        return (shape[1], shape[2]), True
    return None, False


def _elements(tensor: Tensor) -> Iterator[Feature]:
    count = elements(tensor)
    for index in range(count):
        name = tensor.name if count == 1 else f"{tensor.name}[{index}]"
        yield Feature(_clean(name), Element(tensor.name, index))


def _norms(tensor: Tensor) -> Iterator[Feature]:
    for order in NORMS:
        yield Feature(_clean(f"{tensor.name}.{order}"), Norm(tensor.name, order))


def _of_output(tensor: Tensor, classifier: Classifier | None) -> Iterator[Feature]:
    if classifier is not None and tensor.name == classifier.output:
        yield Feature(_clean(f"{tensor.name}.class"), Predicted(tensor.name), "categorical")
        yield Feature(_clean(f"{tensor.name}.confidence"), Confidence(tensor.name))
    elif elements(tensor) == 1 and tensor.datatype.startswith(("INT", "UINT", "BOOL")):
        yield Feature(_clean(tensor.name), Element(tensor.name), "categorical")
    elif elements(tensor) <= OUTPUT_ELEMENTS_MAX:
        yield from _elements(tensor)
    else:
        yield from _norms(tensor)


def _clean(name: str) -> str:
    """A name as short, and as plain, as a feature's may be."""
    return bounds.clean(name)[: limits.NAME_CHARS_MAX - 4] or "feature"


def _named_apart(found: Sequence[Feature]) -> Iterator[Feature]:
    seen: dict[str, int] = {}
    for feature in found:
        times = seen.setdefault(feature.name, 0)
        seen[feature.name] += 1
        name = feature.name if not times else f"{feature.name}~{times + 1}"
        yield Feature(name, feature.source, feature.kind)


def with_context(found: Sequence[Feature], context: str) -> list[Feature]:
    """The features with the column ``context`` as a category."""
    return [
        Feature(feature.name, feature.source, "categorical") if feature.name == context else feature
        for feature in found
    ]
