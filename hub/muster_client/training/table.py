"""A table of training data by columns: CSV as spreadsheets write it, Parquet, data frames."""

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from muster_client.failures import Lacking, WrongUsage

ColumnKind = Literal["numeric", "boolean", "text"]
Column = NDArray[Any]
"""float64, bool or an object array of texts; NaN or empty text is a missing value."""
DELIMITERS = ",;\t|"
MISSING = frozenset({"", "nan", "na", "n/a", "null", "none", "#n/a"})
BOOLEANS = {"true": True, "false": False, "yes": True, "no": False}
NUMBERS_SHARE_MIN = 0.5
"""Of a column's values that must be numbers, for a word among them to be a mistake."""
LINE_CHARS_MAX = 1 << 20
DATE_FORMATS = ("%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M", "%d.%m.%Y", "%d/%m/%Y %H:%M:%S", "%d/%m/%Y")
"""Of dates that aren't ISO 8601: the day comes first, as in most of the world."""


@dataclass(frozen=True)
class Table:
    """Columns by name, all of one length."""

    columns: dict[str, Column]
    source: str = "the data"
    """What messages call it."""

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return len(next(iter(self.columns.values()), ()))

    def kind(self, name: str) -> ColumnKind:
        """What a column holds."""
        kinds: dict[str, ColumnKind] = {"f": "numeric", "b": "boolean"}
        return kinds.get(self.columns[name].dtype.kind, "text")

    def column(self, name: str, what: str) -> Column:
        """A column that ``what`` names; raises WrongUsage when there is none of that name."""
        if name not in self.columns:
            known = ", ".join(self.columns)
            raise WrongUsage(f"{self.source}: no column {name!r} ({what}); there are {known}")
        return self.columns[name]

    def without(self, *names: str) -> "Table":
        """The table less some columns."""
        kept = {name: column for name, column in self.columns.items() if name not in names}
        return Table(kept, self.source)

    def taken(self, rows: NDArray[np.intp] | slice) -> "Table":
        """Some rows, in the order given."""
        return Table({name: column[rows] for name, column in self.columns.items()}, self.source)


def read_table(path: Path) -> Table:
    """Read a .csv, .tsv or .parquet file. Raises WrongUsage naming the file and what is wrong."""
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise WrongUsage(f"{path}: give a .csv, .tsv or .parquet file")
    try:
        table = reader(path)
    except OSError as error:
        raise WrongUsage(f"{path}: {error.strerror or error}") from None
    except (ValueError, csv.Error) as error:
        raise WrongUsage(f"{path}: {error}") from None
    if not table.rows:
        raise WrongUsage(f"{path}: no row of data")
    return table


def of_frame(frame: Any) -> Table:
    """A pandas or Polars data frame, or a mapping of names to equally long arrays or lists."""
    names: Iterable[Any] = frame if isinstance(frame, Mapping) else frame.columns
    columns = {str(name): _column(np.asarray(frame[name])) for name in names}
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise WrongUsage(f"the data's columns differ in length: {lengths}")
    return Table(columns)


def seconds_of(column: Column) -> NDArray[np.float64]:
    """Times as seconds since 1970: such numbers, or texts with a date. Raises ValueError."""
    if column.dtype.kind in "fb":
        return np.asarray(column, np.float64)
    return np.array([seconds(str(text)) for text in column])


def seconds(text: str) -> float:
    """A time as seconds since 1970 (UTC where it names no zone); NaN for an empty text.

    Such a number, ISO 8601, or a date with its day first. Raises ValueError.
    """
    text = text.strip()
    if not text:
        return float("nan")
    with suppress(ValueError):
        return float(text)
    for written in DATE_FORMATS:
        with suppress(ValueError):
            return datetime.strptime(text, written).replace(tzinfo=UTC).timestamp()
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is no time: write ISO 8601 (2026-11-30T08:00:00) or seconds since 1970"
        ) from None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def _read_csv(path: Path) -> Table:
    with path.open(newline="", encoding="utf-8-sig") as file:
        first = file.readline(LINE_CHARS_MAX)
        file.seek(0)
        delimiter = max(DELIMITERS, key=first.count)
        lines = csv.reader(file, delimiter=delimiter)
        header = [name.strip() for name in next(lines, [])]
        _check_header(header)
        rows = [*_whole(lines, len(header))]
        numbers = [number for number, _ in rows]
    texts = list(zip(*(row for _, row in rows), strict=True)) or [()] * len(header)
    # Where the semicolon separates, the comma is the decimal point.
    comma = delimiter == ";"
    return Table(
        {
            name: _parsed(name, column, numbers, comma=comma)
            for name, column in zip(header, texts, strict=True)
        },
        str(path),
    )


