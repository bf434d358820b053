"""Running a model on rows, by themselves and in batches, and where its answers have their batch."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muster_client.packing.findings import Request

Arrays = Mapping[str, NDArray[Any]]
Run = Callable[[Arrays], Arrays]


@dataclass(frozen=True)
class Ran:
    """What running showed."""

    answers: dict[str, NDArray[Any]]
    """Rows first; of an output without a batch, or of varying size, an object array of each
    run's own."""
    axes: dict[str, int | None]
    latency_ms: float
    repeats: bool
    batches: bool
    fault: str


def run(model: Run, inputs: Arrays, request: Request) -> Ran:
    """Run all rows; whatever the model raises when it is given a single row comes through."""
    group = request.group
    rows = len(next(iter(inputs.values()))) // group * group

    def ask(begin: int, end: int, whole: int | None = None) -> Arrays:
        return model(taken(inputs, request.axes, begin, end, begin if whole is None else whole))

    singles, milliseconds = [], []
    ends = min(max(request.singles, 1) * group, rows)
    for begin in range(0, ends, group):
        begun = time.perf_counter()
        singles.append(ask(begin, begin + group))
        milliseconds.append((time.perf_counter() - begun) * 1e3)
    axes, batches, fault = _axes(ask, singles, request)
    step = (
        max(request.batch // group * group, group)
        if batches and _shared(inputs, request)
        else group
    )
    answers = singles + [ask(at, min(at + step, rows)) for at in range(ends, rows, step)]
    repeats = alike(ask(0, group), singles[0])
    joined = {name: _rows_first([a[name] for a in answers], axis) for name, axis in axes.items()}
    return Ran(joined, axes, float(np.median(milliseconds)), repeats, batches, fault)


def _shared(inputs: Arrays, request: Request) -> bool:
    """Whether all rows have the same of what isn't given row by row."""
    whole = (array for name, array in inputs.items() if request.axes[name] is None)
    return all((array == array[:1]).all() for array in whole)


def taken(
    inputs: Arrays, axes: Mapping[str, int | None], begin: int, end: int, whole: int
) -> dict[str, NDArray[Any]]:
    """A request of some rows, along their tensors' batch axes; of what has none, row ``whole``."""
    request = {}
    for name, array in inputs.items():
        axis = axes[name]
        if axis is None:
            request[name] = np.asarray(array[whole])
        else:
            request[name] = np.ascontiguousarray(np.moveaxis(array[begin:end], 0, axis))
    return request


def _axes(
    ask: Callable[..., Arrays], singles: Sequence[Arrays], request: Request
) -> tuple[dict[str, int | None], bool, str]:
    """(Batch axis of each output, whether batches give what single rows give, why not)."""
    alone: dict[str, int | None] = {
        name: request.output_axes.get(name, _first_axis([s[name] for s in singles], request.group))
        for name in singles[0]
    }
    batched = any(axis is not None for axis in request.axes.values())
    if request.batch < 2 or request.group > 1 or len(singles) < 2 or not batched:
        return alone, False, ""
    try:
        pair, second = ask(0, 2), ask(1, 2, 0)
    except Exception as error:
        return alone, False, line(error)
    axes = {name: _doubled(singles[0][name].shape, array.shape) for name, array in pair.items()}
    for name, array in pair.items():
        parts, axis = [singles[0][name], second[name]], axes[name]
        want = parts[0] if axis is None else np.concatenate(parts, axis)
        if not _near(array, want):
            return alone, False, ""
    return axes, True, ""


def _first_axis(parts: Sequence[NDArray[Any]], group: int) -> int | None:
    """The first dimension, where it counts the rows of every run."""
    return 0 if all(part.ndim and part.shape[0] == group for part in parts) else None


def _doubled(single: tuple[int, ...], pair: tuple[int, ...]) -> int | None:
    """The dimension that counts rows: 1 for one row, 2 for two."""
    if len(single) != len(pair):
        return None
    sizes = enumerate(zip(single, pair, strict=True))
    grown = [place for place, (alone, both) in sizes if alone != both]
    rows = len(grown) == 1 and (single[grown[0]], pair[grown[0]]) == (1, 2)
    return grown[0] if rows else None


def _rows_first(parts: Sequence[NDArray[Any]], axis: int | None) -> NDArray[Any]:
    if axis is not None:
        moved = [np.moveaxis(part, axis, 0) for part in parts]
        if len({part.shape[1:] for part in moved}) == 1:
            return np.concatenate(moved)
        parts = [row for part in moved for row in part]
    held = np.empty(len(parts), object)
    for place, part in enumerate(parts):
        held[place] = np.asarray(part)
    return held


def alike(first: Arrays, second: Arrays) -> bool:
    """Whether answers agree as far as batches may: kernels add up in other orders."""
    return all(_near(array, second[name]) for name, array in first.items())


def _near(array: NDArray[Any], other: NDArray[Any]) -> bool:
    if array.shape != other.shape:
        return False
    match array.dtype.kind:
        case "f" | "c":
            return bool(np.allclose(array, other, rtol=1e-3, atol=1e-4, equal_nan=True))
        case "i" | "u":
            apart = np.abs(array.astype(np.float64) - other.astype(np.float64))
            return bool((apart <= 1).all())
        case _:
            return bool(np.array_equal(array, other))


def line(error: BaseException) -> str:
    """An error as one line of bounded length."""
    return " ".join(str(error).split())[:1000] or type(error).__name__
