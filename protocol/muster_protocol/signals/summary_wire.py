"""A summary as bytes: a version, then three parts (head, bins, moments), each under its own zlib.

A feature's bins travel as what they differ from expectation: zigzag(count − ⌊n·share⌋), one byte
each; 255 says that the true number stands in the list of escapes; the last bin is what is left.
Moments are rounded to what a window can know (12 bits of the mean's offset from the baseline and
of the variance, 8 of the extremes' offsets), their bytes shuffled, so that like ones stand
together. The baseline is named by the first 8 bytes of its hash; without it bins can't be read.
"""

import zlib
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Generic, TypeVar

import msgspec
import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from muster_protocol.signals import histogram
from muster_protocol.signals.baseline import CATEGORIES_MAX, SHARE_ONE, Baseline
from muster_protocol.signals.binning import Counts, Doubles, FeatureCounts
from muster_protocol.signals.summary import Confusion, LabelErrors, Summary, Tally
from muster_protocol.wire import limits
from muster_protocol.wire.bounds import Amount, Count, Integer, Name, Seconds
from muster_protocol.wire.errors import LimitError, ProtocolError
from muster_protocol.wire.messages import Stamp

VERSION = 1
SUMMARY_BYTES_MAX = limits.TELEMETRY_BYTES_MAX - 4 * limits.KIB
"""A batch must hold at least one row, with its own head and tail."""
INFLATED_BYTES_MAX = limits.MIB
ROWS_MAX = 2**38
"""n·share must fit into 63 bits."""
ESCAPE = 255
BASELINE_BYTES = 8
TALLY_MIN = 13
"""Counts of a tally that are always written; later ones only when they are not zero."""
MEAN_BITS = 12
EXTREME_BITS = 8
PLANES = 3
"""Bytes of a float32 that travel: sign, exponent and 15 bits hold every rounded moment."""
FLOAT32_HELD = 3.0e38
CANCELLED = 1e-12
"""A variance this small against the mean's square is what cancellation leaves of none."""

BINS_MAX = limits.FEATURES_MAX * (CATEGORIES_MAX + 1)
CONFUSED_MAX = 32_768
"""Pairs of label and prediction in one summary."""
COUNTS_MAX = 64
"""Kinds of counts that this or a later version may tell."""
N = TypeVar("N")


class _Features(Struct, frozen=True, array_like=True):
    baseline: Annotated[bytes, Meta(min_length=BASELINE_BYTES, max_length=BASELINE_BYTES)]
    rows: Annotated[int, Meta(ge=0, le=ROWS_MAX)]
    nulls: Annotated[list[Count], Meta(max_length=2 * limits.FEATURES_MAX)]
    """Alternating feature and count, only of features that have some."""
    escapes: Annotated[list[Count], Meta(max_length=BINS_MAX)]


class _Head(Struct, Generic[N], frozen=True, array_like=True):
    """``N`` is a count: of one window as devices send it, or of many that the hub has merged."""

    model: Name
    version: Name
    manifest: Annotated[bytes, Meta(min_length=32, max_length=32)]
    opened: Stamp
    closed: Stamp
    windows: N
    counts: Annotated[list[N], Meta(max_length=COUNTS_MAX)]
    latency: Annotated[list[N], Meta(max_length=2 * histogram.LATENCY_BINS)]
    """Alternating bins skipped and count."""
    confidence: Annotated[list[N], Meta(max_length=histogram.CONFIDENCE_BINS)]
    confusion: Annotated[list[N], Meta(max_length=3 * CONFUSED_MAX)]
    """Label, prediction, count, and so on."""
    label_errors: tuple[N, Amount, Amount]
    cpu_seconds: Seconds
    energy_joules: Amount
    features: _Features | None


Part = Annotated[bytes, Meta(max_length=INFLATED_BYTES_MAX)]


class _Parts(Struct, frozen=True, array_like=True):
    """Each under zlib: unlike bytes would spoil each other's code."""

    head: Part
    bins: Part = b""
    moments: Part = b""


SENT, MERGED = _Head[Count], _Head[Integer]


@dataclass(frozen=True)
class Unknown:
    """A summary of a version made after this code: kept as it is, to be read by a later one."""

    version: int
    payload: bytes


@dataclass(frozen=True, eq=False)
class Header:
    """What can be read without the baseline."""

    summary: Summary
    """Everything but the features."""
    rows: int
    """Rows in the features; 0 when there are none."""
    baseline: str
    """First 16 hexadecimal digits of the baseline's hash; empty when there are no features."""


