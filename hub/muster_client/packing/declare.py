"""A model's tensors as its manifest declares them. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Hints:
    """What a person says of inputs."""

    shapes: Mapping[str, tuple[int, ...]]
    """Sizes of those that the model leaves open."""
    axes: Mapping[str, int | None]
    """Where a batch lies; None: nowhere."""


def inputs(
    described: Sequence[Described], answers: Sequence[Described], hints: Hints, notes: Notes
) -> tuple[Tensor, ...]:
    """The inputs, each with its batch axis. Raises WrongUsage for what can't be.

    The batch is the first dimension where that is open or 1, or of a fixed size that all inputs
    and one of the ``answers`` share; else the dimension that is called as the batch of the first
    input, or that is open; else there is none.
    """
    for name in (*hints.shapes, *hints.axes):
        if name not in {each.name for each in described}:
            known = ", ".join(each.name for each in described)
            raise WrongUsage(f"input {name!r}: the model has no such input; it has {known}")
    symbol = next(
        (each.dims[0] for each in described if each.shape[:1] == (None,) and each.dims), ""
    )
    firsts = {each.shape[0] for each in described if each.shape}
    shared = len(firsts) == 1 and firsts <= {each.shape[0] for each in answers if each.shape}
    return tuple(_input(each, hints, symbol, notes, shared=shared) for each in described)


def _input(each: Described, hints: Hints, symbol: str, notes: Notes, *, shared: bool) -> Tensor:
    datatype = DATATYPES.get(each.kind)
    if datatype is None:
        raise WrongUsage(
            f"input {each.name!r} is a {each.kind}, which can't be sent to a device: export the "
            "model with tensors as its inputs"
        )
    fixed = hints.shapes.get(each.name)
    axis = hints.axes.get(each.name, _axis(each, symbol, shared=shared))
    if axis is not None and axis >= len(each.shape):
        raise WrongUsage(f"--batch-axis {each.name}={axis}: the model has {_words(each)}")
    shape = each.shape if fixed is None else _fixed(each, fixed, axis)
    sizes = [-1 if size is None else size for size in shape]
    if axis is not None and sizes[axis] == 1:
        sizes[axis] = -1
    if any(size == -1 for place, size in enumerate(sizes) if place != axis):
        given = ",".join("1" if size == -1 else str(size) for size in sizes)
        notes.add(
            "free_shape",
            f"Input {each.name!r} has dimensions of any size ({_words(each)}), so it isn't "
            f"recorded and its drift isn't watched: fix them with --shape {each.name}={given}.",
        )
    tensor = Tensor(each.name, datatype, tuple(sizes))
    return tensor if tensor.batch == axis else replace(tensor, batch_axis=axis)


def _axis(each: Described, symbol: str, *, shared: bool) -> int | None:
    """Where an input has its batch, as far as its shape tells."""
    shape, dims = each.shape, each.dims
    if not shape:
        return None
    if symbol and symbol in dims:
        return dims.index(symbol)
    if shape[0] in {None, 1} or shared:
        return 0
    open_ones = [place for place, size in enumerate(shape) if size in {None, 1}]
    return open_ones[0] if open_ones else None


def group_of(tensors: Sequence[Tensor]) -> int:
    """Rows of the batch that a model fixes; 1 where it is open. Raises WrongUsage."""
    sizes = {tensor.shape[tensor.batch] for tensor in tensors if tensor.batch is not None}
    if len(sizes) > 1:
        raise WrongUsage(
            f"the inputs' batches differ in size ({', '.join(map(str, sorted(sizes)))}): say where "
            "each has its batch with --batch-axis INPUT=NUMBER, or INPUT=none"
        )
    return max(1, *sizes) if sizes else 1


def _fixed(each: Described, fixed: tuple[int, ...], axis: int | None) -> tuple[int | None, ...]:
    own = each.shape
    if len(own) != len(fixed) or any(
        want not in {None, given}
        for place, (given, want) in enumerate(zip(fixed, own, strict=True))
        if place != axis
    ):
        raise WrongUsage(
            f"--shape {each.name}={','.join(map(str, fixed))}: the model has {_words(each)}"
        )
    return tuple(own[place] if place == axis else size for place, size in enumerate(fixed))


def _words(each: Described) -> str:
    """The shape as the model has it, with its names of dimensions."""
    dims = each.dims or ("",) * len(each.shape)
    shown = (
        str(size) if size is not None else name or "?"
        for size, name in zip(each.shape, dims, strict=True)
    )
    return f"[{', '.join(shown)}]"


def filled(tensor: Tensor, array: NDArray[Any]) -> Tensor:
    """The tensor with the sizes of its data, rows first, in place of open ones."""
    own = tensor.element_shape
    if array.ndim - 1 != len(own):
        raise WrongUsage(
            f"input {tensor.name!r} has {len(own)} dimensions for each row, its data "
            f"{array.ndim - 1}"
        )
    sizes = [got if want == -1 else want for want, got in zip(own, array.shape[1:], strict=True)]
    return replace(tensor, shape=_with_batch(sizes, tensor.batch, tensor))


def _with_batch(sizes: Sequence[int], axis: int | None, tensor: Tensor) -> tuple[int, ...]:
    if axis is None:
        return tuple(sizes)
    return (*sizes[:axis], tensor.shape[axis], *sizes[axis:])


def one_by_one(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Inputs whose requests hold one row each."""
    return tuple(
        tensor
        if (axis := tensor.batch) is None
        else replace(tensor, shape=(*tensor.shape[:axis], 1, *tensor.shape[axis + 1 :]))
        for tensor in tensors
    )


