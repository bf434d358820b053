"""Sparkplug B's payload: that part of its message definition which numbers and texts need. Pure.

Protocol buffers by hand, with the field numbers of the specification (3.0, section 6.4): small
enough to be read, and it keeps a library off the device. Negative whole numbers are two's
complement in the unsigned fields. What isn't known here is skipped, as protobuf has it.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from muster_protocol.wire.errors import MusterError

METRICS_MAX = 4096
VARINT_BYTES_MAX = 10
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
Value = int | float | bool | str | None


class PayloadError(MusterError):
    """Bytes that are no payload."""


class DataType(IntEnum):
    """Types of a metric, by their numbers."""

    INT8 = 1
    """Whole numbers of 8 bits, in ``int_value``, as the next two."""
    INT16 = 2
    """Of 16 bits."""
    INT32 = 3
    """Of 32 bits."""
    INT64 = 4
    """Of 64 bits, in ``long_value``."""
    UINT8 = 5
    """Without a sign, in ``int_value``, as the next two."""
    UINT16 = 6
    """Of 16 bits."""
    UINT32 = 7
    """Of 32 bits."""
    UINT64 = 8
    """Of 64 bits, in ``long_value``."""
    FLOAT = 9
    """Of 32 bits."""
    DOUBLE = 10
    """Of 64 bits."""
    BOOLEAN = 11
    """True or false."""
    STRING = 12
    """Text."""
    DATETIME = 13
    """Milliseconds since 1970, in ``long_value``."""
    TEXT = 14
    """Text, too."""


_SIGNED = {DataType.INT8: 32, DataType.INT16: 32, DataType.INT32: 32, DataType.INT64: 64}
_INT_FIELD = {DataType(number) for number in (1, 2, 3, 5, 6, 7)}
_LONG_FIELD = {DataType.INT64, DataType.UINT64, DataType.DATETIME}
_TEXTS = {DataType.STRING, DataType.TEXT}
GOOD, UNCERTAIN, BAD = 192, 500, 0
"""Values of the property ``Quality``: good, stale or doubtful, bad."""
QUALITY = "Quality"


@dataclass(frozen=True)
class Metric:
    """A value. Births carry name and alias, later data the alias alone."""

    name: str | None = None
    alias: int | None = None
    milliseconds: int | None = None
    """Its time; since 1970."""
    kind: DataType | None = None
    value: Value = None
    """None: null."""
    historical: bool = False
    quality: int | None = None


@dataclass(frozen=True)
class Payload:
    """What a message carries."""

    milliseconds: int | None = None
    metrics: tuple[Metric, ...] = ()
    seq: int | None = None
    """0 to 255; a death has none."""


def encode(payload: Payload) -> bytes:
    """A payload's bytes."""
    parts = [_number(1, payload.milliseconds)]
    parts += [_bytes(2, _metric(metric)) for metric in payload.metrics]
    parts.append(_number(3, payload.seq))
    return b"".join(parts)


def _metric(metric: Metric) -> bytes:
    parts = [
        b"" if metric.name is None else _bytes(1, metric.name.encode()),
        _number(2, metric.alias),
        _number(3, metric.milliseconds),
        _number(4, None if metric.kind is None else int(metric.kind)),
        _number(5, int(metric.historical) or None),
        _number(7, int(metric.value is None) or None),
    ]
    if metric.quality is not None:
        typed = _number(1, int(DataType.INT32)) + _number(3, metric.quality)
        parts.append(_bytes(9, _bytes(1, QUALITY.encode()) + _bytes(2, typed)))
    parts.append(_value(metric))
    return b"".join(parts)


def _value(metric: Metric) -> bytes:  # noqa: PLR0911 - one of each kind
    kind, value = metric.kind, metric.value
    if value is None:
        return b""
    if kind is DataType.BOOLEAN:
        return _number(14, int(bool(value)))
    if kind in _TEXTS:
        return _bytes(15, str(value).encode())
    assert not isinstance(value, str), "texts are of a type for texts"
    if kind is DataType.FLOAT:
        return _key(12, _FIXED32) + struct.pack("<f", value)
    if kind is DataType.DOUBLE:
        return _key(13, _FIXED64) + struct.pack("<d", value)
    if kind in _LONG_FIELD:
        return _number(11, int(value) % (1 << 64))
    return _number(10, int(value) % (1 << 32))


