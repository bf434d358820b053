"""What a slot's closed windows say of its health: drift, failing requests, labels that stopped.

Pure but for the log. The monitor is the hub's own (``muster_protocol.drift``), so that a device
without a link knows the same about itself.
"""

import logging
from collections.abc import Callable
from typing import Any

from muster_agent.observe.fold import Fold
from muster_protocol.baseline import Baseline
from muster_protocol.drift import DriftFinding, DriftMonitor, Rule
from muster_protocol.messages import Stamp
from muster_protocol.summary import Summary

log = logging.getLogger(__name__)
LABELLED_WINDOWS_MIN = 3
"""So many windows with labels make a habit that can be broken."""
OVERDUE_FACTOR = 3
"""Labels are overdue after so many times the longest pause between two windows with labels."""
OVERDUE_WINDOWS_MIN = 10


class LabelWatch:
    """Whether labels that used to come have stopped. Counts only windows with inferences."""

    def __init__(self) -> None:
        self._windows_labelled = 0
        self._longest = 0
        self._since = 0

    @property
    def overdue(self) -> bool:
        patience = max(OVERDUE_FACTOR * self._longest, OVERDUE_WINDOWS_MIN)
        return self._windows_labelled >= LABELLED_WINDOWS_MIN and self._since > patience

    def feed(self, labels: int, inferences: int) -> None:
        if labels:
            if self._windows_labelled and not self.overdue:
                self._longest = max(self._longest, self._since)
            self._windows_labelled += 1
            self._since = 0
        elif inferences:
            self._since += 1


class SlotSigns:
    """Of one model in one slot."""

    def __init__(self) -> None:
        self.inferences = 0
        """Answered by the model in the last window that had requests."""
        self.errors = 0
        self.trouble = ""
        """Why something isn't counted; empty when all is."""
        self.labels = LabelWatch()
        self._monitor: DriftMonitor | None = None

    def watch(self, baseline: Baseline | None, rule: type[Rule], window_seconds: float) -> None:
        """Begin to judge drift, unless a monitor with this baseline is at it already."""
        if baseline is None:
            self._monitor = None
        elif self._monitor is None or self._monitor.baseline.digest != baseline.digest:
            self._monitor = DriftMonitor(baseline, rule(window_seconds=window_seconds))

    @property
    def drifting(self) -> frozenset[str]:
        return self._monitor.drifting() if self._monitor is not None else frozenset()

    def feed(self, summary: Summary) -> list[DriftFinding]:
        """A closed window of this model; findings that are news."""
        counts = summary.counts
        if counts.inferences or counts.errors:
            self.inferences, self.errors = counts.inferences, counts.errors
        self.labels.feed(counts.labels_right + counts.labels_wrong, counts.inferences)
        found = self._monitor.feed(summary) if self._monitor is not None else []
        return [finding for finding in found if finding.state != "holding"]


class Watched:
    """A fold whose windows are judged as they close, and whose faults cost counts only."""

    def __init__(
        self, fold: Fold, signs: SlotSigns, found: Callable[[DriftFinding, Stamp], None]
    ) -> None:
        self._fold = fold
        self._signs = signs
        self._found = found
        self._signs.trouble = fold.trouble

    @property
    def empty(self) -> bool:
        return self._fold.empty

    def feed(self, rows: Any, overrun: int = 0) -> None:
        try:
            self._fold.feed(rows, overrun)
        except Exception as error:
            self._fault("rows could not be counted", error)
        self._signs.trouble = self._signs.trouble or self._fold.trouble

    def recall(self, rows: Any) -> None:
        try:
            self._fold.recall(rows)
        except Exception as error:
            self._fault("rows could not be recalled", error)

    def close(self, stamp: Stamp) -> list[Summary]:
        summaries = self._fold.close(stamp)
        try:
            findings = self._signs.feed(summaries[0])
        except Exception as error:
            self._fault("drift could not be judged", error)
            findings = []
        for finding in findings:
            self._found(finding, stamp)
        return summaries

    def save(self) -> bytes:
        return self._fold.save()

    def restore(self, saved: bytes) -> None:
        self._fold.restore(saved)

    def _fault(self, what: str, error: Exception) -> None:
        if not self._signs.trouble:
            log.error("%s", what, exc_info=error)
        self._signs.trouble = f"{what}: {type(error).__name__}: {error}"[:200]
