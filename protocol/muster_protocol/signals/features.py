"""What is watched of a model's inputs and outputs: declared scalars, extracted in bulk.

A tensor arrives as an array with one row per inference. Each ``Feature`` names one scalar per row:
an element of a tensor, a statistic of an image, a norm, a seeded random projection, the predicted
class or its confidence. The specification travels in the baseline, so device and hub agree on it.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, assert_never

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from muster_protocol.wire import bounds, limits
from muster_protocol.wire.errors import LimitError, ProtocolError

Floats = NDArray[np.float32]
Tensors = Mapping[str, NDArray[Any]]
TRANSPOSED_ROWS = 256
"""At a time: a cache then holds the rows until all their columns are written."""
Kind = Literal["numeric", "categorical", "boolean"]
Text = Annotated[
    str, Meta(min_length=1, max_length=limits.LINE_CHARS_MAX, pattern=bounds.LINE_PATTERN)
]
Place = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Size = Annotated[int, Meta(ge=1, le=2**31)]


class Element(Struct, frozen=True, forbid_unknown_fields=True, tag="element"):
    """One element of a tensor's row, counted in row-major order."""

    tensor: Text
    index: Place = 0


class Image(Struct, frozen=True, forbid_unknown_fields=True, tag="image"):
    """A statistic of an image: ``brightness`` is the mean, ``contrast`` the standard deviation,
    ``sharpness`` the mean squared Laplacian (4 neighbours, inner pixels), over all channels."""

    tensor: Text
    statistic: Literal["brightness", "contrast", "sharpness"]
    height: Size
    width: Size
    channels_first: bool = False


class Norm(Struct, frozen=True, forbid_unknown_fields=True, tag="norm"):
    """``mean_abs``, ``rms`` or ``max_abs`` of a tensor's row."""

    tensor: Text
    order: Literal["mean_abs", "rms", "max_abs"] = "rms"


class Projection(Struct, frozen=True, forbid_unknown_fields=True, tag="projection"):
    """A random projection: the row times signs drawn by SHAKE-256, over the root of its size."""

    tensor: Text
    number: Annotated[int, Meta(ge=0, lt=limits.FEATURES_MAX)]
    seed: Annotated[bytes, Meta(min_length=8, max_length=32)]


class Predicted(Struct, frozen=True, forbid_unknown_fields=True, tag="predicted"):
    """The class with the highest score in an output with one score per class."""

    tensor: Text


class Confidence(Struct, frozen=True, forbid_unknown_fields=True, tag="confidence"):
    """The highest score of an output with one score per class."""

    tensor: Text


Source = Element | Image | Norm | Projection | Predicted | Confidence


class Feature(Struct, frozen=True, forbid_unknown_fields=True):
    """One monitored number or category, and where in the tensors it is read from."""

    name: Annotated[
        str, Meta(min_length=1, max_length=limits.NAME_CHARS_MAX, pattern=bounds.LINE_PATTERN)
    ]
    source: Source
    kind: Kind = "numeric"


def elements(
    tensor: str, names: Sequence[str] | int, *, kind: Kind = "numeric"
) -> tuple[Feature, ...]:
    """Every element of a tensor; ``names`` may be their count, to be named ``tensor[0]``…"""
    if isinstance(names, int):
        names = [f"{tensor}[{index}]" for index in range(names)]
    return tuple(Feature(name, Element(tensor, i), kind) for i, name in enumerate(names))


def image(
    tensor: str, *, height: int, width: int, channels_first: bool = False
) -> tuple[Feature, ...]:
    """Brightness, contrast and sharpness of an image tensor."""
    kinds: tuple[Literal["brightness", "contrast", "sharpness"], ...] = (
        "brightness", "contrast", "sharpness",
    )  # fmt: skip
    return tuple(
        Feature(f"{tensor}.{kind}", Image(tensor, kind, height, width, channels_first))
        for kind in kinds
    )


def projections(tensor: str, count: int, seed: bytes) -> tuple[Feature, ...]:
    """``count`` random projections of a tensor; the same seed gives the same ones everywhere."""
    return tuple(Feature(f"{tensor}~{n}", Projection(tensor, n, seed)) for n in range(count))


