"""Rows for a model's inputs: from a table by columns, from arrays by name, or made up. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muster_client.failures import WrongUsage
from muster_client.packing.advice import Notes
from muster_client.packing.declare import NUMPY_NAMES, filled
from muster_client.training.table import Column, Table
from muster_protocol.wire.tensors import Datatype, Tensor
from muster_protocol.wire.usable import WHOLE_NUMBERS

Arrays = Mapping[str, NDArray[Any]]
GENERATED_ROWS = 8


@dataclass(frozen=True)
class Rows:
    """What a model is run on: arrays by input, rows first."""

    inputs: dict[str, NDArray[Any]]
    tensors: tuple[Tensor, ...]
    """The inputs, with the data's sizes where the model left them open."""
    columns: dict[str, list[str]] = field(default_factory=dict)
    """Names of an input's elements, in their order."""
    booleans: frozenset[str] = frozenset()
    """Columns of yes and no."""

    @property
    def count(self) -> int:
        """How many rows."""
        return len(next(iter(self.inputs.values())))


def of_table(
    tensors: Sequence[Tensor],
    table: Table,
    named: Mapping[str, Sequence[str]],
    notes: Notes,
) -> Rows:
    """Columns as inputs: those ``named`` for an input, those of an input's own name, or in order.

    Raises WrongUsage that names columns when they don't fit.
    """
    chosen: dict[str, list[str]] = {}
    for tensor in tensors:
        if tensor.name in named:
            chosen[tensor.name] = list(named[tensor.name])
        elif tensor.name in table.columns and _width(tensor) in {1, None}:
            chosen[tensor.name] = [tensor.name]
    taken = {name for names in chosen.values() for name in names}
    left = [tensor for tensor in tensors if tensor.name not in chosen]
    free = [name for name in table.columns if name not in taken]
    if len(left) > 1:
        names = ", ".join(repr(tensor.name) for tensor in left)
        raise WrongUsage(
            f"{table.source}: which columns are the inputs {names}? Say it with "
            f"--columns {left[0].name}=COLUMN,COLUMN,…"
        )
    if left:
        chosen[left[0].name] = _in_order(left[0], table, free, notes)
    elif free:
        notes.add("left_out", f"Columns that are no input are left out: {', '.join(free)}.")
    arrays = {tensor.name: _array(tensor, table, chosen[tensor.name]) for tensor in tensors}
    return Rows(
        arrays,
        tuple(filled(tensor, arrays[tensor.name]) for tensor in tensors),
        chosen,
        frozenset(name for name in table.columns if table.kind(name) == "boolean"),
    )


def _width(tensor: Tensor) -> int | None:
    """Elements of a row; None when they are not known."""
    return None if -1 in tensor.element_shape else prod(tensor.element_shape)


def _in_order(tensor: Tensor, table: Table, free: list[str], notes: Notes) -> list[str]:
    """Columns for the only input that names none: all that it can hold, in the table's order."""
    wants_text = tensor.datatype == "BYTES"
    fitting = [name for name in free if (table.kind(name) == "text") == wants_text]
    width = _width(tensor)
    odd = [name for name in free if name not in fitting]
    what = "words" if not wants_text else "numbers"
    if width is not None and len(fitting) != width:
        raise WrongUsage(_misfit(tensor, table, fitting, odd, width, what))
    if odd:
        notes.add(
            "left_out",
            f"Columns of {what} are left out, as the model takes none: {', '.join(odd)}.",
        )
    return fitting


def _misfit(
    tensor: Tensor, table: Table, fitting: list[str], odd: list[str], width: int, what: str
) -> str:
    says = (
        f"{table.source}: the model's input {tensor.name!r} takes {width} columns, there are "
        f"{len(fitting)} ({', '.join(fitting)})"
    )
    if odd:
        says += f"; {', '.join(odd)} hold {what}"
    if len(fitting) > width:
        return (
            f"{says}. Name the answer's column with --labels, the time's with --time, and leave "
            "others out with --drop"
        )
    return f"{says}. Give the table that the model was trained on, with its columns in order"


def _array(tensor: Tensor, table: Table, names: Sequence[str]) -> NDArray[Any]:
    if not names:
        raise WrongUsage(f"{table.source}: no column is left for the input {tensor.name!r}")
    columns = [table.column(name, f"for input {tensor.name!r}") for name in names]
    if tensor.datatype == "BYTES":
        joined = np.empty((table.rows, len(names)), object)
        for place, column in enumerate(columns):
            joined[:, place] = [_text(value) for value in column.tolist()]
    else:
        for name, column in zip(names, columns, strict=True):
            if column.dtype.kind == "O":
                raise WrongUsage(
                    f"{table.source}: column {name!r} holds words, input {tensor.name!r} takes "
                    f"numbers ({tensor.datatype})"
                )
        joined = cast(tensor, np.column_stack([np.asarray(c, np.float64) for c in columns]))
    return _shaped(tensor, joined, table.source)


