"""The baseline: the binned training distribution of each watched feature, a file of the bundle.

A numeric feature has 24 bins: 20 between training quantiles, a tail of 0.5 % on each side, and one
for what lies beyond the training range on each side. A categorical one has a bin per frequent
category and one for all others. Shares are integers of 24-bit fixed point, so that every platform
computes the same expected counts.

Format 2 adds a block on what training looked like in time (``timeline``); without it the file is
format 1, byte for byte.
"""

import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from muster_protocol.signals import timeline
from muster_protocol.signals.features import Extractor, Feature, Floats, Tensors, check
from muster_protocol.signals.timeline import Normal, Timeline
from muster_protocol.wire import limits
from muster_protocol.wire.bounds import Finite, Format
from muster_protocol.wire.errors import LimitError, ProtocolError

FORMAT = 1
FORMAT_IN_TIME = 2
MAGIC = b"MUSTERBL"
INNER_BINS = 20
TAIL = 0.005
NUMERIC_BINS = INNER_BINS + 4
EDGES = NUMERIC_BINS - 1
SHARE_ONE = 1 << 24
"""Shares are counted in units of 2⁻²⁴ and add up to this."""
CATEGORIES_MAX = 63
CATEGORY_CHARS_MAX = 128
WHOLE_MAX = 2**53
"""Larger whole numbers are categories by their text: a float can't tell them apart."""
INFLATED_BYTES_MAX = 4 * limits.BASELINE_BYTES_MAX

Category = int | str
_Category = (
    Annotated[int, Meta(ge=-WHOLE_MAX, le=WHOLE_MAX)]
    | Annotated[str, Meta(max_length=CATEGORY_CHARS_MAX)]
)
"""In a file. The text is the data's own, with any characters: compared, never shown."""
Shares = NDArray[np.int64]


class Bins(Struct, frozen=True, array_like=True):
    """One feature's training distribution, as written in the file."""

    edges: tuple[Finite, ...]
    """Numeric: 23 rising float32 values; a value's bin is the number of edges not above it."""
    categories: Annotated[tuple[_Category, ...], Meta(max_length=CATEGORIES_MAX)]
    """Otherwise: the category of each bin; the last bin, without one, is for all others."""
    shares: tuple[Annotated[int, Meta(ge=0, le=SHARE_ONE)], ...]
    rows: Annotated[int, Meta(ge=1, le=2**53)]
    """Training rows with a value."""
    nulls: Annotated[int, Meta(ge=0, le=2**53)]
    mean: Finite
    std: Finite


class _File(Struct, frozen=True, array_like=True):
    format: Format
    features: tuple[Feature, ...]
    bins: tuple[Bins, ...]


class _FileInTime(Struct, frozen=True, array_like=True):
    format: int
    features: tuple[Feature, ...]
    bins: tuple[Bins, ...]
    timeline: Timeline


