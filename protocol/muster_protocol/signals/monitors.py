"""The monitor that a baseline allows: in time where it knows training in time, else as before."""

from typing import Protocol

from muster_protocol.signals.baseline import Baseline
from muster_protocol.signals.chart_monitor import ChartMonitor
from muster_protocol.signals.drift import DriftMonitor
from muster_protocol.signals.rule import DriftFinding, Rule
from muster_protocol.signals.summary import Summary

NOTE_OUT_OF_TIME = (
    "this baseline does not know the order of its training rows: slow signals raise false alerts, "
    "changed spreads, broken relations and sensors' faults go unnamed; fit it anew with "
    "`muster baseline fit`"
)


class Monitor(Protocol):
    """Follows one device and manifest; feed it summaries in order of time."""

    @property
    def baseline(self) -> Baseline:
        """What windows are compared with."""
        ...

    @property
    def rule(self) -> Rule:
        """How strict the comparison is."""
        ...

    def feed(self, summary: Summary) -> list[DriftFinding]:
        """Judge one closed window, and return what drifts."""
        ...

    def drifting(self) -> frozenset[str]:
        """Names of the features that drift now."""
        ...

    def status(self) -> dict[str, str]:
        """Whether each feature is calibrated yet, by name."""
        ...

    def rebaseline(self) -> None:
        """Take what was seen last for normal, and learn anew."""
        ...

    def encode(self) -> bytes:
        """State as bytes, to go on after a restart."""
        ...


def begin(baseline: Baseline, rule: Rule | None = None) -> Monitor:
    """A monitor that fits the baseline's format: charts where it knows training in time."""
    if baseline.normal is None:
        return DriftMonitor(baseline, rule)
    return ChartMonitor(baseline, rule)


def resume(baseline: Baseline, rule: Rule | None, data: bytes) -> Monitor:
    """Continue an encoded monitor; raises ProtocolError when it is of another baseline."""
    if baseline.normal is None:
        return DriftMonitor.decode(baseline, rule, data)
    return ChartMonitor.decode(baseline, rule, data)


def note(baseline: Baseline) -> str:
    """What is lost with this baseline; empty when nothing is."""
    return NOTE_OUT_OF_TIME if baseline.normal is None else ""
