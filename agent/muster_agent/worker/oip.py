"""The Open Inference Protocol V2 as pure functions: request bytes to arrays, arrays to bytes.

Covers JSON tensors (flat or nested, row-major) and the binary tensor data extension, in which
the JSON's length comes in the ``Inference-Header-Content-Length`` header and tensor bytes follow
it, little-endian. Source: https://github.com/kserve/open-inference-protocol and the extension's
description in Triton's protocol documents. Pure.
"""

import json
import struct
from collections.abc import Mapping, Sequence
from math import prod
from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np

from muster_agent.runtimes.base import NAMES, NUMPY_TYPES, Array
from muster_protocol.wire.errors import ProtocolError
from muster_protocol.wire.limits import RANK_MAX, TENSORS_MAX
from muster_protocol.wire.tensors import FLOATS, Datatype

_LENGTH = struct.Struct("<I")
ELEMENTS_MAX = 1 << 24
_AS_THEY_ARE: Mapping[str, Datatype] = MappingProxyType({})


class OipError(ProtocolError):
    """A request that can't be answered; ``status`` is the HTTP status that says so."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class _Wanted(msgspec.Struct):
    name: str
    parameters: dict[str, Any] | None = None


class _Input(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: Datatype
    data: list[Any] | None = None
    parameters: dict[str, Any] | None = None


class _Request(msgspec.Struct):
    inputs: list[_Input]
    id: str = ""
    parameters: dict[str, Any] | None = None
    outputs: list[_Wanted] | None = None


class InferRequest(msgspec.Struct, frozen=True):
    """A parsed request. ``outputs`` names the wanted outputs, None for all of them."""

    id: str
    inputs: dict[str, Array]
    outputs: tuple[str, ...] | None = None
    binary_outputs: frozenset[str] = frozenset()
    binary_default: bool = False
    """Whether outputs that aren't named come as binary data."""

    def is_binary(self, name: str) -> bool:
        """Whether the client wants this output in the binary extension."""
        return name in self.binary_outputs or (self.outputs is None and self.binary_default)


_decoder = msgspec.json.Decoder(_Request)
_encoder = msgspec.json.Encoder()


def decode_request(body: bytes | memoryview, header_bytes: int | None = None) -> InferRequest:
    """Parse an inference request; raises OipError saying which tensor is at fault.

    ``header_bytes`` is the value of ``Inference-Header-Content-Length``, None for plain JSON.
    """
    view = memoryview(body)
    split = len(view) if header_bytes is None else header_bytes
    if not 0 <= split <= len(view):
        raise OipError(f"Inference-Header-Content-Length {split} exceeds the {len(view)} byte body")
    request = _parse(view[:split])
    inputs: dict[str, Array] = {}
    offset = split
    for entry in request.inputs:
        if entry.name in inputs:
            raise OipError(f"input {entry.name!r} is given twice")
        size = _binary_size(entry, header_bytes)
        if size is None:
            inputs[entry.name] = _from_json(entry)
        else:
            inputs[entry.name] = _from_binary(entry, view[offset : offset + size], size)
            offset += size
    if offset != len(view):
        raise OipError(f"{len(view) - offset} bytes of tensor data belong to no input")
    default = bool((request.parameters or {}).get("binary_data_output", False))
    if not request.outputs:
        return InferRequest(request.id, inputs, binary_default=default)
    return InferRequest(
        request.id,
        inputs,
        tuple(wanted.name for wanted in request.outputs),
        frozenset(
            wanted.name
            for wanted in request.outputs
            if (wanted.parameters or {}).get("binary_data", default) is True
        ),
    )


def encode_request(
    inputs: Mapping[str, Array],
    *,
    identifier: str = "",
    binary: bool = False,
    binary_outputs: bool = False,
    datatypes: Mapping[str, Datatype] = _AS_THEY_ARE,
) -> tuple[bytes, int | None]:
    """A request's body and header length (None for plain JSON); what a client sends."""
    head: dict[str, Any] = {"id": identifier} if identifier else {}
    if binary_outputs:
        head["parameters"] = {"binary_data_output": True}
    head["inputs"], data = _tensors(inputs, set(inputs) if binary else set(), datatypes)
    return _joined(head, data, binary=binary)


def encode_response(
    outputs: Mapping[str, Array],
    *,
    model: str,
    version: str,
    identifier: str = "",
    parameters: Mapping[str, str] | None = None,
    binary: frozenset[str] | set[str] = frozenset(),
    datatypes: Mapping[str, Datatype] = _AS_THEY_ARE,
) -> tuple[bytes, int | None]:
    """A response's body and header length (None for plain JSON).

    ``datatypes`` are those that arrays don't show: BF16, which is held in FP32. JSON has no NaN
    or infinity: they become null. Binary data keeps them.
    """
    head: dict[str, Any] = {"model_name": model, "model_version": version}
    if identifier:
        head["id"] = identifier
    if parameters:
        head["parameters"] = parameters
    head["outputs"], data = _tensors(outputs, binary, datatypes)
    return _joined(head, data, binary=bool(binary))


def decode_response(body: bytes, header_bytes: int | None = None) -> dict[str, Array]:
    """Output tensors of a response, by name; what a client reads. Raises OipError."""
    try:
        raw = msgspec.json.decode(body[:header_bytes])
        entries = msgspec.convert(raw["outputs"], list[_Input])
    except (msgspec.DecodeError, msgspec.ValidationError, KeyError, TypeError) as error:
        raise OipError(f"not an inference response: {error}") from None
    outputs: dict[str, Array] = {}
    offset = len(body) if header_bytes is None else header_bytes
    view = memoryview(body)
    for entry in entries:
        size = _binary_size(entry, header_bytes)
        if size is None:
            outputs[entry.name] = _from_json(entry)
        else:
            outputs[entry.name] = _from_binary(entry, view[offset : offset + size], size)
            offset += size
    return outputs