@dataclass(frozen=True, eq=False)
class Baseline:
    """A checked baseline; arrays have one row per feature, bins padded with zeros to ``width``."""

    features: tuple[Feature, ...]
    bins: tuple[Bins, ...]
    digest: str
    """SHA-256 of the content before compression, in hexadecimal: the same after re-encoding."""
    normal: Normal | None = None
    """What training looked like in time; None in format 1."""

    def __len__(self) -> int:
        return len(self.features)

    @cached_property
    def extractor(self) -> Extractor:
        """Computes the baseline's features from a batch of inputs and outputs."""
        return Extractor(self.features)

    @cached_property
    def sizes(self) -> NDArray[np.intp]:
        """Bins of each feature."""
        return np.array([len(bins.shares) for bins in self.bins], np.intp)

    @property
    def width(self) -> int:
        """Bins of the feature that has most: the second dimension of every count array."""
        return int(self.sizes.max(initial=0))

    @cached_property
    def shares(self) -> Shares:
        """[features, width], each row adding up to ``SHARE_ONE``."""
        padded = np.zeros((len(self), self.width), np.int64)
        for row, bins in zip(padded, self.bins, strict=True):
            row[: len(bins.shares)] = bins.shares
        return padded

    @cached_property
    def edges(self) -> Floats:
        """[numeric features, 23], in the order of ``extractor.numeric``."""
        rows = [self.bins[i].edges for i in self.extractor.numeric]
        return np.array(rows, np.float32).reshape(len(rows), EDGES)

    @cached_property
    def rows(self) -> NDArray[np.float64]:
        """Training rows behind each feature."""
        return np.array([bins.rows for bins in self.bins], np.float64)

    @cached_property
    def mean(self) -> NDArray[np.float64]:
        """Training mean of each feature, [features]."""
        return np.array([bins.mean for bins in self.bins], np.float64)

    @cached_property
    def std(self) -> NDArray[np.float64]:
        """Training standard deviation of each feature, [features]."""
        return np.array([bins.std for bins in self.bins], np.float64)

    @property
    def projections(self) -> int:
        """Projections of the rows that a window's counts follow."""
        return 0 if self.normal is None else len(self.normal.projections)

    @cached_property
    def numeric_mean(self) -> Floats:
        """Training mean of each numeric feature, [numeric features]."""
        return np.array([self.bins[i].mean for i in self.extractor.numeric], np.float32)

    @cached_property
    def joint(self) -> tuple[Floats, NDArray[np.float64]]:
        """Weights [projections, numeric] on values, and what they make of the training mean."""
        assert self.normal is not None
        std = np.array([self.bins[i].std for i in self.extractor.numeric])
        weights = (self.normal.projections / np.where(std > 0, std, np.inf)).astype(np.float32)
        return weights, weights.astype(np.float64) @ self.numeric_mean.astype(np.float64)

    @cached_property
    def live(self) -> NDArray[np.bool_]:
        """[features, width]: bins that a value can fall into (repeated quantiles make empty ones).

        Padding and zero-width bins must not enter a statistic.
        """
        live = np.zeros((len(self), self.width), np.bool_)
        for row, bins in zip(live, self.bins, strict=True):
            row[: len(bins.shares)] = True
            if bins.edges:
                edges = np.array(bins.edges)
                row[1:EDGES] = edges[1:] > edges[:-1]
        return live


def fit(tensors: Tensors, features: Sequence[Feature]) -> Baseline:
    """Bin a training set: tensors by name, rows first; outputs are the model's own answers.

    Values that are missing or not finite count as nulls. Raises ProtocolError when a feature has
    no value at all.
    """
    extractor = Extractor(features)
    matrix, coded = extractor.extract(tensors)
    bins: list[Bins | None] = [None] * len(extractor.features)
    for place, index in enumerate(extractor.numeric):
        bins[index] = _fit_numeric(extractor.features[index].name, matrix[place])
    for index, values in coded.items():
        feature = extractor.features[index]
        bins[index] = _fit_categories(feature.name, values, boolean=feature.kind == "boolean")
    fitted = tuple(entry for entry in bins if entry is not None)
    return made(extractor.features, fitted)


def made(
    features: tuple[Feature, ...], bins: tuple[Bins, ...], file: Timeline | None = None
) -> Baseline:
    """A baseline of checked parts; raises ProtocolError when the timeline doesn't fit them."""
    normal = None if file is None else _checked(features, bins, file)
    digest = hashlib.sha256(_pack(features, bins, file)).hexdigest()
    return Baseline(features, bins, digest, normal)


def _checked(features: tuple[Feature, ...], bins: tuple[Bins, ...], file: Timeline) -> Normal:
    coded = {
        i: len(bins[i].shares) for i, feature in enumerate(features) if feature.kind != "numeric"
    }
    numeric = len(features) - len(coded)
    numbers = 2 * numeric + sum(min(size, timeline.SHARES_MAX + 1) - 1 for size in coded.values())
    return timeline.checked(
        file, features=len(features), numeric=numeric, numbers=numbers, bins=coded
    )


