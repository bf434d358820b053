"""Training data by tensor name, read from CSV, Parquet or NumPy files."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from muster_client.failures import Lacking, WrongUsage
from muster_client.training.table import read_table, seconds, seconds_of
from muster_protocol.signals.features import Kind

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 65_536
"""Of a Parquet file that are decoded at once."""


@dataclass(frozen=True)
class TrainingData:
    """Arrays with one row per example."""

    tensors: dict[str, NDArray[Any]]
    columns: dict[str, list[tuple[str, Kind]]] = field(default_factory=dict)
    """Name and kind of each element, for tensors whose elements have some."""
    times: NDArray[np.float64] | None = None
    """Seconds since 1970 of each row, rising; None when no column says."""


def read(data: Path, tensor: str, time: str = "") -> TrainingData:
    """Read a file by its suffix; columns of a table are the elements of ``tensor``, in order.

    The column ``time`` puts the rows in their order and is no feature. Raises WrongUsage naming
    the file and what is wrong with it.
    """
    reader = _READERS.get(data.suffix)
    if reader is None:
        raise WrongUsage(f"{data}: give a .csv, .parquet or .npz file")
    try:
        training = reader(data, tensor, time)
        return _in_order(training, time) if time else training
    except OSError as error:
        raise WrongUsage(f"{data}: {error.strerror or error}") from None
    except ValueError as error:
        raise WrongUsage(f"{data}: {error}") from None


def _in_order(training: TrainingData, time: str) -> TrainingData:
    """Rows by their time. Raises ValueError when a time is missing or there is no such column."""
    times = training.times
    if times is None:
        raise ValueError(f"no column {time!r} to take the rows' times from")
    if not np.isfinite(times).all():
        raise ValueError(f"row {int(np.flatnonzero(~np.isfinite(times))[0]) + 1} has no {time!r}")
    order = np.argsort(times, kind="stable")
    tensors = {name: array[order] for name, array in training.tensors.items()}
    return replace(training, tensors=tensors, times=times[order])


def _read_npz(data: Path, _tensor: str, time: str) -> TrainingData:
    with np.load(data) as archive:
        arrays = {name: np.asarray(archive[name]) for name in archive.files}
    times = arrays.pop(time, None) if time else None
    return TrainingData(arrays, times=None if times is None else times.astype(np.float64).ravel())


def _read_csv(data: Path, tensor: str, time: str) -> TrainingData:
    """Numbers and yes or no are elements of ``tensor``; words are tensors of their own."""
    table = read_table(data)
    times = None
    if time:
        if time not in table.columns:
            raise ValueError(f"no column {time!r} to take the rows' times from")
        times = seconds_of(table.columns[time])
        table = table.without(time)
    kinds = {name: str(table.kind(name)) for name in table.columns}
    if kinds.get(tensor) == "text":
        raise ValueError(f"column {tensor!r} would be a tensor by the name of --tensor")
    numbers = [table.columns[name] for name, kind in kinds.items() if kind != "text"]
    matrix = np.array(numbers, np.float32).T if numbers else np.empty((table.rows, 0), np.float32)
    own = {
        name: table.columns[name].reshape(-1, 1) for name, kind in kinds.items() if kind == "text"
    }
    return replace(_named(tensor, matrix, own, kinds), times=times)


def _read_parquet(data: Path, tensor: str, time: str) -> TrainingData:
    """Numbers and booleans are elements of ``tensor``; texts and lists are tensors of their own."""
    try:
        import pyarrow.parquet as pq  # noqa: PLC0415 - an extra: few operators need it
    except ImportError:
        raise Lacking(f"{data}: reading Parquet", "pyarrow", "parquet") from None
    with pq.ParquetFile(data) as file:
        rows, schema = file.metadata.num_rows, file.schema_arrow
        if not rows:
            raise ValueError("no row of data")
        kinds = {column.name: _kind(column) for column in schema if column.name != time}
        if tensor in (name for name, kind in kinds.items() if kind in ("text", "list")):
            raise ValueError(f"column {tensor!r} would be a tensor by the name of --tensor")
        scalars = [name for name, kind in kinds.items() if kind in ("numeric", "boolean")]
        table = np.empty((rows, len(scalars)), np.float32)
        own: dict[str, list[NDArray[Any]]] = {name: [] for name in kinds if name not in scalars}
        begin = 0
        times = np.empty(rows) if time in schema.names else None
        for batch in file.iter_batches(BATCH_ROWS):
            block = slice(begin, begin + len(batch))
            if times is not None:
                times[block] = _times(batch.column(time))
            for place, name in enumerate(scalars):
                table[block, place] = _floats(batch.column(name))
            for name, parts in own.items():
                parts.append(_TENSORS[kinds[name]](name, batch.column(name)))
            begin += len(batch)
    training = _named(
        tensor, table, {name: _joined(name, parts) for name, parts in own.items()}, kinds
    )
    return replace(training, times=times)


def _named(
    tensor: str, table: NDArray[Any], own: dict[str, NDArray[Any]], kinds: dict[str, str]
) -> TrainingData:
    scalars = [name for name, kind in kinds.items() if kind in ("numeric", "boolean")]
    tensors = {tensor: table} if scalars else {}
    columns: dict[str, list[tuple[str, Kind]]] = {}
    if scalars:
        columns[tensor] = [
            (name, "boolean" if kinds[name] == "boolean" else "numeric") for name in scalars
        ]
    for name, values in own.items():
        tensors[name] = values
        if kinds[name] == "text":
            columns[name] = [(name, "categorical")]
    return TrainingData(tensors, columns)


def _times(column: "pa.Array") -> NDArray[np.float64]:
    import pyarrow.types as t  # noqa: PLC0415 - an extra, dear to import

    if t.is_timestamp(column.type):
        micros = column.cast("timestamp[us]").cast("int64").cast("float64")
        return np.asarray(micros.to_numpy(zero_copy_only=False), np.float64) / 1e6
    if t.is_string(column.type) or t.is_large_string(column.type):
        return np.array([seconds(text or "") for text in column.to_pylist()])
    return np.asarray(column.cast("float64").to_numpy(zero_copy_only=False), np.float64)


def _kind(column: "pa.Field") -> str:
    import pyarrow.types as t  # noqa: PLC0415 - an extra, dear to import

    kind = column.type
    if t.is_boolean(kind):
        return "boolean"
    if t.is_integer(kind) or t.is_floating(kind) or t.is_decimal(kind):
        return "numeric"
    if t.is_string(kind) or t.is_large_string(kind) or t.is_dictionary(kind):
        return "text"
    if t.is_list(kind) or t.is_fixed_size_list(kind) or t.is_large_list(kind):
        return "list"
    raise ValueError(
        f"column {column.name!r} is of type {kind}: give numbers, booleans, texts or lists of "
        "numbers"
    )


def _floats(column: "pa.Array") -> NDArray[np.float32]:
    return np.asarray(column.cast("float32", safe=False).to_numpy(zero_copy_only=False), np.float32)


def _texts(_name: str, column: "pa.Array") -> NDArray[Any]:
    return np.array(column.to_pylist(), dtype=object).reshape(-1, 1)


def _lists(name: str, column: "pa.Array") -> NDArray[np.float32]:
    """[rows, elements]; every row has as many as the first."""
    sizes = {size.as_py() for size in column.value_lengths().unique()}
    if len(sizes) != 1 or None in sizes:
        raise ValueError(f"column {name!r} has lists of different lengths, or none in some rows")
    return _floats(column.flatten()).reshape(len(column), -1)


_TENSORS: dict[str, Callable[[str, "pa.Array"], NDArray[Any]]] = {"text": _texts, "list": _lists}


def _joined(name: str, parts: list[NDArray[Any]]) -> NDArray[Any]:
    if len({part.shape[1] for part in parts}) != 1:
        raise ValueError(f"column {name!r} has lists of different lengths, or none in some rows")
    return np.concatenate(parts)


_READERS: dict[str, Callable[[Path, str, str], TrainingData]] = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".npz": _read_npz,
    ".parquet": _read_parquet,
}