def _parse(head: memoryview) -> _Request:
    try:
        request = _decoder.decode(head)
    except msgspec.DecodeError as error:
        request = _parse_with_nan(bytes(head), error)
    except (UnicodeDecodeError, RecursionError) as error:
        raise OipError(f"not an inference request: {error}") from None
    if not request.inputs or len(request.inputs) > TENSORS_MAX:
        raise OipError(f"{len(request.inputs)} inputs; allowed are 1 to {TENSORS_MAX}")
    return request


def _parse_with_nan(head: bytes, error: msgspec.DecodeError) -> _Request:
    """JSON knows no NaN, but some writers do (Python's, for one): a missing value, as null is."""
    refused = OipError(f"not an inference request: {error}")
    if b"NaN" not in head:
        raise refused

    def constant(name: str) -> None:
        if name != "NaN":
            raise refused

    try:
        return msgspec.convert(json.loads(head, parse_constant=constant), _Request)
    except (ValueError, RecursionError, msgspec.ValidationError):
        raise refused from None


def _elements(entry: _Input) -> int:
    if len(entry.shape) > RANK_MAX or any(size < 0 for size in entry.shape):
        raise OipError(f"input {entry.name!r}: {entry.shape} is not a shape")
    count = prod(entry.shape)
    if count > ELEMENTS_MAX:
        raise OipError(f"input {entry.name!r}: {count} elements, the limit is {ELEMENTS_MAX}")
    return count


def _binary_size(entry: _Input, header_bytes: int | None) -> int | None:
    size = (entry.parameters or {}).get("binary_data_size")
    if size is None:
        return None
    if header_bytes is None:
        raise OipError(
            f"input {entry.name!r} has binary_data_size, but the request has no "
            "Inference-Header-Content-Length header"
        )
    if type(size) is not int or size < 0:
        raise OipError(f"input {entry.name!r}: binary_data_size {size!r} is not a size")
    if entry.data is not None:
        raise OipError(f"input {entry.name!r} has both data and binary_data_size")
    return size


def _from_binary(entry: _Input, data: memoryview, size: int) -> Array:
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


def _split_bytes(entry: _Input, data: memoryview, count: int) -> Array:
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


def _from_json(entry: _Input) -> Array:
    count = _elements(entry)
    if entry.data is None:
        raise OipError(f"input {entry.name!r} has no data")
    if entry.datatype in _READERS:
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


def _floats(entry: _Input, data: list[Any]) -> Array:
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


def _float(entry: _Input, item: object) -> float:
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


def _integers(entry: _Input, data: list[Any]) -> Array:
    flat, shape = _flat(entry, data)
    dtype = NUMPY_TYPES[entry.datatype]
    bounds = np.iinfo(dtype)
    if any(type(item) is not int for item in flat):
        raise OipError(f"input {entry.name!r}: the data must be integers for {entry.datatype}")
    if flat and (min(flat) < bounds.min or max(flat) > bounds.max):
        raise OipError(f"input {entry.name!r}: a number is out of range for {entry.datatype}")
    return np.array(flat, dtype).reshape(shape)


def _booleans(entry: _Input, data: list[Any]) -> Array:
    flat, shape = _flat(entry, data)
    if any(type(item) is not bool for item in flat):
        raise OipError(f"input {entry.name!r}: the data must be true or false for BOOL")
    return np.array(flat, np.bool_).reshape(shape)


def _texts(entry: _Input, data: list[Any]) -> Array:
    flat, shape = _flat(entry, data)
    if any(type(item) is not str for item in flat):
        raise OipError(f"input {entry.name!r}: the data must be strings for BYTES")
    return _objects([item.encode() for item in flat]).reshape(shape)


_READERS = {"BOOL": _booleans, "BYTES": _texts}


def _flat(entry: _Input, data: list[Any]) -> tuple[list[Any], tuple[int, ...]]:
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


def _tensors(
    arrays: Mapping[str, Array],
    binary: frozenset[str] | set[str],
    datatypes: Mapping[str, Datatype],
) -> tuple[list[dict[str, Any]], list[bytes]]:
    entries: list[dict[str, Any]] = []
    data: list[bytes] = []
    for name, array in arrays.items():
        entry: dict[str, Any] = {
            "name": name,
            "shape": array.shape,
            "datatype": datatypes.get(name) or NAMES[array.dtype],
        }
        if name in binary:
            data.append(_binary(array, entry["datatype"]))
            entry["parameters"] = {"binary_data_size": len(data[-1])}
        elif array.dtype.kind == "O":
            entry["data"] = [bytes(item).decode("utf-8", "replace") for item in array.ravel()]
        else:
            entry["data"] = array.ravel().tolist()
        entries.append(entry)
    return entries, data


def _binary(array: Array, datatype: Datatype) -> bytes:
    if datatype == "BF16":
        return _narrowed(array)
    if array.dtype.kind == "O":
        return b"".join(_LENGTH.pack(len(item)) + bytes(item) for item in array.ravel())
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _joined(head: dict[str, Any], data: list[bytes], *, binary: bool) -> tuple[bytes, int | None]:
    encoded = _encoder.encode(head)
    if not binary:
        return encoded, None
    return b"".join([encoded, *data]), len(encoded)
