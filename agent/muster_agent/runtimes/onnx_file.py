"""Which files an ONNX model wants to read besides itself, without trusting it. Pure.

A tensor may say that its data lie in another file, and runtimes have followed such names out of
the bundle. So they are looked up before a runtime sees the model, by a walk over the wire format
that knows just the messages in which a tensor can be. Sources: ``onnx/onnx.proto``; Protocol
Buffers' encoding guide. Where a reader of the format may choose, this one assumes the worst:
what is given twice counts twice.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from muster_agent.runtimes.base import ModelError

FIELDS_MAX = 20_000_000
"""Beyond what any model has besides numbers; a walk of so many takes a quarter of a minute."""
DEPTH_MAX = 100
"""Messages within messages, as the reference implementation bounds them."""
NAME_BYTES_MAX = 4096

_MESSAGES: dict[str, dict[int, str]] = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Graph": {1: "Node", 5: "Tensor", 15: "Sparse"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "Sparse", 23: "Sparse"},
    "Sparse": {1: "Tensor", 2: "Tensor"},
    "Training": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Tensor": {13: "External"},
}
"""Message → field → the message in it; every path to a tensor's external data."""
_NUMBERS = re.compile(
    rb"(?:[\x08\x10\x18\x20\x28\x30\x38\x40\x48\x50\x58\x60\x68\x70\x78][\x80-\xff]{0,9}[\x00-\x7f]"
    rb"|[\x0d\x15\x1d\x25\x2d\x35\x3d\x45\x4d\x55\x5d\x65\x6d\x75\x7d][\x00-\xff]{4}"
    rb"|[\x09\x11\x19\x21\x29\x31\x39\x41\x49\x51\x59\x61\x69\x71\x79][\x00-\xff]{8})+"
)
"""A run of numbers in the first fifteen fields: attributes of trees have millions."""
_FLATBUFFERS_MARK = b"ORTM"
Bytes = bytes | memoryview


class OnnxFileError(ModelError):
    """No ONNX model, or one that is not read here."""


class _Part(NamedTuple):
    message: str
    at: int
    end: int
    depth: int


def external_files(data: Bytes) -> frozenset[str]:
    """The names, as the model gives them, of files that its tensors lie in; raises OnnxFileError.

    They may be anything: absolute, with dots, names of no file at all.
    """
    if data[4:8] == _FLATBUFFERS_MARK:
        raise OnnxFileError("a model in ONNX Runtime's own format; export it as ONNX")
    names: set[str] = set()
    left = FIELDS_MAX
    parts = [_Part("Model", 0, len(data), 0)]
    while parts:
        part = parts.pop()
        if part.message == "External":
            names |= _location(data, part)
            continue
        if part.depth > DEPTH_MAX:
            raise OnnxFileError(f"an ONNX model with messages nested deeper than {DEPTH_MAX}")
        inner = _MESSAGES[part.message]
        for field, at, end in _fields(data, part):
            left -= 1
            if left < 0:
                raise OnnxFileError(f"an ONNX model with more than {FIELDS_MAX} fields")
            if field in inner:
                parts.append(_Part(inner[field], at, end, part.depth + 1))
    return frozenset(names)


def _location(data: Bytes, part: _Part) -> set[str]:
    """The value of a key-value pair whose key is, at any place, ``location``."""
    pairs = [
        (field, bytes(data[at : min(end, at + NAME_BYTES_MAX)]))
        for field, at, end in _fields(data, part)
    ]
    if (1, b"location") not in pairs:
        return set()
    return {value.decode("utf-8", "replace") for field, value in pairs if field == 2}


def _fields(data: Bytes, part: _Part) -> Iterator[tuple[int, int, int]]:
    """(Field, beginning, end) of what has a length; numbers are passed over."""
    at = part.at
    while at < part.end:
        run = _NUMBERS.match(data, at, part.end)
        if run is not None:
            at = run.end()
            continue
        tag, at = _varint(data, at, part.end)
        field, kind = tag >> 3, tag & 7
        if field == 0:
            raise OnnxFileError("not an ONNX model")
        if kind == 2:
            size, at = _varint(data, at, part.end)
            if size > part.end - at:
                raise OnnxFileError("not an ONNX model, or not a whole one")
            yield field, at, at + size
            at += size
        elif kind == 0:
            _, at = _varint(data, at, part.end)
        elif kind in {1, 5}:
            at += 8 if kind == 1 else 4
        else:
            raise OnnxFileError("not an ONNX model")
    if at > part.end:
        raise OnnxFileError("not an ONNX model, or not a whole one")


def _varint(data: Bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
        shift += 7
    raise OnnxFileError("not an ONNX model, or not a whole one")
