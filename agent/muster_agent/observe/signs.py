"""What a slot's closed windows say of its health: drift, failing requests, labels that stopped.

Pure but for the log. The monitor is the hub's own (``muster_protocol.signals``), so
that a device without a link knows the same about itself.
"""

import contextlib
import copy
import logging
from collections import deque
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

from muster_agent.observe.outputs import Answers, shifted
from muster_protocol.signals import monitors, summary_wire
from muster_protocol.signals.baseline import Baseline
from muster_protocol.signals.rule import DriftFinding, Rule
from muster_protocol.signals.summary import Summary
from muster_protocol.wire.errors import ProtocolError
from muster_protocol.wire.messages import Stamp

if TYPE_CHECKING:
    from muster_protocol.signals.binning import FeatureCounts
    from muster_protocol.signals.monitors import Monitor

log = logging.getLogger(__name__)
LABELLED_WINDOWS_MIN = 3
"""So many windows with labels make a habit that can be broken."""
OVERDUE_FACTOR = 3
"""Labels are overdue after so many times the longest pause between two windows with labels."""
OVERDUE_WINDOWS_MIN = 10
SAVE_WINDOWS = 12
"""Closed windows between two times the monitor is saved: flash wears by what is written."""
Calibration = Literal["calibrating", "refused", "calibrated", ""]
_UNSETTLED_FIRST: tuple[Calibration, ...] = ("calibrating", "refused", "calibrated")
ANSWER_WINDOWS = 12
"""Closed windows that show how a model answers lately."""


class LabelWatch:
    """Whether labels that used to come have stopped. Counts only windows with inferences."""

    def __init__(self) -> None:
        self._windows_labelled = 0
        self._longest = 0
        self._since = 0

    @property
    def overdue(self) -> bool:
        """No label came for much longer than ever before."""
        patience = max(OVERDUE_FACTOR * self._longest, OVERDUE_WINDOWS_MIN)
        return self._windows_labelled >= LABELLED_WINDOWS_MIN and self._since > patience

    def feed(self, labels: int, inferences: int) -> None:
        """Count one closed window's labels."""
        if labels:
            if self._windows_labelled and not self.overdue:
                self._longest = max(self._longest, self._since)
            self._windows_labelled += 1
            self._since = 0
        elif inferences:
            self._since += 1


@dataclass(frozen=True)
class _Known:
    """What the signs were before a window was judged."""

    inferences: int
    errors: int
    labels: LabelWatch
    closed: tuple["FeatureCounts", ...]
    monitor: bytes | None


class SlotSigns:
    """Of one model in one slot."""

    def __init__(self) -> None:
        self.inferences = 0
        """Answered by the model in the last window that had requests."""
        self.errors = 0
        self.trouble = ""
        """Why something isn't counted; empty when all is."""
        self.labels = LabelWatch()
        self.open: Callable[[], FeatureCounts | None] = lambda: None
        """Features of the window that is open now."""
        self.rebaselines = 0
        """How often what is seen was called normal, by an operator's decision."""
        self._monitor: Monitor | None = None
        self._outputs: frozenset[str] = frozenset()
        self._closed: deque[FeatureCounts] = deque(maxlen=ANSWER_WINDOWS)

    def watch(
        self,
        baseline: Baseline | None,
        rule: Rule,
        outputs: AbstractSet[str] = frozenset(),
    ) -> None:
        """Begin to judge drift, unless a monitor with this baseline is at it already.

        ``outputs`` are the names of the model's output tensors.
        """
        if baseline is not None:
            of_outputs = (
                feature.name for feature in baseline.features if feature.source.tensor in outputs
            )
            self._outputs = frozenset(of_outputs)
        if baseline is None:
            self._monitor = None
        elif self._monitor is None or self._monitor.baseline.digest != baseline.digest:
            self._monitor = monitors.begin(baseline, rule)

    def resume(self, monitor: bytes, rebaselines: int) -> None:
        """Go on where a monitor of this baseline was saved; one of another is left alone."""
        if self._monitor is not None:
            with contextlib.suppress(ProtocolError):
                self._monitor = monitors.resume(self._monitor.baseline, self._monitor.rule, monitor)
                self.rebaselines = rebaselines

    def judge_by(self, rule: Rule) -> None:
        """Go on by another rule; what was learnt stays."""
        monitor = self._monitor
        if monitor is not None and monitor.rule != rule:
            self._monitor = monitors.resume(monitor.baseline, rule, monitor.encode())

    def rebaseline(self, rebaselines: int) -> bool:
        """Take the last windows as normal unless that was done as often; True when it was now."""
        if self._monitor is None or rebaselines <= self.rebaselines:
            return False
        self._monitor.rebaseline()
        self.rebaselines = rebaselines
        return True

    def saved(self) -> bytes | None:
        """The monitor, for ``resume``; None when nothing is watched."""
        return None if self._monitor is None else self._monitor.encode()

    @property
    def watched(self) -> bool:
        """Drift is judged."""
        return self._monitor is not None

    @property
    def calibration(self) -> Calibration:
        """The least settled of the features'."""
        statuses = set() if self._monitor is None else set(self._monitor.status().values())
        return next((status for status in _UNSETTLED_FIRST if status in statuses), "")

    @property
    def drifting(self) -> frozenset[str]:
        """Features that drift now."""
        return self._monitor.drifting() if self._monitor is not None else frozenset()

    def answers(self) -> Answers | None:
        """What the model answered in its last windows, the open one included."""
        parts = [*self._closed]
        if (now := self.open()) is not None and now.rows:
            parts.append(now)
        if not parts or not self._outputs:
            return None
        whole = parts[0]
        for part in parts[1:]:
            whole = whole + part
        return Answers(whole, self._outputs)

    def known(self) -> _Known:
        """For ``forget``."""
        return _Known(
            self.inferences, self.errors, copy.copy(self.labels), tuple(self._closed), self.saved()
        )

    def forget(self, known: _Known) -> None:
        """Be as before: what was judged since did not come to be, and will be judged again."""
        self.inferences, self.errors, self.labels = known.inferences, known.errors, known.labels
        self._closed = deque(known.closed, ANSWER_WINDOWS)
        if known.monitor is not None:
            self.resume(known.monitor, self.rebaselines)

    def feed(self, summary: Summary) -> list[DriftFinding]:
        """A closed window of this model; findings that are news."""
        counts = summary.counts
        if counts.inferences or counts.errors:
            self.inferences, self.errors = counts.inferences, counts.errors
        if summary.features is not None and summary.features.rows:
            self._closed.append(summary.features)
        self.labels.feed(counts.labels_right + counts.labels_wrong, counts.inferences)
        found = [] if self._monitor is None else self._monitor.feed(_as_read(summary))
        return [finding for finding in found if finding.state != "holding"]


