"""A baseline of format 2, windows against it and what was found in them, frozen as bytes."""

import json
from pathlib import Path

import pytest

from muster_protocol.signals import baseline, charts, summary_wire
from muster_protocol.signals.chart_monitor import ChartMonitor
from muster_protocol.signals.summary import Summary

CHANCE = 1 / 8640
GOLDEN = Path(__file__).resolve().parents[2] / "golden"


@pytest.mark.parametrize("name", ["baseline_v2", "baseline_v2_cube_root"])
def test_frozen_windows_against_the_frozen_baseline_find_what_they_found(name: str) -> None:
    fitted = baseline.decode((GOLDEN / f"{name}.bin").read_bytes())
    story = json.loads((GOLDEN / f"{name}.json").read_text())
    assert fitted.digest == story["digest"]
    monitor = ChartMonitor(fitted)
    found = charts.limits(monitor.normal.charts, CHANCE)
    assert found == pytest.approx(story["limits"])
    data = (GOLDEN / f"{name}_windows.bin").read_bytes()
    heard = []
    while data:
        length = int.from_bytes(data[:4], "big")
        summary = summary_wire.decode(data[4 : 4 + length], fitted)
        assert isinstance(summary, Summary)
        found = monitor.feed(summary)
        heard.append(
            [
                [finding.feature, finding.statistic, finding.direction, finding.state]
                for finding in found
            ]
        )
        data = data[4 + length :]
    assert heard == story["findings"]
