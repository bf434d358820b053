"""What labels said of a device's models: how many came, how many were right, how far off answers
were, and how many met no answer. Nothing here writes."""

from dataclasses import dataclass, field
from typing import Any

from sqlmodel import Session, col, select

from muster_hub.access.scope import Scope
from muster_hub.storage import models, selecting
from muster_protocol.signals import summary_wire
from muster_protocol.signals.summary import LabelErrors, Summary, added
from muster_protocol.wire.errors import MusterError

WINDOWS_MAX = 5000
"""Not yet in a day: some hours of the shortest windows."""
DAYS_MAX = 800


@dataclass(frozen=True)
class LabelSums:
    """Labels of one version."""

    right: int = 0
    wrong: int = 0
    unmatched: int = 0
    """For an inference that isn't remembered, or with a meaning that the model doesn't know."""
    errors: LabelErrors = field(default_factory=LabelErrors)

    def __add__(self, other: "LabelSums") -> "LabelSums":
        return LabelSums(
            added(self.right, other.right),
            added(self.wrong, other.wrong),
            added(self.unmatched, other.unmatched),
            self.errors + other.errors,
        )

    @classmethod
    def of(cls, summary: Summary) -> "LabelSums":
        """Those of a summary."""
        counts = summary.counts
        return cls(
            counts.labels_right, counts.labels_wrong, counts.labels_unmatched, summary.label_errors
        )

    def shown(self) -> dict[str, Any]:
        """As the API has them; None where no label could say."""
        judged = self.right + self.wrong
        return {
            "labels": judged + self.errors.count,
            "accuracy": self.right / judged if judged else None,
            "unmatched": self.unmatched,
        } | regression(self.errors)


def regression(errors: LabelErrors) -> dict[str, float | None]:
    """How far a regression's answers were from the labels, in their unit."""
    if not errors.count:
        return {"mean_absolute_error": None, "root_mean_square_error": None}
    return {
        "mean_absolute_error": errors.absolute / errors.count,
        "root_mean_square_error": (errors.square / errors.count) ** 0.5,
    }


def by_version(session: Session, scope: Scope, device: str) -> dict[str, LabelSums]:
    """A device's labels by ``model/version``, each window once; of models in scope."""
    found: dict[str, LabelSums] = {}
    window, day = models.SummaryWindow, models.Rollup
    recent = select(window.model, window.version, window.payload).where(
        window.device == device, window.fault == "", col(window.rolled).is_(False)
    )
    recent = recent.where(selecting.of_models(col(window.model), scope.models))
    recent = recent.order_by(col(window.id).desc()).limit(WINDOWS_MAX)
    days = select(day.model, day.version, day.payload).where(
        day.device == device, day.level == "day"
    )
    days = days.where(selecting.of_models(col(day.model), scope.models))
    days = days.order_by(col(day.start).desc()).limit(DAYS_MAX)
    for query, merged in ((recent, False), (days, True)):
        for model, version, payload in session.exec(query):
            try:
                header = summary_wire.peek(payload, merged=merged)
            except MusterError:
                continue
            if isinstance(header, summary_wire.Unknown):
                continue
            name = f"{model}/{version}"
            found[name] = found.get(name, LabelSums()) + LabelSums.of(header.summary)
    return found
