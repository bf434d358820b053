"""Drift held against training in time: what is found, what it is called, and when it is over."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from muster_protocol.signals import monitors
from muster_protocol.signals.chart_monitor import ChartMonitor
from muster_protocol.signals.rule import Rule
from muster_protocol.wire.errors import ProtocolError
from support import in_time
from support.in_time import MEAN, NAMES, ROWS, SCALE, Change, Machine, Rows, moved, opened

DAY = 288


def device(rule: Rule | None = None, *, seed: int = 1, rows: int = ROWS) -> Machine:
    return Machine(ChartMonitor(in_time.fitted(), rule), seed=seed, rows=rows)


def stuck(x: Rows) -> None:
    x[:, 0] = 91.25


def clipped(x: Rows) -> None:
    x[:, 0] = np.minimum(x[:, 0], MEAN[0] + 0.6745 * SCALE[0])


def in_fahrenheit(x: Rows) -> None:
    x[:, 0] = x[:, 0] * 1.8 + 32


def silent(x: Rows) -> None:
    x[:, 0] = np.nan


class Spikes:
    """One row in twenty is six standard deviations off."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(5)

    def __call__(self, x: Rows) -> None:
        hit = self._rng.random(len(x)) < 0.05
        x[hit, 0] += np.float32(6) * SCALE[0] * self._rng.choice([-1, 1], hit.sum())


def wider(factor: float) -> Change:
    def change(x: Rows) -> None:
        x[:, 0] = MEAN[0] + factor * (x[:, 0] - MEAN[0])

    return change


def unrelated(x: Rows) -> None:
    """Current no longer follows flow, though each looks as ever."""
    x[:, 3] = np.roll(x[:, 3], 1)


def test_a_month_without_trouble_raises_nothing() -> None:
    machine = device()
    assert not opened(machine.run(2000))
    assert set(machine.monitor.status().values()) == {"calibrated"}


@pytest.mark.parametrize("before", [0, 1, 6, 30, 60, DAY])
def test_a_shift_is_found_at_once_however_young_the_device(before: int) -> None:
    machine = device()
    machine.run(before)
    windows, finding = machine.until_opened(moved(0, 1.5), within=3)
    assert (finding.statistic, finding.direction) == ("level", "higher")
    assert finding.before == pytest.approx(90, abs=0.2)
    assert finding.now == pytest.approx(92.25, abs=1.5)
    assert windows <= 3


@pytest.mark.parametrize(
    ("change", "fault", "within"),
    [
        (stuck, "stuck", 1),
        (silent, "dropped out", 1),
        (in_fahrenheit, "unit changed", 1),
        (clipped, "clipped", 12),
        (Spikes(), "spiking", 12),
        (wider(1.6), "noisy", 12),
    ],
)
def test_a_fault_of_a_sensor_is_called_by_its_name(change: Change, fault: str, within: int) -> None:
    machine = device()
    machine.run(40)
    for _ in range(within):
        found = [finding for finding in machine.run(1, change)[0] if finding.feature == NAMES[0]]
        if any(finding.fault == fault for finding in found):
            break
    else:
        raise AssertionError(f"not called {fault} in {within} windows, but {found}")
    if fault == "unit changed":
        assert "°F" in found[0].detail


def test_a_broken_relation_is_found_although_each_feature_looks_as_ever() -> None:
    machine = device()
    machine.run(40)
    _, finding = machine.until_opened(unrelated, within=12, feature="current")
    assert finding.statistic == "relation"
    assert {"flow", "current"} <= machine.monitor.drifting()


def test_a_standing_finding_does_not_hide_the_next_fault() -> None:
    machine = device()
    machine.run(40)
    machine.until_opened(moved(0, 2.0), within=3)

    def both(x: Rows) -> None:
        moved(0, 2.0)(x)
        x[:, 1] = 6.05

    windows, finding = machine.until_opened(both, within=3, feature="pressure")
    assert (windows, finding.fault) == (1, "stuck")
    assert {"temperature", "pressure"} <= machine.monitor.drifting()


def test_a_feature_that_turns_round_is_told_again() -> None:
    machine = device()
    machine.run(40)
    machine.until_opened(moved(0, 4.0), within=2)
    machine.run(12, moved(0, 4.0))
    _, finding = machine.until_opened(moved(0, -4.0), within=12)
    assert finding.direction == "lower"


