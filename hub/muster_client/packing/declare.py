"""A model's tensors as its manifest declares them. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from muster_client.failures import WrongUsage
from muster_client.packing.advice import Notes
from muster_client.packing.findings import Described
from muster_protocol.wire.tensors import Datatype, Tensor

NUMPY_NAMES: dict[Datatype, str] = {
    "BOOL": "bool", "BYTES": "object",
    "FP16": "float16", "FP32": "float32", "FP64": "float64",
    "INT8": "int8", "INT16": "int16", "INT32": "int32", "INT64": "int64",
    "UINT8": "uint8", "UINT16": "uint16", "UINT32": "uint32", "UINT64": "uint64",
}  # fmt: skip
DATATYPES = {
    "text" if name == "object" else name: datatype for datatype, name in NUMPY_NAMES.items()
}
"""By the probe's words for a tensor's type."""


def inputs(
    described: Sequence[Described], fixed: Mapping[str, tuple[int, ...]], notes: Notes
) -> tuple[Tensor, ...]:
    """The inputs; ``fixed`` are shapes that a person gave. Raises WrongUsage for what can't be."""
    for name in fixed:
        if name not in {each.name for each in described}:
            known = ", ".join(each.name for each in described)
            raise WrongUsage(f"--shape {name}: the model has no such input; it has {known}")
    return tuple(_input(each, fixed.get(each.name), notes) for each in described)


def _input(each: Described, fixed: tuple[int, ...] | None, notes: Notes) -> Tensor:
    datatype = DATATYPES.get(each.kind)
    if datatype is None:
        raise WrongUsage(
            f"input {each.name!r} is a {each.kind}, which can't be sent to a device: export the "
            "model with tensors as its inputs"
        )
    shape = _fixed(each, fixed) if fixed is not None else each.shape
    if not shape:
        raise WrongUsage(
            f"input {each.name!r} has no batch dimension: give it one in the export, or make it "
            "a constant of the model"
        )
    if shape[0] not in {None, 1}:
        raise WrongUsage(
            f"input {each.name!r} takes exactly {shape[0]} rows at once: export the model with a "
            "free batch dimension, or one of 1"
        )
    free = [place for place, size in enumerate(shape) if size is None and place]
    if free:
        notes.add(
            "free_shape",
            f"Input {each.name!r} has dimensions of any size ({_words(each)}), so it isn't "
            f"recorded and its drift isn't watched: fix them with --shape {each.name}="
            + ",".join("1" if size is None else str(size) for size in shape),
        )
    return Tensor(each.name, datatype, (-1, *(-1 if size is None else size for size in shape[1:])))


def _fixed(each: Described, fixed: tuple[int, ...]) -> tuple[int | None, ...]:
    own = each.shape
    if own and (
        len(own) != len(fixed)
        or any(b not in {None, a} for a, b in zip(fixed[1:], own[1:], strict=True))
    ):
        raise WrongUsage(f"--shape {each.name}={_listed(fixed)}: the model has {_words(each)}")
    return (own[0] if own else None, *fixed[1:])


def _listed(shape: Sequence[int]) -> str:
    return ",".join(map(str, shape))


def _words(each: Described) -> str:
    """The shape as the model has it, with its names of dimensions."""
    dims = each.dims or ("",) * len(each.shape)
    shown = (
        str(size) if size is not None else name or "?"
        for size, name in zip(each.shape, dims, strict=True)
    )
    return f"[{', '.join(shown)}]"


def filled(tensor: Tensor, array: NDArray[Any]) -> Tensor:
    """The tensor with the dimensions of its data in place of free ones."""
    if array.ndim != len(tensor.shape):
        raise WrongUsage(
            f"input {tensor.name!r} has {len(tensor.shape)} dimensions, its data {array.ndim}"
        )
    sizes = zip(tensor.shape[1:], array.shape[1:], strict=True)
    return replace(tensor, shape=(-1, *(got if want == -1 else want for want, got in sizes)))


def outputs(
    described: Sequence[Described],
    answers: Mapping[str, NDArray[Any]],
    rows: int,
    notes: Notes,
    *,
    steady: bool,
) -> tuple[Tensor, ...]:
    """The outputs that a manifest can declare, as the answers to ``rows`` rows show them.

    ``steady``: inputs are of fixed sizes, so what was the same in all answers stays so. Raises
    WrongUsage when none is left.
    """
    declared = []
    for each in described:
        tensor = _output(each, answers.get(each.name), rows, notes, steady=steady)
        if tensor is not None:
            declared.append(tensor)
    if not declared:
        raise WrongUsage(
            "no output of the model can be declared: " + "; ".join(map(str, notes.found))
        )
    return tuple(declared)


def _output(
    each: Described, answer: NDArray[Any] | None, rows: int, notes: Notes, *, steady: bool
) -> Tensor | None:
    datatype = DATATYPES.get(each.kind)
    if datatype is None or answer is None:
        notes.add(
            "no_tensor",
            f"Output {each.name!r} is a {each.kind} and is left out: clients get tensors only. "
            "Export the model so that it ends with a tensor (scikit-learn: convert with "
            "options={'zipmap': False}).",
        )
        return None
    own = answer.dtype.kind == "O" and answer.size > 0 and isinstance(answer[0], np.ndarray)
    if own or answer.ndim == 0 or len(answer) != rows:
        notes.add(
            "varying_output",
            f"Output {each.name!r} gives a different number of rows for each input (as a "
            "detector does after non-maximum suppression) and is left out: export the model "
            "with a fixed number of detections, padded, to serve it.",
        )
        return None
    shape = [-1, *answer.shape[1:]]
    for place, size in enumerate(each.shape[1:], 1):
        if size is None and not steady and place < len(shape):
            shape[place] = -1
    return Tensor(each.name, datatype, tuple(shape))


def typed_anew(described: Sequence[Described], declared: Sequence[Tensor]) -> dict[str, Tensor]:
    """Outputs whose model says nothing of their dimensions, and what they are."""
    ranks = {each.name: len(each.shape) for each in described}
    return {tensor.name: tensor for tensor in declared if ranks[tensor.name] != len(tensor.shape)}