def _key(field: int, wire: int) -> bytes:
    return _varint(field << 3 | wire)


def _number(field: int, value: int | None) -> bytes:
    return b"" if value is None else _key(field, _VARINT) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _key(field, _BYTES) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    made.append(value)
    return bytes(made)


def decode(data: bytes) -> Payload:
    """A payload from its bytes; raises PayloadError."""
    milliseconds = seq = None
    metrics = []
    for field, value in _fields(data):
        if field == 2 and isinstance(value, bytes):
            metrics.append(_read_metric(value))
            if len(metrics) > METRICS_MAX:
                raise PayloadError(f"more than {METRICS_MAX} metrics")
        elif field == 1:
            milliseconds = _whole(value)
        elif field == 3:
            seq = _whole(value)
    return Payload(milliseconds, tuple(metrics), seq)


def _read_metric(data: bytes) -> Metric:
    found = dict(_fields(data))
    number = found.get(4)
    kind = None
    if isinstance(number, int) and number in DataType._value2member_map_:
        kind = DataType(number)
    return Metric(
        name=_text(found.get(1)),
        alias=_whole(found.get(2)),
        milliseconds=_whole(found.get(3)),
        kind=kind,
        value=None if found.get(7) else _read_value(found, kind),
        historical=bool(found.get(5)),
        quality=_quality(found.get(9)),
    )


def _read_value(found: dict[int, int | bytes], kind: DataType | None) -> Value:
    """The value in whichever field holds one; whole numbers take their sign from the type."""
    for field, form in ((12, "<f"), (13, "<d")):
        packed = found.get(field)
        if isinstance(packed, bytes) and len(packed) == struct.calcsize(form):
            return float(struct.unpack(form, packed)[0])
    if 14 in found:
        return bool(found[14])
    if 15 in found:
        return _text(found[15])
    number = _whole(found.get(10, found.get(11)))
    if number is None:
        return None
    return signed(number, kind)


def signed(number: int, kind: DataType | None) -> int:
    """A whole number as its type means it."""
    bits = _SIGNED.get(kind, 0) if kind is not None else 0
    if bits == 64 or (bits and number < 1 << 32):
        half = 1 << (bits - 1)
        return (number + half) % (1 << bits) - half
    return number


def _quality(data: int | bytes | None) -> int | None:
    if not isinstance(data, bytes):
        return None
    keys, values = list[str | None](), list[int | None]()
    for field, value in _fields(data):
        if field == 1:
            keys.append(_text(value))
        elif field == 2 and isinstance(value, bytes):
            inner = dict(_fields(value))
            values.append(_whole(inner.get(3, inner.get(4))))
    return next((v for k, v in zip(keys, values, strict=False) if k == QUALITY), None)


def _text(value: int | bytes | None) -> str | None:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else None


def _whole(value: int | bytes | None) -> int | None:
    return value if isinstance(value, int) else None


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Field numbers and values; fixed ones as bytes."""
    place = 0
    while place < len(data):
        key, place = _read_varint(data, place)
        field, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, place = _read_varint(data, place)
            yield field, value
            continue
        if wire == _BYTES:
            length, place = _read_varint(data, place)
        elif wire in {_FIXED32, _FIXED64}:
            length = 4 if wire == _FIXED32 else 8
        else:
            raise PayloadError(f"field {field} has wire type {wire}")
        if place + length > len(data):
            raise PayloadError(f"field {field} ends beyond the payload")
        yield field, data[place : place + length]
        place += length


def _read_varint(data: bytes, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 7 * VARINT_BYTES_MAX, 7):
        if place >= len(data):
            break
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise PayloadError("a number does not end")
