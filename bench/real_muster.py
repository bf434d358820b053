"""Muster's own code on a run: a device counts windows and judges them, the hub judges what came."""

from dataclasses import dataclass

import numpy as np
from bench.real_data import Run
from bench.real_score import Flags
from numpy.typing import NDArray

from muster_agent.observe.signs import SlotSigns
from muster_protocol.signals import baseline, binning, learning, monitors, summary_wire
from muster_protocol.signals.baseline import Baseline
from muster_protocol.signals.learning import InTime
from muster_protocol.signals.rule import DriftFinding, Rule
from muster_protocol.signals.summary import Summary
from muster_protocol.wire.errors import ProtocolError
from muster_protocol.wire.messages import Stamp

MANIFEST = "00" * 32


@dataclass(frozen=True, eq=False)
class Lived:
    """What a device and the hub found in a run."""

    opened: Flags
    standing: Flags
    agreed: int
    """Windows in which device and hub found the same."""
    calibrated: int | None
    """Windows until all features were calibrated; None: never."""
    open_features: dict[str, str]
    """Features that were not calibrated at the end, and how they stood."""
    bytes_per_feature: float
    findings: list[tuple[int, DriftFinding]]
    """What was told, with its window."""


def fitted(run: Run, *, in_time: bool = True) -> Baseline:
    tensors = {"x": run.training}
    times = None if run.times is None else run.times[: len(run.training)]
    if in_time:
        try:
            order = InTime(run.rows, run.window_seconds, times)
            return baseline.decode(baseline.encode(learning.fit(tensors, run.features, order)))
        except ProtocolError:
            pass  # Too few windows: what `muster baseline fit` does then.
    return baseline.fit(tensors, run.features)


def window(
    trained: Baseline, x: NDArray[np.float32], start: float = 0.0, seconds: float = 300.0
) -> Summary:
    begun, ended = (Stamp(b"boot", at, at, "synchronised") for at in (start, start + seconds))
    return Summary("m", "1", MANIFEST, begun, ended, features=binning.count(trained, {"x": x}))


def live(run: Run, *, in_time: bool = True) -> Lived:
    trained = fitted(run, in_time=in_time)
    device = SlotSigns()
    device.watch(trained, Rule(window_seconds=run.window_seconds))
    hub = monitors.begin(trained, Rule(window_seconds=run.window_seconds))
    count = len(run.windows)
    opened, standing = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
    agreed, sent, calibrated, heard = 0, 0, None, []
    for number, x in enumerate(run.windows):
        start = number * run.window_seconds
        if run.times is not None:
            start = float(run.times[len(run.training) + number * run.rows])
        summary = window(trained, x, start, run.window_seconds)
        payload = summary_wire.encode(summary)
        sent += len(payload)
        news = [finding for finding in device.feed(summary) if finding.state == "opened"]
        heard += [(number, finding) for finding in news]
        opened[number], standing[number] = bool(news), bool(device.drifting)
        received = summary_wire.decode(payload, trained)
        assert isinstance(received, Summary)
        hub.feed(received)
        agreed += device.drifting == hub.drifting()
        if calibrated is None and device.calibration == "calibrated":
            calibrated = number + 1
    unsettled = {name: word for name, word in hub.status().items() if word != "calibrated"}
    return Lived(
        opened, standing, agreed, calibrated, unsettled, sent / max(count, 1) / len(run.features),
        heard,
    )  # fmt: skip
