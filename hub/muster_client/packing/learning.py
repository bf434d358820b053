"""What the data say of a model: how good it is, and what is normal. Pure."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muster_client.failures import WrongUsage
from muster_client.packing import scores, watched
from muster_client.packing.advice import Notes
from muster_client.packing.options import Options, plain_name
from muster_client.packing.packed import ModelFile
from muster_client.packing.rows import Rows
from muster_client.packing.source import Data
from muster_client.training.data import TrainingData
from muster_client.training.fitting import fit_rows
from muster_protocol.signals.baseline import Baseline
from muster_protocol.signals.features import Feature
from muster_protocol.wire.card import group_metric
from muster_protocol.wire.errors import ProtocolError
from muster_protocol.wire.manifest import Classifier
from muster_protocol.wire.tensors import Tensor

GROUPS_MAX = 64
"""Values of a column by which metrics are kept apart."""
ROWS = "rows"


@dataclass(frozen=True)
class Work:
    """A model that has been run on its data."""

    model: ModelFile
    options: Options
    given: Data
    taken: Rows
    outputs: tuple[Tensor, ...]
    answered: Mapping[str, NDArray[Any]]
    classifier: Classifier | None
    states: Mapping[str, str]
    """Inputs that the caller fills from an output, and that output."""
    notes: Notes

    @property
    def name(self) -> str:
        """Of the model."""
        return self.options.name or plain_name(self.model.path.stem)


def metrics(work: Work) -> dict[str, float]:
    """How good the model is by the data's labels; empty without any."""
    if work.given.labels is None:
        return {}
    labels = work.given.labels[: len(next(iter(work.answered.values())))]
    return _measured(work, labels) | _by_group(work, labels)


def _by_group(work: Work, labels: list[str]) -> dict[str, float]:
    """The same metrics and the number of rows, for each value of each column of groups."""
    found: dict[str, float] = {}
    for column, values in work.given.groups.items():
        known = [*dict.fromkeys(values)]
        if len(known) > GROUPS_MAX:
            raise WrongUsage(
                f"--group {column}: {len(known)} different values, at most {GROUPS_MAX}: give a "
                "column of groups, such as sites"
            )
        for value in known:
            rows = np.flatnonzero([each == value for each in values[: len(labels)]])
            answered = {name: array[rows] for name, array in work.answered.items()}
            apart = dataclasses.replace(work, answered=answered, notes=Notes())
            own = _measured(apart, [labels[row] for row in rows]) if len(rows) else {}
            for metric, number in {ROWS: float(len(rows)), **own}.items():
                found[group_metric(metric, column, value)] = number
    return found


def _measured(work: Work, labels: list[str]) -> dict[str, float]:
    if work.classifier is not None:
        answers = work.answered[work.classifier.output]
        right = scores.accuracy(work.classifier, answers, labels, work.notes)
        return {} if right is None else {"accuracy": right}
    first = work.answered[work.outputs[0].name]
    apart = scores.mean_error(first, labels) if first.dtype.kind in "fiub" else None
    return {} if apart is None else {"mean_absolute_error": apart}


def baseline_of(work: Work) -> Baseline | None:
    """What is normal, learnt from the training data; None without such. Raises WrongUsage."""
    options, notes = work.options, work.notes
    if not work.given.is_training and not options.no_baseline:
        notes.add(
            "no_baseline",
            "There is no baseline, so drift won't be seen: give the training data with "
            "--data FILE.csv (or .parquet, .npz).",
        )
    if options.no_baseline or not work.given.is_training:
        return None
    features = _watched(work)
    if not features:
        notes.add("no_baseline", "Nothing of the model can be watched, so drift won't be seen.")
        return None
    count = len(next(iter(work.answered.values())))
    inputs = {name: array[:count] for name, array in work.taken.inputs.items()}
    times = None if work.given.times is None else work.given.times[:count]
    try:
        fitted, note = fit_rows(
            TrainingData({**inputs, **work.answered}, times=times),
            watched.with_context(features, options.context),
            window_rows=options.window_rows,
            window_seconds=options.window_seconds,
            context=options.context,
            shuffled=options.shuffled,
        )
    except ProtocolError as error:
        raise WrongUsage(f"{work.given.origin}: {error}") from None
    if note and not options.shuffled:
        notes.add("few_windows", _few_windows(work.given, fitted, note))
    return fitted


def _watched(work: Work) -> list[Feature]:
    """Features of all but the state that a caller carries."""
    taken = dataclasses.replace(
        work.taken,
        tensors=tuple(t for t in work.taken.tensors if t.name not in work.states),
    )
    outputs = [tensor for tensor in work.outputs if tensor.name not in work.states.values()]
    images = {name: _image(name, text) for name, text in work.options.image.items()}
    return watched.features_of(taken, outputs, work.classifier, images, work.name, work.notes)


def _few_windows(given: Data, fitted: Baseline, note: str) -> str:
    if fitted.normal is not None:
        return f"Baseline: {note}."
    return (
        f"Baseline: {given.data_rows} rows are too few windows to learn how windows differ when "
        "nothing is wrong, so only the rows' distribution is known and slow signals raise false "
        "alerts: give more rows in order of time, or fewer rows a window (--window-rows); "
        "--shuffled says that there is no order."
    )


def _image(name: str, text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal()):
        raise WrongUsage(f"--image {name}={text}: write it as {name}=HEIGHTxWIDTH")
    return int(height), int(width)