def encode(summary: Summary, *, exact: bool = False, merged: bool = False) -> bytes:
    """The wire form. ``exact`` keeps moments as float64 sums, for a window that is still open;
    ``merged`` is for what the hub adds up, whose counts may be larger than one window's.

    Raises LimitError when it is too large for a message.
    """
    largest = limits.INTEGER_MAX if merged else limits.COUNT_MAX
    if (found := _largest_count(summary)) > largest:
        raise LimitError(
            f"the summary of {summary.model} {summary.version} counts {found}, the limit is "
            f"{largest}"
        )
    counts = summary.features
    packed, bins, moments = None, b"", b""
    if counts is not None:
        packed, bins = _pack_bins(counts)
        moments = _pack_sums(counts) if exact else _pack_moments(counts)
    head: _Head[int] = _Head(
        summary.model,
        summary.version,
        bytes.fromhex(summary.manifest),
        summary.opened,
        summary.closed,
        summary.windows,
        _tally(summary.counts),
        _sparse(summary.latency),
        summary.confidence.tolist() if summary.confidence.any() else [],
        [number for pair, n in sorted(summary.confusion.items()) for number in (*pair, n)],
        (summary.label_errors.count, summary.label_errors.absolute, summary.label_errors.square),
        summary.cpu_seconds,
        summary.energy_joules,
        packed,
    )
    parts = _Parts(_deflate(msgspec.msgpack.encode(head)), _deflate(bins), _deflate(moments))
    data = bytes([VERSION]) + msgspec.msgpack.encode(parts)
    if len(data) > SUMMARY_BYTES_MAX and not exact:
        raise LimitError(
            f"the summary of {summary.model} {summary.version} takes {len(data)} bytes, the limit "
            f"is {SUMMARY_BYTES_MAX}: watch fewer features"
        )
    return data


def peek(payload: bytes, *, merged: bool = False) -> Header | Unknown:
    """Read all but the features; raises ProtocolError."""
    opened = _open(payload, merged=merged)
    if isinstance(opened, Unknown):
        return opened
    head, _ = opened
    summary = _summary(head, None)
    if head.features is None:
        return Header(summary, 0, "")
    return Header(summary, head.features.rows, head.features.baseline.hex())


def decode(payload: bytes, baseline: Baseline | None, *, merged: bool = False) -> Summary | Unknown:
    """Read a summary whose manifest's baseline is ``baseline``; raises ProtocolError."""
    opened = _open(payload, merged=merged)
    if isinstance(opened, Unknown):
        return opened
    head, parts = opened
    packed = head.features
    if packed is None:
        return _summary(head, None)
    if baseline is None or bytes.fromhex(baseline.digest)[:BASELINE_BYTES] != packed.baseline:
        have = "none was given" if baseline is None else f"not {baseline.digest[:16]}"
        raise ProtocolError(
            f"the summary of {head.model} {head.version} needs the baseline whose hash begins "
            f"with {packed.baseline.hex()}: {have}"
        )
    return _summary(head, _unpack(packed, _inflate(parts.bins), _inflate(parts.moments), baseline))


def as_read(counts: FeatureCounts) -> FeatureCounts:
    """What the hub will read of these counts: moments as the wire rounds them.

    A device judges these, so that both know the same. Raises ProtocolError for moments that no
    window can have.
    """
    packed, bins = _pack_bins(counts)
    return _unpack(packed, bins, _pack_moments(counts), counts.baseline)


def _largest_count(summary: Summary) -> int:
    return max(
        summary.windows,
        summary.label_errors.count,
        *summary.counts.values(),
        int(summary.latency.max()),
        int(summary.confidence.max()),
        *summary.confusion.values(),
    )


def _open(payload: bytes, *, merged: bool) -> tuple[_Head[int], _Parts] | Unknown:
    if not payload:
        raise ProtocolError("an empty summary")
    if payload[0] != VERSION:
        return Unknown(payload[0], payload)
    try:
        parts = msgspec.msgpack.decode(payload[1:], type=_Parts)
        head = msgspec.msgpack.decode(_inflate(parts.head), type=MERGED if merged else SENT)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"not a valid summary: {error}") from None
    if not head.windows:
        raise ProtocolError("not a valid summary: of no window")
    return head, parts


def _deflate(data: bytes) -> bytes:
    return zlib.compress(data, 9) if data else b""


