"""How much a model's answers hang on each number of its input, from rows that it was given. Pure.

Importance is permutation importance: the values of a column are shuffled among the rows, and what
the measure loses by it is the column's weight (Breiman, Random Forests, 2001, section 10; for any
model: Fisher, Rudin and Dominici, All Models are Wrong, but Many are Useful, 2019). Curves are
partial dependence: the mean answer of the rows when one column is set to a value in all of them
(Friedman, Greedy Function Approximation, 2001, section 8.2), at quantiles of the column's values;
the band holds four fifths of the rows' own answers (Goldstein et al., Peeking Inside the Black Box,
2015). Both judge columns one at a time, so of columns that move together neither may seem to
matter, and they show the model on combinations that the data may not have.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from muster_client.packing.declare import is_held
from muster_client.packing.learning import Work
from muster_client.packing.rows import Arrays, picked
from muster_protocol.wire import explanation, limits
from muster_protocol.wire.errors import ProtocolError
from muster_protocol.wire.explanation import CurvePoint, ExplainedFeature, Explanation, Measure
from muster_protocol.wire.tensors import Tensor
from muster_protocol.wire.usable import class_index

ROWS_MAX = 256
ROWS_MIN = 20
"""Fewer tell chance, not the model."""
REPEATS = 5
SEED = 20
SECONDS_MAX = 60.0
"""Of running the model row by row; a slow model is explained on fewer rows."""
CURVE_ENDS = (0.05, 0.95)
"""Quantiles of a column's values between which its curve runs."""
BAND = (0.1, 0.9)
"""Quantiles of the rows' answers."""
DIGITS = 6
ADVICE = "unexplained"

Floats = NDArray[np.float64]
Ask = Callable[[Arrays], Arrays]
"""Run the model on rows; its answers, rows first."""
Loss = Callable[[Floats], float]
"""How bad answers are, from rows by numbers."""


class _Unexplained(Exception):
    """Why there is no report, in words that follow a colon."""


@dataclass(frozen=True)
class _Column:
    name: str
    tensor: str
    place: int
    """Of a row's numbers in the tensor, in C order."""


@dataclass(frozen=True)
class _Judge:
    measure: Measure
    reference: float | None
    loss: Loss
    rows: NDArray[np.intp]
    """Those of the data that it judges."""


def report(work: Work, ask: Ask, latency_ms: float) -> Explanation | None:
    """The report of a model that takes ``latency_ms`` a row.

    None, with a note that says why, for what can't be explained: pictures, texts, series, models
    of another runtime than ONNX, too few rows. No note where there are no data or none is wanted.
    """
    if work.options.no_explanation or work.given.is_made_up:
        return None
    try:
        found = _report(work, ask, latency_ms)
        explanation.encode(found)
    except (_Unexplained, ProtocolError) as error:
        work.notes.add(ADVICE, f"No report says which inputs the answers hang on: {error}.")
        return None
    if found.measure == "output_change":
        work.notes.add(
            "explained_by_change",
            "No row has a label that the model could give, so importance says by how much an "
            "input moves the answer, not whether the answer is better for it: give --labels.",
        )
    return found


def _report(work: Work, ask: Ask, latency_ms: float) -> Explanation:
    columns = _columns(work)
    output = _output(work)
    answers = _numbers(work.answered[output.name])
    runs = len(columns) * (REPEATS + limits.EXPLAINED_CURVE_POINTS_MAX)
    most = int(min(ROWS_MAX, SECONDS_MAX * 1e3 / (runs * max(latency_ms, 1e-3))))
    if most < ROWS_MIN:
        raise _Unexplained(
            f"at {latency_ms:.0f} ms a row, {ROWS_MIN} rows of {len(columns)} inputs would take "
            f"longer than {SECONDS_MAX:g} s"
        )
    judge = _judge(work, answers, most)
    if len(judge.rows) < ROWS_MIN:
        raise _Unexplained(f"there are {len(judge.rows)} rows, it takes {ROWS_MIN}")
    place = _shown(work, answers)
    rows = {name: array[judge.rows] for name, array in work.taken.inputs.items()}
    before = judge.loss(answers[judge.rows])
    features = []
    for number, column in enumerate(columns):
        asked, at = _variants(rows, column, number)
        found = ask(asked)[output.name]
        if is_held(found):
            raise _Unexplained(f"the size of the output {output.name!r} differs from row to row")
        parts = np.split(_numbers(found), REPEATS + len(at))
        losses = np.array([judge.loss(part) for part in parts[:REPEATS]]) - before
        features.append(
            ExplainedFeature(
                column.name,
                _rounded(losses.mean()),
                _rounded(losses.std(ddof=1)),
                tuple(
                    _point(value, part[:, place])
                    for value, part in zip(at, parts[REPEATS:], strict=True)
                ),
            )
        )
    classifier = work.classifier
    return Explanation(
        measure=judge.measure,
        reference=None if judge.reference is None else _rounded(judge.reference),
        output=output.name,
        of=classifier.classes[place] if classifier is not None else "",
        rows=len(judge.rows),
        repeats=REPEATS,
        seed=SEED,
        features=tuple(sorted(features, key=lambda each: -each.importance)),
    )