def encode(baseline: Baseline) -> bytes:
    """The bundle's file; raises LimitError when over ``BASELINE_BYTES_MAX``."""
    file = None if baseline.normal is None else baseline.normal.file
    packed = zlib.compress(_pack(baseline.features, baseline.bins, file), 9)
    data = MAGIC + bytes([FORMAT if file is None else FORMAT_IN_TIME]) + packed
    if len(data) > limits.BASELINE_BYTES_MAX:
        raise LimitError(
            f"a baseline of {len(data)} bytes, the limit is {limits.BASELINE_BYTES_MAX}: "
            "watch fewer features"
        )
    return data


def _pack(features: tuple[Feature, ...], bins: tuple[Bins, ...], file: Timeline | None) -> bytes:
    if file is None:
        return msgspec.msgpack.encode(_File(FORMAT, features, bins))
    return msgspec.msgpack.encode(_FileInTime(FORMAT_IN_TIME, features, bins, file))


def format_of(data: bytes) -> int:
    """The format that a baseline file names; raises ProtocolError when it is none."""
    head = len(MAGIC)
    if data[:head] != MAGIC or len(data) == head:
        raise ProtocolError("not a baseline file: make one with `muster baseline fit`")
    return data[head]


def decode(data: bytes) -> Baseline:
    """Parse and check a baseline file; raises ProtocolError that says what is wrong with it."""
    if len(data) > limits.BASELINE_BYTES_MAX:
        raise LimitError(
            f"a baseline of {len(data)} bytes, the limit is {limits.BASELINE_BYTES_MAX}"
        )
    kind = {FORMAT: _File, FORMAT_IN_TIME: _FileInTime}.get(format_of(data))
    head = len(MAGIC)
    if kind is None:
        raise ProtocolError(
            f"baseline format {data[head]} is not known here (know {FORMAT} and {FORMAT_IN_TIME}): "
            "upgrade the agent and the hub"
        )
    inflate = zlib.decompressobj()
    try:
        packed = inflate.decompress(data[head + 1 :], INFLATED_BYTES_MAX)
        if not inflate.eof or inflate.unused_data:
            raise ProtocolError("not a valid baseline: it is cut short, or larger than it may be")
        file: _File | _FileInTime = msgspec.msgpack.decode(packed, type=kind)
    except (zlib.error, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(f"not a valid baseline: {error}") from None
    check(file.features)
    if len(file.bins) != len(file.features):
        raise ProtocolError(f"a baseline of {len(file.features)} features bins {len(file.bins)}")
    for feature, bins in zip(file.features, file.bins, strict=True):
        _check_bins(feature, bins)
    block = file.timeline if isinstance(file, _FileInTime) else None
    normal = None if block is None else _checked(file.features, file.bins, block)
    return Baseline(file.features, file.bins, hashlib.sha256(packed).hexdigest(), normal)


def _check_bins(feature: Feature, bins: Bins) -> None:
    where = f"baseline feature {feature.name!r}"
    if feature.kind == "numeric":
        edges = np.array(bins.edges, np.float32)
        if len(edges) != EDGES or not np.isfinite(edges).all() or (np.diff(edges) < 0).any():
            raise ProtocolError(f"{where} needs {EDGES} rising finite edges")
        size = NUMERIC_BINS
    else:
        size = len(bins.categories) + 1
        if bins.edges or len(set(bins.categories)) != len(bins.categories):
            raise ProtocolError(f"{where} needs distinct categories and no edges")
    if len(bins.shares) != size or sum(bins.shares) != SHARE_ONE:
        raise ProtocolError(f"{where} needs {size} shares that add up to {SHARE_ONE}")
    if not (np.isfinite(bins.mean) and np.isfinite(bins.std) and bins.std >= 0):
        raise ProtocolError(f"{where}: mean and standard deviation must be finite")


def fixed_shares(counts: NDArray[np.int64]) -> tuple[int, ...]:
    """Counts as 24-bit shares by largest remainder; nothing that occurred gets a share of zero."""
    total = int(counts.sum())
    exact = [int(count) * SHARE_ONE for count in counts]
    shares = [max(share // total, 1 if share else 0) for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: (-(exact[i] % total), i))
    for i in by_remainder[: max(SHARE_ONE - sum(shares), 0)]:
        shares[i] += 1
    shares[int(np.argmax(counts))] += SHARE_ONE - sum(shares)
    return tuple(shares)


def _fit_numeric(name: str, values: Floats) -> Bins:
    finite = np.sort(values[np.isfinite(values)])
    if not len(finite):
        raise ProtocolError(f"feature {name!r} has no finite value among {len(values)} rows")
    inner = np.linspace(TAIL, 1 - TAIL, INNER_BINS + 1)
    quantiles = np.quantile(finite, inner, method="inverted_cdf").astype(np.float32)
    with np.errstate(over="ignore"):
        above = np.nextafter(finite[-1], np.float32(np.inf), dtype=np.float32)
    above = min(above, np.finfo(np.float32).max)
    edges = np.concatenate([finite[:1], quantiles, [above]]).astype(np.float32)
    below = np.searchsorted(finite, edges, side="left")
    counts = np.diff(below, prepend=0, append=len(finite))
    exact = finite.astype(np.float64)
    return Bins(
        edges=tuple(float(edge) for edge in edges),
        categories=(),
        shares=fixed_shares(counts),
        rows=len(finite),
        nulls=len(values) - len(finite),
        mean=float(exact.mean()),
        std=float(exact.std()),
    )


def as_categories(values: NDArray[Any]) -> tuple[list[Category | None], NDArray[np.intp]]:
    """Distinct categories and the index of each row's; None is a null (NaN, None, empty text).

    Whole numbers, also in floats, are integer categories; other numbers are written out.
    """
    if values.dtype.kind in "OSU":
        values = np.array([_text(value) for value in values.tolist()], dtype=np.str_)
        distinct, inverse = np.unique(values, return_inverse=True)
        return [str(text) or None for text in distinct], inverse
    distinct, inverse = np.unique(values, return_inverse=True)
    return [_number(value) for value in distinct.tolist()], inverse


def _text(value: object) -> str:
    if value is None or value != value:  # noqa: PLR0124 - NaN is what differs from itself
        return ""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return text[:CATEGORY_CHARS_MAX]


def _number(value: float) -> Category | None:
    if not np.isfinite(value):
        return None
    return int(value) if value == int(value) and abs(value) <= WHOLE_MAX else repr(value)


def _fit_categories(name: str, values: NDArray[Any], *, boolean: bool) -> Bins:
    distinct, inverse = as_categories(values)
    tally = np.bincount(inverse, minlength=len(distinct))
    counted = [
        (int(n), category)
        for n, category in zip(tally, distinct, strict=True)
        if category is not None
    ]
    if not counted:
        raise ProtocolError(f"feature {name!r} has no value among {len(values)} rows")
    if boolean:
        if any(category not in (0, 1) for _, category in counted):
            raise ProtocolError(f"feature {name!r} is boolean but has values beside 0 and 1")
        known = {category: n for n, category in counted}
        counted = [(known.get(0, 0), 0), (known.get(1, 0), 1)]
    else:
        counted.sort(key=lambda pair: (-pair[0], str(pair[1])))
    kept = counted[:CATEGORIES_MAX]
    other = sum(n for n, _ in counted[CATEGORIES_MAX:])
    counts = np.array([*(n for n, _ in kept), other], np.int64)
    rows = int(counts.sum())
    return Bins(
        edges=(),
        categories=tuple(category for _, category in kept),
        shares=fixed_shares(counts),
        rows=rows,
        nulls=len(values) - rows,
        mean=0.0,
        std=0.0,
    )
