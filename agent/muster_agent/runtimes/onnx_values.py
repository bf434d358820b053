"""What ONNX Runtime gives that is no tensor, as tensors: sequences, maps, and text. Pure."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from muster_agent.runtimes.base import NUMPY_TYPES, Array, ModelError, UnfitInputError
from muster_protocol.wire.tensors import Datatype, Tensor

_DATATYPES: dict[str, Datatype] = {
    "bool": "BOOL", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64",
    "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64", "float16": "FP16",
    "float": "FP32", "double": "FP64", "string": "BYTES",
}  # fmt: skip
"""ONNX Runtime's names of element types."""
_TENSOR = r"tensor\((\w+)\)"
_MAP = rf"map\((?:int64|string),{_TENSOR}\)"

Convert = Callable[[Any], Array]


class Output(NamedTuple):
    """An output as it is served, and how it is made from what the runtime gives; None: as it is."""

    tensor: Tensor
    convert: Convert | None


def tensor_of(name: str, kind: str, shape: Sequence[Any]) -> Tensor:
    """A tensor of a model; raises ModelError for what is none."""
    datatype = _matched(_TENSOR, kind)
    if datatype is None:
        raise ModelError(f"tensor {name!r} has type {kind}, which can't be served")
    return Tensor(name, datatype, tuple(size if isinstance(size, int) else -1 for size in shape))


def output_of(name: str, kind: str, shape: Sequence[Any]) -> Output | None:
    """An output of a model, or None where it can't be served."""
    if _matched(_TENSOR, kind) is not None:
        tensor = tensor_of(name, kind, shape)
        return Output(tensor, encoded if tensor.datatype == "BYTES" else None)
    datatype = _matched(rf"seq\({_MAP}\)", kind)
    if datatype is not None:
        return Output(Tensor(name, datatype, (-1, -1)), partial(_rows, name, datatype))
    datatype = _matched(_MAP, kind)
    if datatype is not None:
        return Output(Tensor(name, datatype, (-1,)), partial(_row, name, datatype))
    datatype = _matched(rf"seq\({_TENSOR}\)", kind)
    if datatype is not None:
        # Its elements' shape is stated nowhere; no shape agrees with any.
        return Output(Tensor(name, datatype, ()), partial(_stacked, name, datatype))
    return None


def _matched(pattern: str, kind: str) -> Datatype | None:
    match = re.fullmatch(pattern, kind)
    return _DATATYPES.get(match[1]) if match is not None else None


def _rows(name: str, datatype: Datatype, maps: Sequence[Mapping[Any, Any]]) -> Array:
    """Maps with the same keys as rows, in the order of the keys."""
    keys = sorted(maps[0]) if maps else []
    if any(len(each) != len(keys) or each.keys() != set(keys) for each in maps):
        raise ModelError(f"output {name!r}: its maps have different keys, so they make no tensor")
    made = np.empty((len(maps), len(keys)), NUMPY_TYPES[datatype])
    for row, each in enumerate(maps):
        made[row] = [each[key] for key in keys]
    return encoded(made) if datatype == "BYTES" else made


def _row(name: str, datatype: Datatype, single: Mapping[Any, Any]) -> Array:
    made: Array = _rows(name, datatype, [single])[0]
    return made


def _stacked(name: str, datatype: Datatype, arrays: Sequence[Any]) -> Array:
    if not arrays:
        return np.empty((0,), NUMPY_TYPES[datatype])
    try:
        made = np.stack([np.asarray(each) for each in arrays])
    except ValueError:
        raise ModelError(
            f"output {name!r}: its tensors have different shapes, so they make no single one"
        ) from None
    return encoded(made) if datatype == "BYTES" else made


def decoded(name: str, array: Array) -> Array:
    """Text for the runtime from bytes; raises UnfitInputError."""
    try:
        texts = [bytes(item).decode() for item in array.ravel()]
    except UnicodeDecodeError:
        raise UnfitInputError(f"input {name!r} must be text in UTF-8") from None
    return np.array(texts, NUMPY_TYPES["BYTES"]).reshape(array.shape)


def encoded(array: Array) -> Array:
    """Bytes from the runtime's text."""
    items = [str(item).encode() for item in array.ravel()]
    made = np.empty(len(items), NUMPY_TYPES["BYTES"])
    made[:] = items
    return made.reshape(array.shape)
