"""Where a model's rows come from: a table, arrays, a sample, or nowhere."""

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muster_client.failures import WrongUsage
from muster_client.packing import fed, pictures, rows
from muster_client.packing.advice import Notes
from muster_client.packing.declare import NUMPY_NAMES, filled, group_of
from muster_client.packing.options import Options
from muster_client.packing.rows import Rows
from muster_client.training.table import Table, of_frame, read_table, seconds_of
from muster_protocol.wire.tensors import Tensor


@dataclass(frozen=True)
class Data:
    """Rows for the model, and what is known of each beside them."""

    rows: Rows
    origin: str
    """Where they are from, in words."""
    is_training: bool
    """They are training data, and show what is normal."""
    labels: list[str] | None = None
    groups: dict[str, list[str]] = field(default_factory=dict)
    """Of each column that metrics are kept apart by, each row's value."""
    times: NDArray[np.float64] | None = None
    lineage: str = ""
    is_made_up: bool = False
    """Nobody gave any."""

    @property
    def data_rows(self) -> int:
        """How many there are."""
        return self.rows.count


def read_data(
    tensors: Sequence[Tensor], states: Sequence[str], options: Options, data: Any, notes: Notes
) -> Data:
    """Rows from ``data``, from the files that options name, or made up. Raises WrongUsage.

    Inputs among ``states`` that the data don't have begin with zeros.
    """
    own = [tensor for tensor in tensors if tensor.name not in states]
    found = _read(own, options, data, notes)
    if len(own) == len(tensors):
        return found
    count = found.rows.count
    zeros = {
        tensor.name: np.zeros(
            (count, *(1 if size == -1 else size for size in tensor.element_shape)),
            NUMPY_NAMES[tensor.datatype],
        )
        for tensor in tensors
        if tensor.name in states
    }
    known = {tensor.name: tensor for tensor in found.rows.tensors}
    arrays = {t.name: found.rows.inputs.get(t.name, zeros.get(t.name)) for t in tensors}
    whole = {name: array for name, array in arrays.items() if array is not None}
    filled_in = tuple(known.get(t.name) or filled(t, whole[t.name]) for t in tensors)
    return replace(found, rows=replace(found.rows, inputs=whole, tensors=filled_in))


def read_columns(options: Options, data: Any) -> Table | dict[str, NDArray[Any]]:
    """The data before any model says what it takes. Raises WrongUsage without any."""
    if data is not None:
        return _of_object(data)
    if not options.data:
        raise WrongUsage("what is converted is compared on data: give --data")
    path = Path(options.data)
    return _arrays(path) if path.suffix in {".npz", ".npy"} else read_table(path)


def apart(options: Options) -> set[str]:
    """Columns that are no input: answers, times, groups, what is dropped; save those that options
    name for one."""
    used = {name for names in options.columns.values() for name in names}
    return {options.labels, options.time, *options.drop, *options.group} - used - {""}


def _read(tensors: Sequence[Tensor], options: Options, data: Any, notes: Notes) -> Data:
    found = _found(tensors, options, data, notes)
    if data is not None or not options.data or Path(options.data).is_dir():
        return found
    with Path(options.data).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return replace(found, lineage=f"{found.lineage}, SHA-256 {digest}")


def _found(tensors: Sequence[Tensor], options: Options, data: Any, notes: Notes) -> Data:
    if data is None and options.data and Path(options.data).is_dir():
        return _of_pictures(tensors, options, notes)
    if data is not None or options.data:
        data = read_columns(options, data)
    if isinstance(data, Table):
        return _of_table(tensors, data, options, notes)
    if data is not None:
        return _of_arrays(tensors, data, options, notes)
    if options.sample:
        return _of_sample(tensors, Path(options.sample), options, notes)
    notes.add(
        "generated",
        "There is neither data nor a sample, so the golden vectors are of made-up inputs: they "
        "show that a device computes the same, not that the model is any good. Give --data or "
        "--sample.",
    )
    made = rows.generated(tensors, group_of(tensors))
    return Data(made, "made-up inputs", is_training=False, is_made_up=True)


def _of_pictures(tensors: Sequence[Tensor], options: Options, notes: Notes) -> Data:
    if len(tensors) != 1:
        raise WrongUsage(f"{options.data}: pictures are for a model of one input")
    image = fed.image_of(options.features, options.data)
    path = Path(options.data)
    found = pictures.read(path, image, tensors[0], options.rows, notes)
    taken = rows.of_arrays(tensors, {tensors[0].name: found.rows}, options.data)
    return Data(
        taken,
        options.data,
        is_training=True,
        labels=found.labels,
        lineage=f"{path.name}, {taken.count} pictures",
    )


