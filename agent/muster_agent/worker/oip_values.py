"""Tensor data of the Open Inference Protocol V2, to arrays and from arrays. Pure."""

import struct
from collections.abc import Sequence
from math import prod
from typing import Any, Literal

import msgspec
import numpy as np
import orjson

from muster_agent.runtimes.base import NUMPY_TYPES, Array
from muster_protocol.wire.errors import ProtocolError
from muster_protocol.wire.limits import RANK_MAX
from muster_protocol.wire.tensors import FLOATS, Datatype

_LENGTH = struct.Struct("<I")
ELEMENTS_MAX = 1 << 28
PIECE_ELEMENTS = 1 << 14
"""Numbers that are written at once."""
RESERVED_BYTES = 128
"""Memory that must be free for each: its text, at most 25 bytes, and growing for it by doubling."""
RESERVED_ELEMENTS_MIN = 1 << 8


class OipError(ProtocolError):
    """A request that can't be answered; ``status`` is the HTTP status that says so."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class TensorEntry(msgspec.Struct):
    """A tensor in a message: its name, shape, type and, as JSON, its data."""

    name: str
    shape: list[int]
    datatype: Datatype
    data: list[Any] | None = None
    parameters: dict[str, Any] | None = None


class FloatEntry(TensorEntry):
    """One whose data are floats, and flat."""

    datatype: Literal["FP16", "FP32", "FP64", "BF16"]
    data: list[float] | None = None


def _elements(entry: TensorEntry) -> int:
    if len(entry.shape) > RANK_MAX or any(size < 0 for size in entry.shape):
        raise OipError(f"input {entry.name!r}: {entry.shape} is not a shape")
    count = prod(entry.shape)
    if count > ELEMENTS_MAX:
        raise OipError(f"input {entry.name!r}: {count} elements, the limit is {ELEMENTS_MAX}")
    return count


def from_binary(entry: TensorEntry, data: memoryview, size: int) -> Array:
    """An input's array from its bytes; raises OipError."""
    count = _elements(entry)
    if len(data) != size:
        raise OipError(f"input {entry.name!r}: {size} bytes announced, {len(data)} came")
    if entry.datatype == "BYTES":
        return _split_bytes(entry, data, count)
    dtype = NUMPY_TYPES[entry.datatype]
    wanted = count * (2 if entry.datatype == "BF16" else dtype.itemsize)
    if size != wanted:
        raise OipError(
            f"input {entry.name!r}: {entry.datatype} {entry.shape} is {wanted} bytes, {size} came"
        )
    if entry.datatype == "BF16":
        return _widened(data).reshape(entry.shape)
    array = np.frombuffer(data, dtype.newbyteorder("<"))
    if entry.datatype == "BOOL" and size and array.view(np.uint8).max() > 1:
        raise OipError(f"input {entry.name!r}: a BOOL is one byte, 0 or 1")
    return array.astype(dtype, copy=False).reshape(entry.shape)


def _widened(data: memoryview) -> Array:
    """BF16 as FP32: its bits are the upper half."""
    upper = np.frombuffer(data, "<u2").astype(np.uint32) << 16
    return upper.view(np.float32)


def _narrowed(array: Array) -> bytes:
    """FP32 as BF16, rounded to the nearest, ties to even; NaN stays NaN."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    upper = np.where(np.isnan(array), (bits >> 16) | 0x40, rounded)
    return upper.astype("<u2").tobytes()


def _split_bytes(entry: TensorEntry, data: memoryview, count: int) -> Array:
    items: list[bytes] = []
    offset = 0
    while offset + _LENGTH.size <= len(data) and len(items) <= count:
        (size,) = _LENGTH.unpack_from(data, offset)
        offset += _LENGTH.size
        if size > len(data) - offset:
            raise OipError(f"input {entry.name!r}: an element of {size} bytes runs past the end")
        items.append(bytes(data[offset : offset + size]))
        offset += size
    if offset != len(data) or len(items) != count:
        raise OipError(f"input {entry.name!r}: the data is not {count} elements of BYTES")
    return _objects(items).reshape(entry.shape)


def from_json(entry: TensorEntry) -> Array:
    """An input's array from its JSON data; raises OipError."""
    count = _elements(entry)
    if entry.data is None:
        raise OipError(f"input {entry.name!r} has no data")
    if isinstance(entry, FloatEntry):
        array = _flat_floats(entry, entry.data)
    elif entry.datatype in _READERS:
        array = _READERS[entry.datatype](entry, entry.data)
    elif entry.datatype in FLOATS:
        array = _floats(entry, entry.data)
    else:
        array = _integers(entry, entry.data)
    if array.shape == tuple(entry.shape):
        return array
    if array.ndim != 1 or array.size != count:
        raise OipError(
            f"input {entry.name!r}: shape {entry.shape} needs {count} elements, "
            f"the data has shape {list(array.shape)}"
        )
    return array.reshape(entry.shape)


