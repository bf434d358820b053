"""Features that wander slowly are learned for a week, and a replay agrees with the monitor."""

import numpy as np
from bench.signals_alerts import summary
from bench.signals_replay import Replay
from bench.signals_streams import Scenario, Windows, trained

from muster_protocol.signals.drift import DriftMonitor
from muster_protocol.signals.rule import Rule

RULE = Rule(calibration_seconds=60 * 300, calibration_seconds_max=180 * 300)


def test_a_feature_that_wanders_is_not_calibrated_until_enough_of_it_was_seen() -> None:
    scenario = Scenario("wander", 300, 2)
    rng = np.random.default_rng(1)
    fitted = trained(scenario, rng)
    windows, monitor = Windows(scenario, fitted, rng), DriftMonitor(fitted, RULE)
    seen = []
    for bins in windows.draw(180):
        monitor.feed(summary(fitted, bins))
        seen.append(set(monitor.status().values()))
    assert "calibrated" not in seen[60]
    assert "calibrating" not in seen[-1]


def test_a_replay_of_many_windows_finds_what_the_monitor_finds_one_by_one() -> None:
    scenario = Scenario("ar", 50, 3)
    rule = Rule(60 / 288, calibration_seconds=60 * 300, calibration_seconds_max=60 * 300)
    rng = np.random.default_rng(2)
    fitted = trained(scenario, rng)
    windows, monitor = Windows(scenario, fitted, rng), DriftMonitor(fitted, rule)
    for bins in windows.draw(120):
        monitor.feed(summary(fitted, bins))
    assert set(monitor.status().values()) == {"calibrated"}
    replay = Replay(monitor)
    drawn = np.concatenate([windows.draw(20), windows.draw(20, 3.0), windows.draw(20)])
    names = [feature.name for feature in fitted.features]
    found = np.zeros((len(drawn), len(names)), np.bool_)
    for place, bins in enumerate(drawn):
        for finding in monitor.feed(summary(fitted, bins)):
            found[place, names.index(finding.feature)] |= finding.state != "cleared"
    assert found.any()
    assert (replay.feed(drawn) == found).all()