def test_a_passing_fault_recovers() -> None:
    machine = device()
    machine.run(40)
    machine.run(6, moved(0, 3.0))
    after = [finding for some in machine.run(40) for finding in some if finding.state == "cleared"]
    assert [(finding.feature, finding.direction) for finding in after] == [
        ("temperature", "recovered")
    ]
    assert not machine.monitor.drifting()


def test_a_change_that_stays_becomes_normal_after_the_stated_time_and_says_so() -> None:
    machine = device(Rule(settle_seconds=DAY * 300.0))
    machine.run(40)
    findings = [finding for some in machine.run(DAY + 10, moved(0, 2.0)) for finding in some]
    settled = [finding for finding in findings if finding.state == "cleared"]
    assert [finding.direction for finding in settled] == ["settled"]
    assert not opened(machine.run(DAY, moved(0, 2.0))), "it is normal now"
    machine.until_opened(moved(0, 4.0), within=3)


def test_a_sensors_fault_never_becomes_normal_by_itself() -> None:
    machine = device(Rule(settle_seconds=30 * 300.0))
    machine.run(40)
    machine.run(100, stuck)
    assert machine.monitor.drifting() == {"temperature"}
    assert machine.monitor.status()["temperature"] == "refused"


def test_nothing_settles_where_the_operator_forbids_it() -> None:
    machine = device(Rule(settle_seconds=0))
    machine.run(3 * DAY, moved(0, 2.0))
    assert "temperature" in machine.monitor.drifting()


def test_an_operator_may_call_what_is_seen_normal() -> None:
    machine = device()
    machine.run(40)
    machine.run(60, moved(0, 2.0))
    machine.monitor.rebaseline()
    assert not machine.monitor.drifting()
    assert not opened(machine.run(DAY, moved(0, 2.0)))


@pytest.mark.parametrize("rows", [5, 10, 60, 400])
def test_windows_of_other_sizes_than_in_training_raise_nothing(rows: int) -> None:
    assert not opened(device(rows=rows).run(600))


def test_a_larger_budget_finds_sooner() -> None:
    small, large = device(Rule(0.05)), device(Rule(5.0))
    assert all(a >= b for a, b in zip(small.monitor.limits, large.monitor.limits, strict=True))
    assert small.monitor.limits != large.monitor.limits


def test_the_state_continues_where_it_was_encoded() -> None:
    trained = in_time.fitted()
    whole, parts = device(), ChartMonitor(trained)
    for number in range(80):
        summary = whole.draw(moved(0, 2.0) if number > 40 else None)
        assert whole.monitor.feed(summary) == parts.feed(summary)
        parts = ChartMonitor.decode(trained, None, parts.encode())
    assert whole.monitor.drifting()
    assert len(parts.encode()) < 4096


def test_a_state_of_another_baseline_is_refused() -> None:
    data = device().monitor.encode()
    with pytest.raises(ProtocolError, match="does not fit"):
        ChartMonitor.decode(in_time.fitted(seed=7), None, data)
    with pytest.raises(ProtocolError, match="not a drift monitor's state"):
        ChartMonitor.decode(in_time.fitted(), None, b"noise")


@settings(max_examples=30)
@given(
    st.lists(st.sampled_from(["calm", "shift", "stuck", "silent", "wild", "empty"]), max_size=60)
)
def test_whatever_comes_findings_open_hold_and_end_in_order(story: list[str]) -> None:
    """What stands holds or ends; what doesn't stand opens, or is found anew by name."""
    machine = device(Rule(settle_seconds=30 * 300.0))
    wild = np.random.default_rng(3)

    def storm(x: Rows) -> None:
        x += wild.normal(0, 1e6, x.shape).astype(np.float32)
        x[0] = np.inf

    changes = {
        "calm": None,
        "shift": moved(1, 3.0),
        "stuck": stuck,
        "silent": silent,
        "wild": storm,
    }
    standing: set[str] = set()
    for act in story:
        if act == "empty":
            x = np.empty((0, len(NAMES)), np.float32)
            findings = machine.monitor.feed(in_time.window(machine.monitor.baseline, x))
            assert not findings
            continue
        findings = machine.run(1, changes[act])[0]
        for finding in findings:
            assert np.isfinite([finding.value, finding.limit, finding.effect]).all()
            if finding.state == "opened":
                standing.add(finding.feature)
            else:
                assert finding.feature in standing
            if finding.state == "cleared":
                standing.discard(finding.feature)
        assert standing == machine.monitor.drifting()
    monitors.resume(machine.monitor.baseline, None, machine.monitor.encode())