@dataclass(frozen=True)
class Answers:
    """What a model answered to all its rows."""

    arrays: Mapping[str, NDArray[Any]]
    """Rows first; an object array where sizes vary or there is no batch."""
    axes: Mapping[str, int | None]
    batch: int
    """Size of a batch as the inputs declare it; -1: any."""
    steady: bool
    """Inputs are of fixed sizes, so what was the same in all answers stays so."""


def outputs(described: Sequence[Described], answers: Answers, notes: Notes) -> tuple[Tensor, ...]:
    """The outputs as the answers show them. Raises WrongUsage when none can be declared."""
    declared = [_output(each, answers, notes) for each in described]
    found = tuple(tensor for tensor in declared if tensor is not None)
    if not found:
        raise WrongUsage(
            "no output of the model can be declared: " + "; ".join(map(str, notes.found))
        )
    return found


def _output(each: Described, answers: Answers, notes: Notes) -> Tensor | None:
    datatype = DATATYPES.get(each.kind)
    array = answers.arrays.get(each.name)
    if datatype is None or array is None:
        notes.add(
            "no_tensor",
            f"Output {each.name!r} is a {each.kind} and is left out: clients get tensors only. "
            "Export the model so that it ends with a tensor (scikit-learn: convert with "
            "options={'zipmap': False}).",
        )
        return None
    axis = answers.axes[each.name]
    sizes = _sizes(array, each)
    if sizes is None:
        notes.add(
            "varying_rank",
            f"Output {each.name!r} has a different number of dimensions each time and is left out.",
        )
        return None
    if -1 in sizes:
        notes.add(
            "varying_output",
            f"Output {each.name!r} varies in size from answer to answer (as a detector's after "
            "non-maximum suppression): it is served, but not recorded, and its drift isn't "
            "watched. A fixed number of detections, padded, would be.",
        )
    elif not answers.steady:
        known = each.shape if len(each.shape) == len(sizes) + (axis is not None) else ()
        inner = [size for place, size in enumerate(known) if place != axis]
        sizes = [
            -1 if want is None else got for got, want in zip(sizes, inner, strict=False)
        ] or sizes
    shape = tuple(sizes) if axis is None else (*sizes[:axis], answers.batch, *sizes[axis:])
    tensor = Tensor(each.name, datatype, shape)
    return tensor if tensor.batch == axis else replace(tensor, batch_axis=axis)


def _sizes(array: NDArray[Any], each: Described) -> list[int] | None:
    """Sizes of a row's answer; -1 for what varies, None where even their number does."""
    if not is_held(array):
        return list(array.shape[1:])
    shapes = {np.asarray(part).shape for part in array}
    if len({len(shape) for shape in shapes}) != 1:
        return None
    open_ones = {place for place, size in enumerate(each.shape) if size is None}
    same_rank = len(each.shape) == len(next(iter(shapes)))
    return [
        sizes[0] if len(set(sizes)) == 1 and not (same_rank and place in open_ones) else -1
        for place, sizes in enumerate(zip(*shapes, strict=True))
    ]


def is_held(array: NDArray[Any]) -> bool:
    """Whether each row's answer is an array of its own."""
    return array.dtype.kind == "O" and array.size > 0 and isinstance(array.flat[0], np.ndarray)


def typed_anew(described: Sequence[Described], declared: Sequence[Tensor]) -> dict[str, Tensor]:
    """Outputs whose model says nothing of their dimensions, and what they are."""
    ranks = {each.name: len(each.shape) for each in described}
    return {
        tensor.name: tensor
        for tensor in declared
        if ranks[tensor.name] != len(tensor.shape) and -1 not in tensor.element_shape
    }
