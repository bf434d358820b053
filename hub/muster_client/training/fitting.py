"""A baseline from a file of training data: what is watched, and its distribution."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from muster_client.failures import WrongUsage
from muster_client.training.data import TrainingData, read
from muster_protocol.signals import baseline, features, learning, monitors
from muster_protocol.signals.baseline import Baseline
from muster_protocol.signals.learning import InTime
from muster_protocol.wire.errors import ProtocolError

WINDOW_SECONDS = 300.0
ROWS_MIN, ROWS_MAX = 10, 300
"""Rows a window that are guessed when nothing says how many a device sees."""


def fit_file(
    data: Path,
    out: Path,
    *,
    tensor: str = "input",
    images: Iterable[str] = (),
    classifier: str | None = None,
    time: str = "",
    window_rows: int | None = None,
    window_seconds: float = WINDOW_SECONDS,
    context: str = "",
    shuffled: bool = False,
) -> tuple[Baseline, str]:
    """Learn what is normal from ``data`` and write the baseline to ``out``, as a bundle carries it.

    Columns of a table are the elements of ``tensor``; ``images`` are ``TENSOR=HEIGHTxWIDTH``;
    ``classifier`` is the array of class scores. Rows are taken in their order, or by the column
    ``time``, and cut into windows of ``window_rows``; ``context`` is the column that tells recipe,
    mode or product. ``shuffled`` rows teach only their distribution. Returns the baseline and a
    note of what is lost, empty when nothing is. Raises WrongUsage naming the file at fault.
    """
    try:
        training = read(data, tensor, time)
        if context:
            training = _categorical(training, context)
        fitted, note = fit_rows(
            training, watch(training, images, classifier), window_rows=window_rows,
            window_seconds=window_seconds, context=context, shuffled=shuffled,
        )  # fmt: skip
        encoded = baseline.encode(fitted)
    except ProtocolError as error:
        raise WrongUsage(f"{data}: {error}") from None
    try:
        out.write_bytes(encoded)
    except OSError as error:
        raise WrongUsage(f"{out}: {error.strerror}") from None
    return fitted, note


def fit_rows(
    training: TrainingData,
    watched: list[features.Feature],
    *,
    window_rows: int | None = None,
    window_seconds: float = WINDOW_SECONDS,
    context: str = "",
    shuffled: bool = False,
) -> tuple[Baseline, str]:
    """The baseline of rows in their order, as ``fit_file`` makes it, and a note of what is lost.

    Raises ProtocolError.
    """
    in_time = InTime(
        rows=window_rows or _rows_of(training, window_seconds),
        window_seconds=window_seconds, times=training.times, context=context,
    )  # fmt: skip
    return _fitted(training, watched, shuffled=shuffled, in_time=in_time)


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


def watch(
    training: TrainingData, images: Iterable[str], classifier: str | None
) -> list[features.Feature]:
    """What to watch: images by their statistics, scores as classes, all else element by element."""
    tensors = training.tensors
    sizes = dict(_image(text) for text in images)
    watched: list[features.Feature] = []
    for name in [*sizes, *filter(None, [classifier])]:
        if name not in tensors:
            raise WrongUsage(f"no array {name!r} in the data, which has {', '.join(tensors)}")
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
        raise WrongUsage(f"image {text!r}: write it as TENSOR=HEIGHTxWIDTH")
    return name, (int(height), int(width))