def _as_read(summary: Summary) -> Summary:
    """The window as the hub will read it, so that both judge the same numbers.

    What is so far off that the hub refuses it is judged here alone.
    """
    counts = summary.features
    if counts is not None:
        with contextlib.suppress(ProtocolError):
            return replace(summary, features=summary_wire.as_read(counts))
    return summary


def moved(candidate: SlotSigns, champion: SlotSigns) -> str:
    """Evidence that the candidate answers otherwise while the champion does not, or nothing."""
    try:
        return shifted(candidate.answers(), champion.answers())
    except Exception:
        log.exception("answers could not be compared")
        return ""


class Counting(Protocol):
    """An open window that counts a ring's rows (``observe.fold.Fold``)."""

    @property
    def trouble(self) -> str:
        """Why features aren't counted; empty when all is well."""
        ...

    @property
    def empty(self) -> bool:
        """Nothing was counted in this window yet."""
        ...

    @property
    def features(self) -> "FeatureCounts | None":
        """Counts over the baseline's bins so far; None without a baseline."""
        ...

    def feed(self, rows: Any, overrun: int = 0) -> None:
        """Count rows of the ring; ``overrun`` rows before them were lost."""
        ...

    def recall(self, rows: Any) -> None:
        """Remember rows of an earlier window whose labels may still come."""
        ...

    def add_cpu(self, seconds: float, joules: float) -> None:
        """Add processor time and its energy."""
        ...

    def close(self, stamp: Stamp) -> list[Any]:
        """End the window: its summaries, and begin the next."""
        ...

    def save(self) -> bytes:
        """The open window as bytes, for the transaction that moves the cursor."""
        ...

    def restore(self, saved: bytes) -> None:
        """Go on with a window that ``save`` gave."""
        ...


class Watched:
    """A fold whose windows are judged as they close, and whose faults cost counts only."""

    def __init__(
        self,
        fold: Counting,
        signs: SlotSigns,
        found: Callable[[DriftFinding, Stamp], None],
        keep: Callable[[SlotSigns], None] = lambda _signs: None,
        offer: Callable[[Any], None] = lambda _rows: None,
    ) -> None:
        """``keep`` saves the signs' monitor; it joins the transaction of a closing window.

        ``offer`` is shown each row that is counted.
        """
        self._offer = offer
        self._fold = fold
        self._signs = signs
        self._found = found
        self._keep = keep
        self._unsaved = 0
        self._before: tuple[_Known, int] | None = None
        """What a window that was just closed found, for the case that it can't be committed."""
        self._signs.trouble = fold.trouble
        self._signs.open = lambda: fold.features

    @property
    def empty(self) -> bool:
        return self._fold.empty

    def feed(self, rows: Any, overrun: int = 0) -> None:
        try:
            self._fold.feed(rows, overrun)
        except Exception as error:
            self._fault("rows could not be counted", error)
        self._signs.trouble = self._signs.trouble or self._fold.trouble
        try:
            self._offer(rows)
        except Exception:
            log.exception("rows could not be sampled")

    def recall(self, rows: Any) -> None:
        try:
            self._fold.recall(rows)
        except Exception as error:
            self._fault("rows could not be recalled", error)

    def add_cpu(self, seconds: float, joules: float) -> None:
        self._fold.add_cpu(seconds, joules)

    def close(self, stamp: Stamp) -> list[Any]:
        summaries = self._fold.close(stamp)
        self._before = self._signs.known(), self._unsaved
        try:
            findings = self._signs.feed(summaries[0])
        except Exception as error:
            self._fault("drift could not be judged", error)
            findings = []
        for finding in findings:
            self._found(finding, stamp)
        self._unsaved += 1
        if self._unsaved >= SAVE_WINDOWS:
            self._unsaved = 0
            self._keep(self._signs)
        return summaries

    def save(self) -> bytes:
        return self._fold.save()

    def committed(self) -> None:
        """What was found in the window that was closed last is told."""
        self._before = None

    def restore(self, saved: bytes) -> None:
        """Also what was found and not committed: it is judged anew when the window closes again."""
        self._fold.restore(saved)
        if self._before is not None:
            (known, self._unsaved), self._before = self._before, None
            self._signs.forget(known)

    def _fault(self, what: str, error: Exception) -> None:
        if not self._signs.trouble:
            log.error("%s", what, exc_info=error)
        self._signs.trouble = f"{what}: {type(error).__name__}: {error}"[:200]