def _inflate(data: bytes) -> bytes:
    if not data:
        return b""
    inflate = zlib.decompressobj()
    try:
        plain = inflate.decompress(data, INFLATED_BYTES_MAX)
    except zlib.error as error:
        raise ProtocolError(f"not a valid summary: {error}") from None
    if not inflate.eof or inflate.unused_data:
        raise ProtocolError("not a valid summary: it is cut short, or larger than it may be")
    return plain


def _summary(body: _Head[int], features: FeatureCounts | None) -> Summary:
    known = len(Tally().values())
    return Summary(
        body.model,
        body.version,
        body.manifest.hex(),
        body.opened,
        body.closed,
        body.windows,
        Tally(*body.counts[:known]),
        _dense(body.latency, histogram.LATENCY_BINS),
        _confidence(body.confidence),
        _confusion(body.confusion),
        LabelErrors(*body.label_errors),
        body.cpu_seconds,
        body.energy_joules,
        features,
    )


def _tally(counts: Tally) -> list[int]:
    """Counts, without zeros at the end beyond those that every version writes."""
    values = list(counts.values())
    while len(values) > TALLY_MIN and not values[-1]:
        values.pop()
    return values


def _sparse(counts: Counts) -> list[int]:
    places = np.flatnonzero(counts)
    gaps = [after - before - 1 for before, after in pairwise([-1, *places.tolist()])]
    return [number for pair in zip(gaps, counts[places].tolist(), strict=True) for number in pair]


def _dense(sparse: list[int], size: int) -> Counts:
    counts = np.zeros(size, np.int64)
    gaps, values = sparse[::2], sparse[1::2]
    place = -1
    for gap, value in zip(gaps, values, strict=len(gaps) == len(values)):
        place += gap + 1
        if place >= size:
            raise ProtocolError(f"not a valid summary: bin {place} of {size}")
        counts[place] = value
    return counts


def _confidence(values: list[int]) -> Counts:
    if not values:
        return np.zeros(histogram.CONFIDENCE_BINS, np.int64)
    if len(values) != histogram.CONFIDENCE_BINS:
        raise ProtocolError(f"not a valid summary: {len(values)} confidence bins")
    return np.array(values, np.int64)


def _confusion(flat: list[int]) -> Confusion:
    if len(flat) % 3 or any(number >= limits.CLASSES_MAX for number in flat[::3] + flat[1::3]):
        raise ProtocolError("not a valid summary: its confusion counts are misshapen")
    return {(flat[i], flat[i + 1]): flat[i + 2] for i in range(0, len(flat), 3)}


def _sent(baseline: Baseline) -> NDArray[np.bool_]:
    """[features, width]: the bins that travel, all but each feature's last."""
    return np.arange(baseline.width) < (baseline.sizes - 1)[:, None]


def _expected(baseline: Baseline, values: Counts) -> Counts:
    return values[:, None] * baseline.shares // SHARE_ONE


def _pack_bins(counts: FeatureCounts) -> tuple[_Features, bytes]:
    if counts.rows > ROWS_MAX:
        raise LimitError(f"{counts.rows} rows in one summary, the limit is {ROWS_MAX}")
    baseline = counts.baseline
    off = (counts.bins - _expected(baseline, counts.values))[_sent(baseline)]
    zigzag = np.where(off < 0, -2 * off - 1, 2 * off)
    some = np.flatnonzero(counts.nulls)
    packed = _Features(
        bytes.fromhex(baseline.digest)[:BASELINE_BYTES],
        counts.rows,
        [number for i in some.tolist() for number in (i, int(counts.nulls[i]))],
        zigzag[zigzag >= ESCAPE].tolist(),
    )
    return packed, np.minimum(zigzag, ESCAPE).astype(np.uint8).tobytes()


def _pack_sums(counts: FeatureCounts) -> bytes:
    whole = (counts.total, counts.squares, counts.low, counts.high)
    joint = (counts.joint_total, counts.joint_squares)
    return np.concatenate([*whole, *joint]).astype("<f8").tobytes()