def _check_header(header: list[str]) -> None:
    if not header:
        raise ValueError("it is empty: the first line must name the columns")
    seen: set[str] = set()
    for place, name in enumerate(header, 1):
        if not name:
            raise ValueError(f"column {place} has no name in the header")
        if name in seen:
            raise ValueError(f"the header names {name!r} twice")
        seen.add(name)
    if all(_as_number(name, comma=False) is not None for name in header):
        raise ValueError("the first line holds numbers: it must name the columns")


def _whole(lines: Any, width: int) -> Iterator[tuple[int, list[str]]]:
    for row in lines:
        if not row:
            continue
        if len(row) != width:
            raise ValueError(
                f"line {lines.line_num} has {len(row)} values, the header names {width}"
            )
        yield lines.line_num, row


def _parsed(name: str, texts: Iterable[str], lines: list[int], *, comma: bool) -> Column:
    """A column's texts as numbers where most are, else as yes and no, else as they are."""
    cells = [text.strip() for text in texts]
    given = [cell for cell in cells if cell.lower() not in MISSING]
    values = [_as_number(cell, comma=comma) for cell in given]
    count = sum(value is not None for value in values)
    if not given or count >= NUMBERS_SHARE_MIN * len(given):
        return _numbers(name, cells, lines, comma=comma)
    if len(given) == len(cells) and all(cell.lower() in BOOLEANS for cell in cells):
        return np.array([BOOLEANS[cell.lower()] for cell in cells], np.bool_)
    return _objects(["" if cell.lower() in MISSING else cell for cell in cells])


def _numbers(name: str, cells: list[str], lines: list[int], *, comma: bool) -> Column:
    found = np.empty(len(cells))
    for place, cell in enumerate(cells):
        value = float("nan") if cell.lower() in MISSING else _as_number(cell, comma=comma)
        if value is None:
            raise ValueError(
                f"line {lines[place]}: {cell!r} is not a number, and {name!r} holds numbers"
            )
        found[place] = value
    return found


def _as_number(text: str, *, comma: bool) -> float | None:
    if comma and "," in text:
        text = text.replace(".", "").replace(",", ".")
    try:
        return float(text)
    except ValueError:
        return None


def _read_parquet(path: Path) -> Table:
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra: few operators need it
        import pyarrow.parquet as pq  # noqa: PLC0415 - the same
    except ImportError:
        raise Lacking(f"{path}: reading Parquet", "pyarrow", "parquet") from None
    try:
        read = pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise ValueError(str(error)) from None
    columns: dict[str, Column] = {}
    for name, chunked in zip(read.schema.names, read.columns, strict=True):
        kind = chunked.type
        if pa.types.is_timestamp(kind):
            micros = chunked.cast("timestamp[us]").cast("int64").cast("float64")
            columns[name] = np.asarray(micros.to_numpy(), np.float64) / 1e6
        elif pa.types.is_boolean(kind) and not chunked.null_count:
            columns[name] = np.asarray(chunked.to_numpy(), np.bool_)
        elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
            columns[name] = np.asarray(chunked.cast("float64").to_numpy(), np.float64)
        else:
            columns[name] = _column(_objects(chunked.to_pylist()))
    return Table(columns, str(path))


def _column(values: NDArray[Any]) -> Column:
    if values.ndim != 1:
        raise WrongUsage(f"a column of the data is an array of {values.ndim} dimensions, not one")
    match values.dtype.kind:
        case "b":
            return values
        case "i" | "u" | "f":
            return values.astype(np.float64)
        case "M":
            micros = values.astype("datetime64[us]")
            found = micros.astype(np.int64).astype(np.float64) / 1e6
            return np.where(np.isnat(micros), np.nan, found)
        case _:
            return _objects(["" if _is_missing(value) else str(value) for value in values.tolist()])


def _is_missing(value: object) -> bool:
    return value is None or value != value  # noqa: PLR0124 - NaN is what differs from itself


def _objects(values: list[Any]) -> Column:
    found = np.empty(len(values), object)
    found[:] = values
    return found


_READERS: dict[str, Callable[[Path], Table]] = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".txt": _read_csv,
    ".parquet": _read_parquet,
}
