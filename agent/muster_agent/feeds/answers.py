"""What a feed says to its sinks: the model's answer, or the fallback's, with its quality. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from typing import Literal, assert_never

import msgspec

from muster_agent.base.feed_rules import OUTPUT
from muster_agent.base.feed_settings import WriteSettings
from muster_agent.feeds.samples import Grade, Reason
from muster_protocol.wire.errors import ProtocolError
from muster_protocol.wire.manifest import Manifest

Basis = Literal["model", "constant", "last_good", "no_decision"]
"""What an answer rests on: the model, or which of the fallbacks."""


QUALITY_CODES: Mapping[Grade, int] = {"good": 192, "uncertain": 64, "bad": 0}
"""A quality as a number for a machine, as OPC has it."""


@dataclass(frozen=True)
class FeedAnswer:
    """An answer for the sinks. ``outputs`` are flat, by name; empty when nothing is decided."""

    outputs: Mapping[str, Sequence[float]]
    grade: Grade
    reason: Reason
    basis: Basis
    model: str
    version: str
    at: float
    """Of the data it rests on; seconds since 1970."""
    label: str = ""
    """Of a classifier: the class with the highest score."""
    confidence: float | None = None
    """Of a classifier: that score."""
    signals: tuple[str, ...] = ()
    """Those whose values are not good."""
    picture: str = ""
    """Name of the picture that it is about."""
    again: bool = False
    """It was given before, and nothing new has come."""

    def value(self, wanted: str) -> float | None:
        """An output by its name, as ``risk`` or ``scores[2]``; the first of all when empty.

        None when there is no such number: nothing is decided, or the model has no such output.
        """
        found = OUTPUT.match(wanted) if wanted else None
        name = found["output"] if found else next(iter(self.outputs), "")
        index = int(found["index"] or 0) if found else 0
        numbers = self.outputs.get(name, ())
        return numbers[index] if index < len(numbers) else None


def check_value(wanted: str, manifest: Manifest) -> None:
    """Raise ProtocolError when a sink wants an output that this model doesn't have."""
    found = OUTPUT.match(wanted)
    names = [tensor.name for tensor in manifest.outputs]
    if found is not None and found["output"] not in names:
        raise ProtocolError(
            f"{manifest.model} {manifest.version} has no output {found['output']!r}; "
            f"there are {', '.join(names)}"
        )


def grade_of_basis(basis: Basis, row: Grade) -> Grade:
    """An answer is as good as what it rests on: a substitute is uncertain, no decision is bad."""
    match basis:
        case "model":
            return row
        case "constant" | "last_good":
            return "uncertain"
        case "no_decision":
            return "bad"
        case _:
            assert_never(basis)


def classified(
    manifest: Manifest, outputs: Mapping[str, Sequence[float]]
) -> tuple[str, float | None]:
    """The best class and its score; nothing of a model that is no classifier."""
    classifier = manifest.classifier
    scores = outputs.get(classifier.output, ()) if classifier is not None else ()
    if classifier is None or not scores:
        return "", None
    best = max(range(len(scores)), key=scores.__getitem__)
    return classifier.classes[best], scores[best]


def written(answer: FeedAnswer, item: WriteSettings) -> float:
    """What a write gives to a machine: the output, whether it reaches ``at_least``, or the safe
    value. Safe is whatever does not rest on a model that was asked with usable values.
    """
    value = answer.value(item.value)
    if answer.basis != "model" or answer.grade == "bad" or value is None or not isfinite(value):
        return item.safe
    return value if item.at_least is None else float(value >= item.at_least)


def message_of(answer: FeedAnswer, wanted: str, unit: str) -> bytes:
    """An answer as JSON. ``value``, the wanted output, is null when nothing is decided."""
    at = datetime.fromtimestamp(answer.at, UTC) if answer.at else None
    named = {"picture": answer.picture} if answer.picture else {}
    return msgspec.json.encode(
        {
            "value": answer.value(wanted),
            "unit": unit,
            "label": answer.label,
            "confidence": answer.confidence,
            "quality": answer.grade,
            "reason": answer.reason,
            "basis": answer.basis,
            "signals": answer.signals,
            "outputs": answer.outputs,
            "model": answer.model,
            "version": answer.version,
            "timestamp": None if at is None else at.isoformat(timespec="milliseconds"),
            **named,
        }
    )