def _pack_moments(counts: FeatureCounts) -> bytes:
    """The first three byte planes of [mean, variance, low, high] as rounded big-endian float32,
    then those of the projections' [mean, variance]."""
    values = np.maximum(counts.values, 1)
    mean = counts.total / values
    variance = counts.squares / values - np.square(mean)
    variance[variance < np.square(mean) * CANCELLED] = 0.0
    center = counts.baseline.mean
    moments = np.stack([mean, variance, counts.low - center, counts.high - center])
    bits = np.array([MEAN_BITS, MEAN_BITS, EXTREME_BITS, EXTREME_BITS])
    rows = max(counts.rows, 1)
    middle = counts.joint_total / rows
    joint = np.stack([middle, np.maximum(counts.joint_squares / rows - np.square(middle), 0.0)])
    return _planes(_rounded(moments, bits[:, None])) + _planes(
        _rounded(joint, np.array([[MEAN_BITS], [MEAN_BITS]]))
    )


def _rounded(moments: Doubles, bits: NDArray[Any]) -> Doubles:
    """Round to so many bits after the leading one, within what float32 holds; infinities stay."""
    fraction, exponent = np.frexp(moments)
    scale = np.exp2(bits + 1)
    rounded = np.ldexp(np.rint(fraction * scale) / scale, exponent)
    held = np.clip(rounded, -FLOAT32_HELD, FLOAT32_HELD)
    return np.where(np.isfinite(moments), held, moments)


def _planes(moments: Doubles) -> bytes:
    bytes_ = moments.astype(">f4").reshape(-1).view(np.uint8).reshape(-1, 4)
    return bytes_.T[:PLANES].tobytes()


def _unplanes(data: bytes) -> Doubles:
    bytes_ = np.zeros((len(data) // PLANES, 4), np.uint8)
    bytes_[:, :PLANES] = np.frombuffer(data, np.uint8).reshape(PLANES, -1).T
    with np.errstate(invalid="ignore"):  # bytes may say anything; the caller refuses a NaN
        return bytes_.view(">f4").astype(np.float64).reshape(-1)


def _unpack(packed: _Features, bins: bytes, moments: bytes, baseline: Baseline) -> FeatureCounts:
    size = len(baseline)
    nulls = np.zeros(size, np.int64)
    for i, n in zip(packed.nulls[::2], packed.nulls[1::2], strict=False):
        if i >= size or n > packed.rows:
            raise ProtocolError(f"not a valid summary: {n} nulls in feature {i} of {size}")
        nulls[i] = n
    values = packed.rows - nulls
    counted = _unpack_bins(packed, bins, baseline, values)
    width = 4 * size + 2 * baseline.projections
    if len(moments) == 8 * width:
        sums = np.frombuffer(moments, "<f8")
        total, squares, low, high = sums[: 4 * size].reshape(4, size)
        joint_total, joint_squares = sums[4 * size :].reshape(2, -1)
    elif len(moments) == PLANES * width:
        mean, variance, low, high = _unplanes(moments[: 4 * PLANES * size]).reshape(4, size)
        middle, spread = _unplanes(moments[4 * PLANES * size :]).reshape(2, baseline.projections)
        with np.errstate(over="ignore", invalid="ignore"):
            total, squares = mean * values, (variance + np.square(mean)) * values
            low, high = low + baseline.mean, high + baseline.mean
            joint_total = middle * packed.rows
            joint_squares = (spread + np.square(middle)) * packed.rows
    else:
        raise ProtocolError(f"not a valid summary: {len(moments)} bytes of moments")
    sums = np.abs(np.concatenate([total, squares, joint_total, joint_squares]))
    if not (sums <= limits.NUMBER_MAX).all() or np.isnan([low, high]).any():
        raise ProtocolError("not a valid summary: a moment is not a number")
    return FeatureCounts(
        baseline, packed.rows, counted, nulls, total, squares, low, high, joint_total, joint_squares
    )


def _unpack_bins(packed: _Features, bins: bytes, baseline: Baseline, values: Counts) -> Counts:
    sent = _sent(baseline)
    zigzag = np.frombuffer(bins, np.uint8).astype(np.int64)
    escaped = zigzag == ESCAPE
    if len(zigzag) != sent.sum() or escaped.sum() != len(packed.escapes):
        raise ProtocolError(
            f"not a valid summary: {len(zigzag)} bins and {len(packed.escapes)} escapes, "
            f"the baseline has {sent.sum()} bins"
        )
    zigzag[escaped] = packed.escapes
    off = (zigzag >> 1) ^ -(zigzag & 1)
    counted = np.where(sent, _expected(baseline, values), 0)
    counted[sent] += off
    rest = values - counted.sum(axis=1)
    counted[np.arange(len(baseline)), baseline.sizes - 1] = rest
    if (counted < 0).any():
        raise ProtocolError("not a valid summary: a bin holds less than nothing")
    return counted