def _flat_floats(entry: TensorEntry, data: list[float]) -> Array:
    numbers = np.fromiter(data, np.float64, len(data))
    with np.errstate(over="ignore"):
        made = numbers.astype(NUMPY_TYPES[entry.datatype])
    if entry.datatype != "FP64" and not np.isfinite(made).all():
        raise OipError(f"input {entry.name!r}: a number is out of range for {entry.datatype}")
    return made


def _floats(entry: TensorEntry, data: list[Any]) -> Array:
    try:
        array = np.array(data)
    except ValueError:
        raise OipError(f"input {entry.name!r}: rows of the data differ in length") from None
    if array.size == 0:
        return array.astype(NUMPY_TYPES[entry.datatype])
    missing = False
    if array.dtype.kind == "O":
        # Integers beyond 64 bits, or nulls, which are missing values.
        flat, shape = _flat(entry, data)
        missing = None in flat
        array = np.array([_float(entry, item) for item in flat]).reshape(shape)
    if array.dtype.kind not in "fiu":
        raise OipError(f"input {entry.name!r}: the data must be numbers for {entry.datatype}")
    with np.errstate(over="ignore"):
        made = array.astype(NUMPY_TYPES[entry.datatype])
    finite = np.isfinite(made) | (np.isnan(array) if missing else False)
    if entry.datatype != "FP64" and not finite.all():
        raise OipError(f"input {entry.name!r}: a number is out of range for {entry.datatype}")
    return made


def _float(entry: TensorEntry, item: object) -> float:
    if item is None:
        return float("nan")
    if type(item) not in {int, float}:
        raise OipError(f"input {entry.name!r}: the data must be numbers for {entry.datatype}")
    try:
        return float(item)  # type: ignore[arg-type]  # an int or a float by the line above
    except OverflowError:
        raise OipError(
            f"input {entry.name!r}: a number is out of range for {entry.datatype}"
        ) from None


def _integers(entry: TensorEntry, data: list[Any]) -> Array:
    flat, shape = _flat(entry, data)
    dtype = NUMPY_TYPES[entry.datatype]
    bounds = np.iinfo(dtype)
    if any(type(item) is not int for item in flat):
        raise OipError(f"input {entry.name!r}: the data must be integers for {entry.datatype}")
    if flat and (min(flat) < bounds.min or max(flat) > bounds.max):
        raise OipError(f"input {entry.name!r}: a number is out of range for {entry.datatype}")
    return np.array(flat, dtype).reshape(shape)


def _booleans(entry: TensorEntry, data: list[Any]) -> Array:
    flat, shape = _flat(entry, data)
    if any(type(item) is not bool for item in flat):
        raise OipError(f"input {entry.name!r}: the data must be true or false for BOOL")
    return np.array(flat, np.bool_).reshape(shape)


def _texts(entry: TensorEntry, data: list[Any]) -> Array:
    flat, shape = _flat(entry, data)
    if any(type(item) is not str for item in flat):
        raise OipError(f"input {entry.name!r}: the data must be strings for BYTES")
    return _objects([item.encode() for item in flat]).reshape(shape)


_READERS = {"BOOL": _booleans, "BYTES": _texts}


def _flat(entry: TensorEntry, data: list[Any]) -> tuple[list[Any], tuple[int, ...]]:
    """Elements of flat or nested lists, and their shape; rows must be equally long."""
    flat, shape = data, [len(data)]
    while flat and type(flat[0]) is list:
        size = len(flat[0])
        if len(shape) == RANK_MAX or any(type(row) is not list or len(row) != size for row in flat):
            raise OipError(f"input {entry.name!r}: rows of the data differ in length")
        shape.append(size)
        flat = [item for row in flat for item in row]
    return flat, tuple(shape)


def _objects(items: Sequence[bytes]) -> Array:
    array = np.empty(len(items), NUMPY_TYPES["BYTES"])
    array[:] = items
    return array


def to_json(array: Array) -> msgspec.Raw:
    """Numbers as flat JSON, each with the fewest digits that give it back; NaN and infinity: null.

    Raises MemoryError.
    """
    flat = array.ravel()
    if flat.size <= PIECE_ELEMENTS:
        return msgspec.Raw(_numbers(flat))
    starts = range(0, flat.size, PIECE_ELEMENTS)
    pieces = [_numbers(flat[start : start + PIECE_ELEMENTS])[1:-1] for start in starts]
    return msgspec.Raw(b"[%b]" % b",".join(pieces))


def _numbers(flat: Array) -> bytes:
    # Where it finds no memory, orjson ends the process: so there must be some, given back at once.
    np.empty(max(flat.size, RESERVED_ELEMENTS_MIN) * RESERVED_BYTES, np.uint8)
    return orjson.dumps(flat, option=orjson.OPT_SERIALIZE_NUMPY)


_numbers(np.zeros(1, np.float32))  # It looks for NumPy when it first meets it: now, not in service.


def to_binary(array: Array, datatype: Datatype) -> bytes:
    """An array's bytes, little-endian, as the datatype travels."""
    if datatype == "BF16":
        return _narrowed(array)
    if array.dtype.kind == "O":
        return b"".join(_LENGTH.pack(len(item)) + bytes(item) for item in array.ravel())
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