def classifier(tensor: str) -> tuple[Feature, ...]:
    """Predicted class and confidence of an output with one score per class."""
    return (
        Feature(f"{tensor}.class", Predicted(tensor), "categorical"),
        Feature(f"{tensor}.confidence", Confidence(tensor)),
    )


def check(features: Sequence[Feature]) -> tuple[Feature, ...]:
    """Return the features as a tuple; raises on too many of them or a name used twice."""
    if len(features) > limits.FEATURES_MAX:
        raise LimitError(f"{len(features)} features, the limit is {limits.FEATURES_MAX}")
    seen: set[str] = set()
    for feature in features:
        if feature.name in seen:
            raise ProtocolError(f"feature {feature.name!r} is listed twice")
        seen.add(feature.name)
        if isinstance(feature.source, Predicted) and feature.kind != "categorical":
            raise ProtocolError(f"feature {feature.name!r}: a predicted class is categorical")
    return tuple(features)


class Extractor:
    """Extracts a fixed list of features; build once, call per batch of rows."""

    def __init__(self, features: Sequence[Feature]) -> None:
        self.features = check(features)
        self.tensors = frozenset(feature.source.tensor for feature in self.features)
        self._groups: dict[str, tuple[list[int], NDArray[np.intp]]] = {}
        self._single: list[tuple[int, Source]] = []
        self.numeric = np.array(
            [i for i, feature in enumerate(self.features) if feature.kind == "numeric"], np.intp
        )
        self.coded = tuple(i for i, f in enumerate(self.features) if f.kind != "numeric")
        for place, index in enumerate(self.numeric):
            source = self.features[index].source
            if isinstance(source, Element):
                places, picks = self._groups.get(source.tensor, ([], np.empty(0, np.intp)))
                self._groups[source.tensor] = ([*places, place], np.append(picks, source.index))
            else:
                self._single.append((place, source))
        self._signs: dict[Projection, Floats] = {}

    def extract(self, tensors: Tensors) -> tuple[Floats, dict[int, NDArray[Any]]]:
        """Numeric features as float32 [numeric features, rows]; others by their index, as found.

        Raises ProtocolError when a tensor is missing or too small, or row counts differ.
        """
        flat = self._flatten(tensors)
        rows = len(next(iter(flat.values()))) if flat else 0
        matrix = np.empty((len(self.numeric), rows), np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            for tensor, (places, picks) in self._groups.items():
                columns = flat[tensor].T
                if len(picks) == len(matrix) == len(columns) and self._in_order(picks):
                    for begin in range(0, rows, TRANSPOSED_ROWS):
                        block = slice(begin, begin + TRANSPOSED_ROWS)
                        matrix[:, block] = columns[:, block]
                else:
                    matrix[places] = columns[picks]
            for place, source in self._single:
                matrix[place] = self._scalar(source, flat[source.tensor])
        coded = {i: self._values(self.features[i].source, flat) for i in self.coded}
        return matrix, coded

    @staticmethod
    def _in_order(picks: NDArray[np.intp]) -> bool:
        return bool((picks == np.arange(len(picks))).all())

    def _flatten(self, tensors: Tensors) -> dict[str, NDArray[Any]]:
        flat = {}
        rows = None
        for name in sorted(self.tensors):
            if name not in tensors:
                raise ProtocolError(
                    f"features watch tensor {name!r}, which is not among {', '.join(tensors)}"
                )
            array = tensors[name]
            if rows is None:
                rows = len(array)
            if len(array) != rows:
                raise ProtocolError(f"tensor {name!r} has {len(array)} rows, others have {rows}")
            flat[name] = array.reshape(rows, int(np.prod(array.shape[1:], dtype=np.int64)))
        for feature in self.features:
            source, width = feature.source, flat[feature.source.tensor].shape[1]
            if isinstance(source, Element) and source.index >= width:
                raise ProtocolError(
                    f"feature {feature.name!r} is element {source.index} of {source.tensor!r}, "
                    f"which has {width} per row"
                )
        return flat

    def _scalar(self, source: Source, found: NDArray[Any]) -> Floats:
        values: Floats = found.astype(np.float32, copy=False)
        match source:
            case Image():
                return image_statistic(source, values)
            case Norm():
                return norm(source, values)
            case Projection():
                if source not in self._signs:
                    self._signs[source] = signs(source, values.shape[1])
                return np.asarray(values @ self._signs[source], np.float32)
            case Confidence():
                return np.asarray(values.max(axis=1), np.float32)
            case Element() | Predicted():
                what = f"{type(source).__name__} of {source.tensor!r}"
                raise ProtocolError(f"{what} is not a number")
            case _:
                assert_never(source)

    @staticmethod
    def _values(source: Source, flat: Tensors) -> NDArray[Any]:
        values = flat[source.tensor]
        match source:
            case Element():
                return values[:, source.index]
            case Predicted():
                return predicted(values).astype(np.float32)
            case Image() | Norm() | Projection() | Confidence():
                what = f"{type(source).__name__} of {source.tensor!r}"
                raise ProtocolError(f"{what} is not a category")
            case _:
                assert_never(source)


def predicted(scores: NDArray[Any]) -> NDArray[np.float64]:
    """Index of the highest score per row [rows, classes]; NaN where a score is not a number."""
    classes = np.asarray(scores.argmax(axis=1), np.float64)
    classes[np.isnan(scores).any(axis=1)] = np.nan
    return classes


def signs(projection: Projection, size: int) -> Floats:
    """The projection's vector of ±1/√size, the same on every platform."""
    text = projection.seed + projection.number.to_bytes(2, "big") + projection.tensor.encode()
    bits = np.unpackbits(np.frombuffer(hashlib.shake_256(text).digest(-(-size // 8)), np.uint8))
    return np.asarray((bits[:size] * 2.0 - 1.0) / np.sqrt(size), np.float32)


def norm(source: Norm, values: Floats) -> Floats:
    """A norm of each row [rows, elements], divided by its size where it is a sum."""
    match source.order:
        case "mean_abs":
            return np.asarray(np.abs(values).mean(axis=1), np.float32)
        case "max_abs":
            return np.asarray(np.abs(values).max(axis=1), np.float32)
        case "rms":
            squares = np.einsum("ij,ij->i", values, values)
            return np.asarray(np.sqrt(squares / values.shape[1]), np.float32)
        case _:
            assert_never(source.order)


def image_statistic(source: Image, values: Floats) -> Floats:
    """One statistic per row of flat images [rows, channels × height × width in either order]."""
    size = values.shape[1]
    pixels = source.height * source.width
    if size == 0 or size % pixels:
        raise ProtocolError(
            f"tensor {source.tensor!r} has {size} elements per row, which is no whole number of "
            f"{source.height}×{source.width} planes"
        )
    match source.statistic:
        case "brightness":
            return np.asarray(values.mean(axis=1), np.float32)
        case "contrast":
            return np.asarray(values.std(axis=1), np.float32)
        case "sharpness":
            return _sharpness(source, values, size // pixels)
        case _:
            assert_never(source.statistic)


def _sharpness(source: Image, values: Floats, planes: int) -> Floats:
    """Variance of the Laplacian over each row's planes."""
    rows = len(values)
    shape = (rows, source.height, source.width, planes)
    if source.channels_first:
        shape = (rows * planes, source.height, source.width, 1)
    grid = values.reshape(shape)
    if min(source.height, source.width) < 3:
        raise ProtocolError(f"sharpness of {source.tensor!r} needs at least 3×3 pixels")
    laplacian = (
        grid[:, :-2, 1:-1] + grid[:, 2:, 1:-1] + grid[:, 1:-1, :-2] + grid[:, 1:-1, 2:]
        - 4 * grid[:, 1:-1, 1:-1]
    )  # fmt: skip
    inner = planes * (source.height - 2) * (source.width - 2)
    return np.asarray(np.square(laplacian).reshape(rows, inner).mean(axis=1), np.float32)
