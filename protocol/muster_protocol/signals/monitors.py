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
    def baseline(self) -> Baseline: ...
    @property
    def rule(self) -> Rule: ...
    def feed(self, summary: Summary) -> list[DriftFinding]: ...
    def drifting(self) -> frozenset[str]: ...
    def status(self) -> dict[str, str]: ...
    def rebaseline(self) -> None: ...
    def encode(self) -> bytes: ...


def begin(baseline: Baseline, rule: Rule | None = None) -> Monitor:
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
