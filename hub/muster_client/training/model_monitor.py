"""A baseline from what SageMaker Model Monitor wrote of training data: ``statistics.json``.

For each numeric column that file holds counts, mean, standard deviation, extremes and the
distribution as a KLL sketch, whose items on level i stand for 2^i rows each (Karnin, Lang and
Liberty 2016), beside ten buckets. That makes a baseline of format 1: of how rows follow each other
in time, and of relations between columns, the file knows nothing.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
import numpy as np
from msgspec import Meta, Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from muster_client.failures import WrongUsage
from muster_protocol.signals import baseline, features, monitors
from muster_protocol.signals.baseline import Baseline
from muster_protocol.wire import limits
from muster_protocol.wire.errors import ProtocolError

FILE_BYTES_MAX = 64 * limits.MIB
VALUES = 4096
"""A column's distribution is taken at so many quantiles: far more than a baseline has bins."""
SKETCH_ERROR = 0.05
"""A sketch whose items stand for more or fewer rows than this share off is not understood."""
Count = Annotated[int, Meta(ge=0, le=2**53)]
Read = TypeVar("Read", bound=Struct)


class _Common(Struct, frozen=True):
    num_present: Count
    num_missing: Count


class _Bucket(Struct, frozen=True):
    lower_bound: float
    upper_bound: float
    count: float


class _Sketch(Struct, frozen=True):
    data: list[list[float]] = []


class _Kll(Struct, frozen=True):
    buckets: list[_Bucket] = []
    sketch: _Sketch = _Sketch()


class _Distribution(Struct, frozen=True):
    kll: _Kll = _Kll()


class _Numbers(Struct, frozen=True):
    common: _Common
    mean: float
    std_dev: float
    min: float
    max: float
    distribution: _Distribution = _Distribution()


class _Column(Struct, frozen=True):
    name: str
    inferred_type: str
    numerical_statistics: _Numbers | None = None


class _Statistics(Struct, frozen=True):
    features: list[_Column]


class _Constraint(Struct, frozen=True):
    name: str
    inferred_type: str


class _Constraints(Struct, frozen=True):
    features: list[_Constraint]


def import_statistics(
    statistics: Path,
    out: Path,
    *,
    constraints: Path | None = None,
    columns: Sequence[str] = (),
    tensor: str = "input",
) -> tuple[Baseline, str]:
    """Write the baseline of a ``statistics.json`` to ``out``; returns it, and what is lost.

    ``columns``: those that the model takes, in the order of the elements of ``tensor``; none: all,
    as in the file. Of ``constraints`` it is checked that they are of the same columns: what they
    ask for (values present, none negative) a baseline watches in any case. Raises WrongUsage.
    """
    known = {column.name: column for column in _read(statistics, _Statistics).features}
    if constraints is not None:
        _check_same(statistics, known, constraints)
    wanted = list(columns) or list(known)
    if missing := [name for name in wanted if name not in known]:
        raise WrongUsage(f"{statistics} has no column {missing[0]!r}, but {', '.join(known)}")
    try:
        watched = features.check(features.elements(tensor, wanted))
        values = {name: _values(known[name]) for name in wanted}
        rows = np.stack([values[name] for name in wanted], axis=1).astype(np.float32)
        fitted = baseline.fit({tensor: rows}, watched)
        bins = tuple(
            _exact(known[name], entry) for name, entry in zip(wanted, fitted.bins, strict=True)
        )
        made = baseline.made(fitted.features, bins)
        encoded = baseline.encode(made)
        baseline.decode(encoded)
    except (ProtocolError, msgspec.ValidationError) as error:
        raise WrongUsage(f"{statistics}: {error}") from None
    try:
        out.write_bytes(encoded)
    except OSError as error:
        raise WrongUsage(f"{out}: {error.strerror}") from None
    return made, monitors.NOTE_OUT_OF_TIME


def _read(file: Path, kind: type[Read]) -> Read:
    try:
        with file.open("rb") as opened:
            data = opened.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise WrongUsage(f"{file}: {error.strerror}") from None
    if len(data) > FILE_BYTES_MAX:
        raise WrongUsage(f"{file} has more than {FILE_BYTES_MAX} bytes")
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise WrongUsage(f"{file} is none of Model Monitor's files: {error}") from None


def _check_same(statistics: Path, known: dict[str, _Column], constraints: Path) -> None:
    asked = {each.name: each.inferred_type for each in _read(constraints, _Constraints).features}
    have = {column.name: column.inferred_type for column in known.values()}
    differing = sorted(
        name for name in asked.keys() | have.keys() if asked.get(name) != have.get(name)
    )
    if differing:
        raise WrongUsage(
            f"{constraints} and {statistics} differ in {differing[0]!r}: they are of two runs"
        )


def _values(column: _Column) -> NDArray[np.float64]:
    """[VALUES]: the column's distribution at equal steps, from its least value to its largest."""
    found = column.numerical_statistics
    if found is None:
        raise ProtocolError(
            f"column {column.name!r} is {column.inferred_type}, not a number: name the columns "
            "that the model takes with --columns"
        )
    if found.common.num_present == 0 or not found.min <= found.mean <= found.max:
        raise ProtocolError(f"column {column.name!r} has no values, or a mean that is none of them")
    places, weights = _weighted(column.name, found)
    order = np.argsort(places, kind="stable")
    places, weights = places[order], weights[order]
    reached = np.cumsum(weights) - weights / 2
    asked = (np.arange(VALUES) + 0.5) / VALUES * weights.sum()
    values = np.interp(asked, reached, places)
    values = np.clip(values, found.min, found.max)
    values[0], values[-1] = found.min, found.max
    return np.asarray(values)


def _weighted(name: str, found: _Numbers) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Values, and the rows that each stands for: the sketch's items, else its buckets' ends."""
    levels, present = found.distribution.kll.sketch.data, found.common.num_present
    weights = [2.0**level for level, items in enumerate(levels) for _ in items]
    if weights and abs(sum(weights) - present) <= SKETCH_ERROR * present:
        return np.array([item for items in levels for item in items]), np.array(weights)
    buckets = [each for each in found.distribution.kll.buckets if each.count > 0]
    if not buckets or any(each.upper_bound < each.lower_bound for each in buckets):
        raise ProtocolError(f"column {name!r} has no distribution that is understood")
    steps = (np.arange(VALUES // len(buckets) + 1) + 0.5) / (VALUES // len(buckets) + 1)
    places = [each.lower_bound + steps * (each.upper_bound - each.lower_bound) for each in buckets]
    shares = [np.full(len(steps), each.count / len(steps)) for each in buckets]
    return np.concatenate(places), np.concatenate(shares)


def _exact(column: _Column, bins: baseline.Bins) -> baseline.Bins:
    """With the numbers that the file knows exactly."""
    found = column.numerical_statistics
    assert found is not None
    common = found.common
    return replace(
        bins, rows=common.num_present, nulls=common.num_missing, mean=found.mean, std=found.std_dev
    )