def _columns(work: Work) -> list[_Column]:
    if work.model.runtime != "onnx":
        raise _Unexplained(f"only ONNX models are explained, this is one for {work.model.runtime}")
    if work.states or work.options.sessions:
        raise _Unexplained("its answers hang on what it was given before, too")
    found = [column for tensor in work.taken.tensors for column in _of_tensor(work, tensor)]
    if len(found) > limits.EXPLAINED_FEATURES_MAX:
        raise _Unexplained(
            f"the model takes {len(found)} numbers a row, at most "
            f"{limits.EXPLAINED_FEATURES_MAX} are explained"
        )
    return found


def _of_tensor(work: Work, tensor: Tensor) -> Iterator[_Column]:
    what = f"the input {tensor.name!r}"
    if tensor.datatype == "BYTES":
        raise _Unexplained(f"{what} is text, whose words are no numbers")
    if tensor.batch is None or tensor.shape[tensor.batch] not in {-1, 1}:
        raise _Unexplained(f"{what} isn't given row by row")
    sizes = [size for size in tensor.element_shape if size != 1]
    if tensor.name in work.options.image or len(sizes) > 1:
        raise _Unexplained(
            f"{what} is a picture or a series ({' × '.join(map(str, tensor.element_shape))}), of "
            "which no single number means anything"
        )
    width = sizes[0] if sizes else 1
    names = work.taken.columns.get(tensor.name, [])
    for place in range(width):
        own = tensor.name if width == 1 else f"{tensor.name}[{place}]"
        yield _Column(names[place] if len(names) == width else own, tensor.name, place)


def _output(work: Work) -> Tensor:
    """Whose answers are judged: the classifier's, or the first."""
    name = work.classifier.output if work.classifier is not None else work.outputs[0].name
    output = next(tensor for tensor in work.outputs if tensor.name == name)
    answers = work.answered[name]
    if output.batch is None or is_held(answers) or answers.dtype.kind not in "fiub":
        raise _Unexplained(f"the output {name!r} has no numbers row by row")
    return output


def _judge(work: Work, answers: Floats, most: int) -> _Judge:
    labelled = _labels(work, len(answers))
    known = np.flatnonzero(np.isfinite(labelled))
    if len(known):
        rows = known[picked(len(known), most)]
        truth = labelled[rows]
        if work.classifier is not None:

            def wrong(given: Floats) -> float:
                return float((given.argmax(axis=1) != truth).mean())

            return _Judge("accuracy", 1.0 - wrong(answers[rows]), wrong, rows)

        def apart(given: Floats) -> float:
            return float(np.abs(given[:, 0] - truth).mean())

        return _Judge("mean_absolute_error", apart(answers[rows]), apart, rows)
    rows = picked(len(answers), most)
    own = answers[rows]

    def moved(given: Floats) -> float:
        if work.classifier is not None:  # as far as two distributions are apart: total variation
            return float(np.abs(given - own).sum(axis=1).mean() / 2)
        return float(np.abs(given[:, 0] - own[:, 0]).mean())

    return _Judge("output_change", None, moved, rows)


def _labels(work: Work, count: int) -> Floats:
    """Of each row the class's number or the true value; NaN where it isn't known."""
    labels = (work.given.labels or [])[:count]
    if work.classifier is not None:
        classes = work.classifier.classes
        found = [class_index(label, classes) for label in labels]
        return np.array([np.nan if each is None else each for each in found], np.float64)
    return np.array([_value(label) for label in labels], np.float64)


def _value(label: str) -> float:
    try:
        return float(label)
    except ValueError:
        return np.nan


def _shown(work: Work, answers: Floats) -> int:
    """The number of the answer that curves show: of two classes the second, of more the one with
    the highest mean score."""
    if work.classifier is None:
        return 0
    return 1 if answers.shape[1] == 2 else int(answers.mean(axis=0).argmax())


def _variants(rows: Arrays, column: _Column, number: int) -> tuple[Arrays, Sequence[float]]:
    """The rows, once with the column shuffled for each repeat and once with it at each value of
    the curve; and those values."""
    own = rows[column.tensor]
    count = len(own)
    values = own.reshape(count, -1)[:, column.place]
    grid = _grid(values)
    parts = [
        values[np.random.default_rng([SEED, number, repeat]).permutation(count)]
        for repeat in range(REPEATS)
    ] + [np.full(count, value, values.dtype) for value in grid]
    copies = {name: np.concatenate([array] * len(parts)) for name, array in rows.items()}
    changed = copies[column.tensor].reshape(count * len(parts), -1)
    changed[:, column.place] = np.concatenate(parts)
    copies[column.tensor] = changed.reshape(copies[column.tensor].shape)
    return copies, [float(value) for value in grid]


def _grid(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """Values that the data have: all of a few, else at quantiles; none of a constant."""
    known = values[np.isfinite(values.astype(np.float64))]
    distinct = np.unique(known)
    if len(distinct) < 2:
        return distinct[:0]
    most = limits.EXPLAINED_CURVE_POINTS_MAX
    if len(distinct) <= most:
        return distinct
    places = np.quantile(np.arange(len(known)), np.linspace(*CURVE_ENDS, most), method="nearest")
    return np.unique(np.sort(known)[places.astype(np.intp)])


def _point(at: float, answers: Floats) -> CurvePoint:
    low, high = np.quantile(answers, BAND)
    return CurvePoint(*map(_rounded, (at, answers.mean(), low, high)))


def _numbers(answers: NDArray[np.generic]) -> Floats:
    """Answers as rows by numbers; raises where one isn't finite."""
    found = np.asarray(answers, np.float64).reshape(len(answers), -1)
    if not np.isfinite(found).all():
        raise _Unexplained("some of its answers are no finite numbers")
    return found


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
