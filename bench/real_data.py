"""Runs of real signals in a folder: ``index.json`` and one CSV (plain or gzipped) a run.

A run's file has a header, a column a feature, rows in order of time and a last column ``event`` (1
where something is labelled as wrong); empty cells are missing values. ``index.json`` is a list of
``{"set", "run", "file", "rows_per_window", "train_rows", "window_seconds"}``; optional are
``categories`` (names of columns that are categories) and ``time`` (the column of seconds since
1970). Runs without an event are scored together. The baseline is fitted on the first
``train_rows`` rows in their order.
"""

import csv
import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muster_protocol.signals.features import Element, Feature

Rows = NDArray[np.float32]
Flags = NDArray[np.bool_]
EVENT = "event"
QUIET = "nothing wrong"


@dataclass(frozen=True, eq=False)
class Run:
    """One machine's run."""

    set: str
    name: str
    features: tuple[Feature, ...]
    training: Rows
    """[rows, features]"""
    windows: Rows
    """[windows, rows, features]: what follows."""
    events: Flags
    """[windows]: something is labelled as wrong in the window."""
    window_seconds: float
    times: NDArray[np.float64] | None = None
    """[rows of training and windows]: seconds since 1970."""

    @property
    def group(self) -> str:
        """The row of the table that it counts in."""
        return self.set if self.events.any() else QUIET

    @property
    def rows(self) -> int:
        """Of a window."""
        return self.windows.shape[1]


def read(folder: Path) -> Iterator[Run]:
    """All runs of a folder; raises ValueError naming the run and what is wrong with it."""
    for entry in json.loads((folder / "index.json").read_text()):
        try:
            yield _run(folder, entry)
        except (KeyError, OSError, ValueError) as error:
            raise ValueError(f"{folder}: run {entry.get('run')!r}: {error!r}") from error


def _run(folder: Path, entry: dict[str, Any]) -> Run:
    path = folder / entry["file"]
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    header, *lines = csv.reader(text.splitlines())
    table = np.array([[float(cell or "nan") for cell in line] for line in lines])
    if header[-1] != EVENT:
        raise ValueError(f"the last column is {header[-1]!r}, not {EVENT!r}")
    clock = entry.get("time")
    kept = [place for place, name in enumerate(header[:-1]) if name != clock]
    times = table[:, header.index(clock)] if clock else None
    rows, trained = int(entry["rows_per_window"]), int(entry["train_rows"])
    values, events = table[:, kept].astype(np.float32), table[:, -1] > 0
    whole = (len(values) - trained) // rows
    after = slice(trained, trained + whole * rows)
    categories = entry.get("categories", ())
    return Run(
        set=entry["set"],
        name=entry["run"],
        features=tuple(
            Feature(header[column], Element("x", place), _kind(header[column], categories))
            for place, column in enumerate(kept)
        ),
        training=values[:trained],
        windows=values[after].reshape(whole, rows, len(kept)),
        events=events[after].reshape(whole, rows).any(axis=1),
        window_seconds=float(entry["window_seconds"]),
        times=times,
    )


def _kind(name: str, categories: Any) -> Any:
    return "categorical" if name in categories else "numeric"
