"""Is an output a classifier's, and what are its classes? Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muster_client.failures import WrongUsage
from muster_client.packing.advice import Notes
from muster_protocol.wire.limits import CLASSES_MAX
from muster_protocol.wire.manifest import Classifier
from muster_protocol.wire.tensors import Tensor
from muster_protocol.wire.usable import class_index, elements, is_recorded

SUM_TOLERANCE = 1e-2


@dataclass(frozen=True)
class Asked:
    """What a person says of the classes."""

    classes: tuple[str, ...] = ()
    output: str = ""
    none: bool = False
    """The model is no classifier, whatever it looks like."""


def classifier(
    outputs: Sequence[Tensor],
    answers: Mapping[str, NDArray[Any]],
    asked: Asked,
    known: Sequence[str],
    labels: Sequence[str] | None,
    notes: Notes,
) -> Classifier | None:
    """The classifier that outputs look like: scores of one sign that add up to one.

    ``known`` are names in the model; ``labels`` those in the data, row by row. Raises WrongUsage
    when what was asked for can't be.
    """
    if asked.none:
        return None
    output = _chosen(outputs, answers, asked)
    if output is None:
        return None
    count = elements(output)
    names, whence = _names(count, asked, known, _by_score(answers[output.name], labels))
    if whence == "numbers":
        notes.add(
            "class_numbers",
            f"The classes of {output.name!r} have no names, so they are 0 to {count - 1}: name "
            "them with --classes, in the order of the scores.",
        )
    if whence == "labels":
        notes.add(
            "class_labels",
            f"The classes of {output.name!r} are named by the labels that they are most often "
            f"right about ({', '.join(names[:6])}{', …' * (count > 6)}): name them with --classes "
            "if that is wrong.",
        )
    return Classifier(output.name, names)


def _chosen(
    outputs: Sequence[Tensor], answers: Mapping[str, NDArray[Any]], asked: Asked
) -> Tensor | None:
    if asked.output:
        found = next((tensor for tensor in outputs if tensor.name == asked.output), None)
        if found is None:
            names = ", ".join(tensor.name for tensor in outputs)
            raise WrongUsage(f"--classifier {asked.output}: no such output; there are {names}")
        return found
    like = [tensor for tensor in outputs if _looks_like_scores(tensor, answers[tensor.name])]
    if not like and asked.classes:
        like = [
            tensor
            for tensor in outputs
            if is_recorded(tensor) and elements(tensor) == len(asked.classes)
        ]
        if not like:
            raise WrongUsage(
                f"--classes names {len(asked.classes)} classes; no output has as many scores"
            )
    return like[0] if like else None


def _looks_like_scores(tensor: Tensor, answer: NDArray[Any]) -> bool:
    if not is_recorded(tensor) or not tensor.datatype.startswith("FP"):
        return False
    if not 2 <= elements(tensor) <= CLASSES_MAX or max(tensor.shape[1:]) != elements(tensor):
        return False
    scores = np.asarray(answer, np.float64).reshape(len(answer), -1)
    return bool(
        np.isfinite(scores).all()
        and (scores >= -SUM_TOLERANCE).all()
        and np.allclose(scores.sum(axis=1), 1.0, atol=SUM_TOLERANCE)
    )


def _names(
    count: int, asked: Asked, known: Sequence[str], by_score: Sequence[str]
) -> tuple[tuple[str, ...], str]:
    """Names of classes, and where they are from."""
    if asked.classes:
        if len(asked.classes) != count:
            raise WrongUsage(
                f"--classes names {len(asked.classes)} classes, the model gives {count} scores"
            )
        return asked.classes, "asked"
    if len(known) == count:
        return tuple(known), "model"
    if len(by_score) == count:
        return tuple(by_score), "labels"
    return tuple(map(str, range(count))), "numbers"


def _by_score(scores: NDArray[Any], labels: Sequence[str] | None) -> list[str]:
    """The labels in the order of the scores; empty when they are not as many.

    Each score's is the label that most of its rows have; where two scores claim the same, all
    labels are sorted, as most trainers do.
    """
    distinct = sorted({label for label in labels or () if label}, key=_order)
    if labels is None or len(distinct) != _elements_of(scores):
        return []
    guesses = scores.reshape(len(scores), -1).argmax(axis=1).tolist()
    tallies = [Counter[str]() for _ in distinct]
    for guess, label in zip(guesses, labels, strict=True):
        if label:
            tallies[guess][label] += 1
    claimed = [tally.most_common(1)[0][0] if tally else "" for tally in tallies]
    return claimed if sorted(claimed) == sorted(distinct) else distinct


def _elements_of(scores: NDArray[Any]) -> int:
    return scores.size // max(len(scores), 1)


def _order(label: str) -> tuple[float, str]:
    try:
        return float(label), ""
    except ValueError:
        return float("inf"), label


def accuracy(
    found: Classifier, scores: NDArray[Any], labels: Sequence[str], notes: Notes
) -> float | None:
    """Share of rows whose label the model gives; None when no label is one of its classes."""
    truths = [class_index(label, found.classes) for label in labels]
    flat = np.asarray(scores).reshape(len(scores), -1)
    pairs = [
        (truth, int(guess))
        for truth, guess in zip(truths, flat.argmax(axis=1), strict=True)
        if truth is not None
    ]
    if not pairs:
        notes.add(
            "labels_unknown",
            f"No label of the data is a class of the model ({', '.join(found.classes[:6])}): name "
            "them alike with --classes, or accuracy can't be counted.",
        )
        return None
    right = sum(truth == guess for truth, guess in pairs) / len(pairs)
    usual = Counter(truth for truth, _ in pairs).most_common(1)[0][1] / len(pairs)
    if right < usual:
        notes.add(
            "accuracy",
            f"The model is right in {right:.1%} of the labelled rows, fewer than always saying "
            f"the most frequent class ({usual:.1%}): are the classes in the order of the scores, "
            "and the columns in the order of training?",
        )
    return right


def mean_error(answer: NDArray[Any], labels: Sequence[str]) -> float | None:
    """Mean distance of the first output's first number from numeric labels; None without such."""
    try:
        truths = np.array([float(label) for label in labels])
    except ValueError:
        return None
    given = np.asarray(answer, np.float64).reshape(len(answer), -1)[:, 0]
    apart = np.abs(given - truths)
    finite = apart[np.isfinite(apart)]
    return float(finite.mean()) if len(finite) else None
