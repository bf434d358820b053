"""`muster baseline`: what training data looks like, as the file a bundle carries. Needs no hub."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from muster_client.commands.training_data import TrainingData, read
from muster_client.failures import Exit, OperatorError
from muster_client.terminal import output
from muster_client.terminal.output import Json
from muster_protocol.signals import baseline, features, foresight, learning, monitors
from muster_protocol.signals.baseline import Baseline
from muster_protocol.signals.learning import InTime
from muster_protocol.wire.errors import ProtocolError

app = typer.Typer(help="Training distributions to compare with.", no_args_is_help=True)
WINDOW_SECONDS = 300.0
ROWS_MIN, ROWS_MAX = 10, 300
"""Rows a window that are guessed when nothing says how many a device sees."""


@app.command("fit")
def fit(
    data: Annotated[
        Path, typer.Argument(help="Training data: .csv with a header, .parquet or .npz.")
    ],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write.")] = Path("baseline.bin"),
    tensor: Annotated[
        str, typer.Option(help="The model input that a table's columns are, in order.")
    ] = "input",
    image: Annotated[
        list[str] | None,
        typer.Option(help="TENSOR=HEIGHTxWIDTH: watch an image's statistics, not its pixels."),
    ] = None,
    classifier: Annotated[
        str | None, typer.Option(help="The array of class scores: watch class and confidence.")
    ] = None,
    time: Annotated[
        str, typer.Option(help="The column with each row's time (ISO 8601 or seconds since 1970).")
    ] = "",
    window_rows: Annotated[
        int | None, typer.Option(min=1, help="Rows that a device sees in one window.")
    ] = None,
    window_seconds: Annotated[
        float, typer.Option(min=1, help="How long a device's windows are.")
    ] = WINDOW_SECONDS,
    context: Annotated[
        str, typer.Option(help="The column that tells recipe, mode or product.")
    ] = "",
    shuffled: Annotated[
        bool, typer.Option("--shuffled", help="Rows are in no order: alerts will be worse.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Learn what is normal from training rows in their order, and say how good alerts will be.

    Each feature is binned (20 quantiles, two tails, two bins beyond). Rows in order of time also
    show how a device's windows differ when nothing is wrong.
    """
    try:
        training = read(data, tensor, time)
        if context:
            training = _categorical(training, context)
        watched = watch(training, image or [], classifier)
        fitted, note = _fitted(
            training, watched, shuffled=shuffled,
            in_time=InTime(
                rows=window_rows or _rows_of(training, window_seconds),
                window_seconds=window_seconds, times=training.times, context=context,
            ),
        )  # fmt: skip
        encoded = baseline.encode(fitted)
    except ProtocolError as error:
        raise OperatorError(f"{data}: {error}", Exit.USAGE) from None
    try:
        out.write_bytes(encoded)
    except OSError as error:
        raise OperatorError(f"{out}: {error.strerror}", Exit.USAGE) from None
    rows = _rows(fitted)
    if as_json:
        known = {"file": str(out), "sha256": fitted.digest, "features": rows}
        output.show_json(known | {"in_time": _in_time(fitted), "note": note})
        return
    heads = ("FEATURE", "KIND", "ROWS", "NULLS", "MEAN", "STD", "FOUND FROM", "WANDERS")
    output.show(
        output.table(heads, (_cells(row) for row in rows), empty=""),
        *_learnt(fitted),
        *([f"note: {note}"] if note else []),
        f"{out}: {output.size(len(encoded))}",
    )


def _fitted(
    training: TrainingData, watched: list[features.Feature], *, shuffled: bool, in_time: InTime
) -> tuple[Baseline, str]:
    """The baseline, and what is lost where rows can't teach how windows differ."""
    rows = len(next(iter(training.tensors.values()), ()))
    windows = rows // in_time.rows
    if not shuffled and windows >= learning.WINDOWS_MIN:
        note = ""
        if windows < learning.WINDOWS_WANTED:
            note = (
                f"{windows} windows of {in_time.rows} rows: with {learning.WINDOWS_WANTED} or more "
                "(four times as many where a feature wanders) smaller changes would be found"
            )
        return learning.fit(training.tensors, watched, in_time), note
    if in_time.context:
        raise ProtocolError(f"{windows} windows are too few to learn each {in_time.context!r}")
    return baseline.fit(training.tensors, watched), monitors.NOTE_OUT_OF_TIME


