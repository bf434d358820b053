"""The Open Inference Protocol V2 as pure functions: request bytes to arrays, arrays to bytes.

Covers JSON tensors (flat or nested, row-major) and the binary tensor data extension, in which
the JSON's length comes in the ``Inference-Header-Content-Length`` header and tensor bytes follow
it, little-endian. Source: https://github.com/kserve/open-inference-protocol and the extension's
description in Triton's protocol documents. Pure.
"""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from muster_agent.runtimes.base import NAMES, Array
from muster_agent.worker.oip_values import (
    FloatEntry,
    OipError,
    TensorEntry,
    from_binary,
    from_json,
    to_binary,
    to_json,
)
from muster_protocol.wire.limits import TENSORS_MAX
from muster_protocol.wire.tensors import Datatype

_AS_THEY_ARE: Mapping[str, Datatype] = MappingProxyType({})


class _Wanted(msgspec.Struct):
    name: str
    parameters: dict[str, Any] | None = None


class _Request(msgspec.Struct):
    inputs: list[TensorEntry]
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
    classifications: Mapping[str, int] = MappingProxyType({})
    """How many of the best classes are wanted instead of an output's scores."""

    def is_binary(self, name: str) -> bool:
        """Whether the client wants this output in the binary extension."""
        return name in self.binary_outputs or (self.outputs is None and self.binary_default)


class _FloatRequest(_Request):
    inputs: list[FloatEntry]  # type: ignore[assignment]  # read only


_decoder = msgspec.json.Decoder(_Request)
_float_decoder = msgspec.json.Decoder(_FloatRequest)
_encoder = msgspec.json.Encoder()


def decode_request(
    body: bytes | memoryview, header_bytes: int | None = None, *, floats: bool = False
) -> InferRequest:
    """Parse an inference request; raises OipError saying which tensor is at fault.

    ``header_bytes`` is the value of ``Inference-Header-Content-Length``, None for plain JSON.
    ``floats``: the model takes nothing else, so flat JSON is tried as such first, which is quicker.
    """
    view = memoryview(body)
    split = len(view) if header_bytes is None else header_bytes
    if not 0 <= split <= len(view):
        raise OipError(f"Inference-Header-Content-Length {split} exceeds the {len(view)} byte body")
    request = _parse(view[:split], floats=floats)
    inputs: dict[str, Array] = {}
    offset = split
    for entry in request.inputs:
        if entry.name in inputs:
            raise OipError(f"input {entry.name!r} is given twice")
        size = _binary_size(entry, header_bytes)
        if size is None:
            inputs[entry.name] = from_json(entry)
        else:
            inputs[entry.name] = from_binary(entry, view[offset : offset + size], size)
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
        classifications={
            wanted.name: _classification(wanted)
            for wanted in request.outputs
            if wanted.parameters and "classification" in wanted.parameters
        },
    )


def _classification(wanted: _Wanted) -> int:
    count = (wanted.parameters or {})["classification"]
    if type(count) is not int:
        raise OipError(f"output {wanted.name!r}: classification {count!r} is not a number")
    return count


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
        entries = msgspec.convert(raw["outputs"], list[TensorEntry])
    except (msgspec.DecodeError, msgspec.ValidationError, KeyError, TypeError) as error:
        raise OipError(f"not an inference response: {error}") from None
    outputs: dict[str, Array] = {}
    offset = len(body) if header_bytes is None else header_bytes
    view = memoryview(body)
    for entry in entries:
        size = _binary_size(entry, header_bytes)
        if size is None:
            outputs[entry.name] = from_json(entry)
        else:
            outputs[entry.name] = from_binary(entry, view[offset : offset + size], size)
            offset += size
    return outputs


def _parse(head: memoryview, *, floats: bool) -> _Request:
    request: _Request
    try:
        request = _decode_floats(head) if floats else _decoder.decode(head)
    except msgspec.DecodeError as error:
        request = _parse_with_nan(bytes(head), error)
    except (UnicodeDecodeError, RecursionError) as error:
        raise OipError(f"not an inference request: {error}") from None
    if not request.inputs or len(request.inputs) > TENSORS_MAX:
        raise OipError(f"{len(request.inputs)} inputs; allowed are 1 to {TENSORS_MAX}")
    return request


def _decode_floats(head: memoryview) -> _Request:
    try:
        return _float_decoder.decode(head)
    except msgspec.ValidationError:
        return _decoder.decode(head)  # nested, with null, or of another type


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


def _binary_size(entry: TensorEntry, header_bytes: int | None) -> int | None:
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
            data.append(to_binary(array, entry["datatype"]))
            entry["parameters"] = {"binary_data_size": len(data[-1])}
        elif array.dtype.kind == "O":
            entry["data"] = [bytes(item).decode("utf-8", "replace") for item in array.ravel()]
        else:
            entry["data"] = to_json(array)
        entries.append(entry)
    return entries, data


def _joined(head: dict[str, Any], data: list[bytes], *, binary: bool) -> tuple[bytes, int | None]:
    # Where memory ends in the midst of it, ``encode`` ends the process (msgspec 0.22).
    buffer = bytearray()
    _encoder.encode_into(head, buffer)
    encoded = bytes(buffer)
    if not binary:
        return encoded, None
    return b"".join([encoded, *data]), len(encoded)