def _text(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _shaped(tensor: Tensor, joined: NDArray[Any], source: str) -> NDArray[Any]:
    rows, width = joined.shape
    shape = tensor.element_shape
    if -1 not in shape:
        if prod(shape) != width:
            raise WrongUsage(
                f"{source}: input {tensor.name!r} takes {prod(shape)} values a row, "
                f"{width} columns are named for it"
            )
        return np.ascontiguousarray(joined.reshape(rows, *shape))
    if len(shape) == 1:
        return np.ascontiguousarray(joined)
    raise WrongUsage(
        f"input {tensor.name!r} has dimensions of any size: fix them with --shape {tensor.name}=1,…"
    )


def cast(tensor: Tensor, values: NDArray[Any]) -> NDArray[Any]:
    """Values as the tensor's type. Raises WrongUsage where that would change them."""
    kind = np.dtype(NUMPY_NAMES[tensor.datatype])
    if values.dtype == kind:
        return values
    bounds = WHOLE_NUMBERS.get(tensor.datatype)
    if bounds is not None and values.dtype.kind in "fiub":
        found = np.asarray(values, np.float64)
        bad = ~((found == np.round(found)) & (found >= bounds[0]) & (found <= bounds[1]))
        if bad.any():
            row = int(np.argwhere(bad)[0][0])
            raise WrongUsage(
                f"input {tensor.name!r} takes {tensor.datatype}; row {row + 1} of the data has "
                f"{found[bad][0]:g}"
            )
    if kind.kind == "O":
        texts = np.empty(values.shape, object)
        texts[...] = np.vectorize(_decoded, otypes=[object])(values) if values.size else values
        return texts
    return values.astype(kind)


def _decoded(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def of_arrays(tensors: Sequence[Tensor], arrays: Arrays, source: str) -> Rows:
    """Arrays by input name, rows first; a single one of another name is the single input's."""
    found = dict(arrays)
    if len(tensors) == 1 and len(found) == 1:
        found = {tensors[0].name: next(iter(found.values()))}
    taken = {}
    for tensor in tensors:
        if tensor.name not in found:
            raise WrongUsage(
                f"{source}: no array {tensor.name!r}, which the model takes; there are "
                f"{', '.join(found) or 'none'}"
            )
        taken[tensor.name] = _of_array(tensor, np.asarray(found[tensor.name]), source)
    if len({len(array) for array in taken.values()}) > 1:
        lengths = {name: len(array) for name, array in taken.items()}
        raise WrongUsage(f"{source}: the arrays differ in their number of rows: {lengths}")
    return Rows(taken, tuple(filled(tensor, taken[tensor.name]) for tensor in tensors))


def _of_array(tensor: Tensor, array: NDArray[Any], source: str) -> NDArray[Any]:
    own = tensor.element_shape
    if array.ndim == len(own):
        array = array[np.newaxis]  # a single example
    if (
        tensor.batch is not None
        and array.ndim == len(own) + 2
        and array.shape[1 + tensor.batch] == 1
    ):
        array = array.squeeze(1 + tensor.batch)  # requests of one row each
    fits = array.ndim == len(own) + 1 and all(
        want in {-1, got} for want, got in zip(own, array.shape[1:], strict=True)
    )
    if not fits or not len(array):
        raise WrongUsage(
            f"{source}: array {tensor.name!r} has shape {list(array.shape)}, the model takes "
            f"{list(tensor.shape)} (-1: any size); give rows first"
        )
    return np.ascontiguousarray(cast(tensor, array))


def generated(tensors: Sequence[Tensor], group: int = 1, seed: int = 20) -> Rows:
    """Made-up rows: small numbers at random, the same each time; free sizes are 1."""
    rows = GENERATED_ROWS * group
    random = np.random.default_rng(seed)
    made = {}
    for tensor in tensors:
        shape = (rows, *(1 if size == -1 else size for size in tensor.element_shape))
        made[tensor.name] = _made_up(tensor.datatype, shape, random)
    return Rows(made, tuple(tensors))


def _made_up(
    datatype: Datatype, shape: tuple[int, ...], random: np.random.Generator
) -> NDArray[Any]:
    kind = np.dtype(NUMPY_NAMES[datatype])
    match kind.kind:
        case "O":
            texts = np.empty(shape, object)
            texts[...] = "text"
            return texts
        case "b":
            return random.integers(0, 2, shape).astype(np.bool_)
        case "i" | "u":
            most = 255 if datatype == "UINT8" else 10 if datatype != "INT8" else 127
            return random.integers(0, most, shape).astype(kind)
        case _:
            return random.random(shape).astype(kind)


def picked(count: int, wanted: int) -> NDArray[np.intp]:
    """``wanted`` of ``count`` rows, evenly spread, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(wanted, count)).round().astype(np.intp))


def labels_of(column: Column) -> list[str]:
    """Labels as the texts that classes are named by: whole numbers without a fraction."""
    return [_text(value) for value in column.tolist()]