def _rows_of(training: TrainingData, window_seconds: float) -> int:
    """Rows a window: as many as the times say, else enough windows to learn from."""
    rows = len(next(iter(training.tensors.values()), ()))
    if training.times is not None and rows > 1:
        step = float(np.median(np.diff(training.times)))
        if step > 0:
            return max(1, round(window_seconds / step))
    return int(np.clip(rows // learning.WINDOWS_WANTED, ROWS_MIN, ROWS_MAX))


def _categorical(training: TrainingData, context: str) -> TrainingData:
    columns = {
        name: [(column, "categorical" if column == context else kind) for column, kind in listed]
        for name, listed in training.columns.items()
    }
    return replace(training, columns=columns)


def _rows(fitted: Baseline) -> list[dict[str, Any]]:
    outlooks = {outlook.feature: outlook for outlook in foresight.outlooks(fitted)}
    rows = []
    for feature, bins in zip(fitted.features, fitted.bins, strict=True):
        outlook = outlooks.get(feature.name)
        rows.append(
            {"feature": feature.name, "kind": feature.kind, "rows": bins.rows, "nulls": bins.nulls,
             "mean": bins.mean, "std": bins.std,
             "found_from": None if outlook is None else outlook.shift,
             "wanders": None if outlook is None else outlook.wanders}
        )  # fmt: skip
    return rows


def _cells(row: dict[str, Any]) -> tuple[Any, ...]:
    cells = dict(row)
    for name in ("found_from", "wanders"):
        cells[name] = "" if row[name] is None else f"{row[name]:.2g} σ"
    return tuple(cells.values())


def _in_time(fitted: Baseline) -> dict[str, Any] | None:
    if fitted.normal is None:
        return None
    file = fitted.normal.file
    return {
        "windows": file.windows,
        "window_rows": file.rows,
        "window_seconds": file.window_seconds,
        "seasonal": fitted.normal.profile is not None,
        "regimes": sorted(fitted.normal.regimes),
    }


def _learnt(fitted: Baseline) -> list[str]:
    """What the rows' order taught, in words."""
    learnt = _in_time(fitted)
    if learnt is None:
        return []
    season = "yes" if learnt["seasonal"] else "no (needs --time and four weeks)"
    windows = f"{learnt['windows']} windows of {learnt['window_rows']} rows"
    regimes = len(learnt["regimes"]) or "none (--context)"
    within = f"{foresight.WINDOWS} windows in about half of the cases, a smaller one later"
    wandering = (
        f"{row['feature']} wanders: the mean of a dozen windows strays by {row['wanders']:.2g} σ "
        "without a fault"
        for row in _rows(fitted)
        if row["wanders"] is not None
    )
    return [
        f"learnt from {windows}; the usual week: {season}; regimes: {regimes}",
        f"FOUND FROM: a lasting shift of so many standard deviations shows within {within}",
        *wandering,
    ]


def watch(
    training: TrainingData, images: list[str], classifier: str | None
) -> list[features.Feature]:
    """What to watch: images by their statistics, scores as classes, all else element by element."""
    tensors = training.tensors
    sizes = dict(_image(text) for text in images)
    watched: list[features.Feature] = []
    for name in [*sizes, *filter(None, [classifier])]:
        if name not in tensors:
            raise OperatorError(
                f"no array {name!r} in the data, which has {', '.join(tensors)}", Exit.USAGE
            )
    for name, array in tensors.items():
        if name in sizes:
            height, width = sizes[name]
            watched += features.image(name, height=height, width=width)
        elif name == classifier:
            watched += features.classifier(name)
        elif name in training.columns:
            watched += [
                features.Feature(column, features.Element(name, index), kind)
                for index, (column, kind) in enumerate(training.columns[name])
            ]
        else:
            width = int(np.prod(array.shape[1:], dtype=np.int64))
            watched += features.elements(name, width)
    return watched


def _image(text: str) -> tuple[str, tuple[int, int]]:
    name, _, size = text.rpartition("=")
    height, _, width = size.partition("x")
    if not (name and height.isdecimal() and width.isdecimal()):
        raise OperatorError(f"image {text!r}: write it as TENSOR=HEIGHTxWIDTH", Exit.USAGE)
    return name, (int(height), int(width))