def _of_sample(tensors: Sequence[Tensor], path: Path, options: Options, notes: Notes) -> Data:
    if path.suffix in {".npz", ".npy"}:
        taken = rows.of_arrays(tensors, _arrays(path), str(path))
    else:
        taken = rows.of_table(tensors, read_table(path), options.columns, notes)
    return Data(taken, str(path), is_training=False)


def _of_object(data: Any) -> Table | dict[str, NDArray[Any]]:
    """A data frame, a table, a mapping of arrays, or a single array."""
    if isinstance(data, Table):
        return data
    if isinstance(data, np.ndarray):
        return {"": data}
    if isinstance(data, Mapping):
        arrays = {str(name): np.asarray(value) for name, value in data.items()}
        if any(array.ndim != 1 for array in arrays.values()):
            return arrays
        return of_frame(data)
    if hasattr(data, "columns"):
        return of_frame(data)
    raise WrongUsage(
        f"data of type {type(data).__name__}: give a data frame, arrays by name, or a file's path"
    )


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"": loaded}
        with loaded as archive:
            return {name: np.asarray(archive[name]) for name in archive.files}
    except OSError as error:
        raise WrongUsage(f"{path}: {error.strerror or error}") from None
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise WrongUsage(f"{path}: not arrays of NumPy: {error}") from None


def _of_table(tensors: Sequence[Tensor], table: Table, options: Options, notes: Notes) -> Data:
    table = _ordered(table, options)
    if table.rows > options.rows:
        notes.add("rows", f"Of {table.rows} rows the last {options.rows} are used: see --rows.")
        table = table.taken(slice(table.rows - options.rows, None))
    labels = None
    if options.labels:
        labels = rows.labels_of(table.column(options.labels, "the labels"))
    groups = {name: rows.labels_of(table.column(name, "a group's")) for name in options.group}
    times = None
    if options.time:
        times = seconds_of(table.column(options.time, "the time"))
    for name in options.drop:
        table.column(name, "to be dropped")
    features = table.without(*apart(options))
    taken = rows.of_table(tensors, features, options.columns, notes)
    if options.context and options.context not in {c for n in taken.columns.values() for c in n}:
        raise WrongUsage(f"--context {options.context}: no such column among the inputs")
    return Data(
        taken,
        table.source,
        is_training=True,
        labels=labels,
        groups=groups,
        times=times,
        lineage=f"{Path(table.source).name}, {table.rows} rows",
    )


def _ordered(table: Table, options: Options) -> Table:
    """Rows by their time. Raises WrongUsage for a time that is missing or can't be read."""
    if not options.time:
        return table
    try:
        times = seconds_of(table.column(options.time, "the time"))
    except ValueError as error:
        raise WrongUsage(f"{table.source}: column {options.time!r}: {error}") from None
    if not np.isfinite(times).all():
        row = int(np.flatnonzero(~np.isfinite(times))[0]) + 1
        raise WrongUsage(f"{table.source}: row {row} has no {options.time!r}")
    return table.taken(np.argsort(times, kind="stable"))


def _of_arrays(
    tensors: Sequence[Tensor], arrays: dict[str, NDArray[Any]], options: Options, notes: Notes
) -> Data:
    source = options.data or "the data"
    if options.group:
        raise WrongUsage(f"{source}: --group needs a table with its columns, not arrays")
    asked = [name for name in (options.labels, options.time) if name]
    beside = {name: arrays[name] for name in asked if name in arrays}
    for name in asked:
        if name not in beside:
            raise WrongUsage(f"{source}: no array {name!r}; there are {', '.join(arrays)}")
    own = {name: array for name, array in arrays.items() if name not in beside}
    left = [name for name in own if name not in {tensor.name for tensor in tensors}]
    if len(own) > len(tensors) and left:
        notes.add("left_out", f"Arrays that are no input are left out: {', '.join(left)}.")
        own = {name: array for name, array in own.items() if name not in left}
    taken = rows.of_arrays(tensors, own, source)
    order = slice(max(taken.count - options.rows, 0), None)
    labels = times = None
    if options.labels:
        labels = rows.labels_of(beside[options.labels].ravel())[order]
    if options.time:
        times = beside[options.time].astype(np.float64).ravel()[order]
        if (np.diff(times) < 0).any():
            raise WrongUsage(f"{source}: array {options.time!r} doesn't rise: sort the rows by it")
    kept = Rows({name: array[order] for name, array in taken.inputs.items()}, taken.tensors)
    return Data(
        kept,
        source,
        is_training=True,
        labels=labels,
        times=times,
        lineage=f"{Path(source).name}, {kept.count} rows",
    )
