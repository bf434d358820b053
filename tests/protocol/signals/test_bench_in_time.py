"""The simulation of the rule in time says what the monitor itself would."""

import numpy as np
import pytest
from bench import signals_alerts, signals_rounds
from bench.signals_charts import Replay
from bench.signals_in_time import life, row
from bench.signals_moments import Stream
from bench.signals_streams import Scenario

from muster_protocol.signals import learning, monitors, vectors
from muster_protocol.signals.baseline import Baseline
from muster_protocol.signals.learning import InTime

ROWS, TRAINING = 20, 60


def trained(stream: Stream) -> Baseline:
    bare = stream.prepared()
    drawn = stream.draw(bare, TRAINING)
    counted = [drawn.counts(bare, window) for window in range(TRAINING)]
    return learning.learnt(bare, counted, InTime(ROWS, 300.0))


@pytest.mark.parametrize("dependence", ["wander", "ar"])
def test_windows_judged_together_are_told_as_window_by_window(dependence: str) -> None:
    stream = Stream(Scenario(dependence, ROWS, 3), np.random.default_rng(3))
    fitted = trained(stream)
    replay, monitor = Replay(fitted), monitors.begin(fitted)
    slow, quick = [], []
    for _ in range(4):
        drawn = stream.draw(fitted, 150)
        drawn.total[100:110] += ROWS * 4.0  # some drift, for something to be told
        drawn.squares[100:110] += 8 * drawn.total[100:110]
        quick += replay.feed(drawn).tolist()
        for window in range(len(drawn)):
            found = monitor.feed(drawn.summary(fitted, window))
            slow.append(any(finding.state == "opened" for finding in found))
    assert quick == slow
    assert any(slow)
    assert replay.monitor().drifting() == monitor.drifting()


@pytest.mark.parametrize("dependence", ["iid", "weak"])
def test_moments_are_drawn_as_rows_have_them(dependence: str) -> None:
    stream = Stream(Scenario(dependence, ROWS, 3), np.random.default_rng(4))
    fitted = trained(stream)
    drawn = stream.draw(fitted, 4000)
    counts = [drawn.counts(fitted, window) for window in range(len(drawn))]
    means = np.array([each.total / ROWS for each in counts])
    worth = {"iid": 1.0, "weak": 3.0}[dependence]
    np.testing.assert_allclose(means.std(axis=0), np.sqrt(worth / ROWS), rtol=0.1)
    within = np.array([each.variance for each in counts])
    np.testing.assert_allclose(within.mean(axis=0), 1.0, atol=0.12)
    apart = np.exp([vectors.relations(each) for each in counts])
    assert apart.mean() == pytest.approx(1.0, abs=0.2)


def test_a_shift_of_moments_is_a_shift_of_rows() -> None:
    stream = Stream(Scenario("iid", ROWS, 3), np.random.default_rng(5))
    fitted = trained(stream)
    drawn = stream.draw(fitted, 5)
    moved = drawn.shifted(fitted, 0.7)
    for window in range(len(drawn)):
        before, after = drawn.counts(fitted, window), moved.counts(fitted, window)
        off = (after.total - before.total) / ROWS
        np.testing.assert_allclose(off, [0.7, 0, 0], atol=1e-9)
        np.testing.assert_allclose(after.variance, before.variance)
        np.testing.assert_allclose(vectors.relations(after), vectors.relations(before), rtol=1e-6)


def test_a_device_lives_under_both_trainings() -> None:
    cells = life(Scenario("iid", ROWS, 2), 0, days=6, seed=1)
    trained = row(Scenario("iid", ROWS, 2), cells)["trained"]
    assert {cell["training_windows"] for cell in trained.values()} == {600, 2016}
    for cell in trained.values():
        assert cell["devices"] == 1
        assert cell["trials"] == 1
        assert set(cell["young_median_delay"]) <= {"1", "6", "30", "60", "288"}
    both = cells["a week"] + cells["a week"]
    assert (both.devices, both.windows) == (2, 2 * cells["a week"].windows)


def test_as_many_features_as_rows_have_moments_too() -> None:
    stream = Stream(Scenario("iid", ROWS, 2 * ROWS), np.random.default_rng(6))
    bare = stream.prepared()
    drawn = stream.draw(bare, 500)
    within = np.array([drawn.counts(bare, window).variance for window in range(500)])
    np.testing.assert_allclose(within.mean(), 1.0, atol=0.05)


def test_every_scenarios_first_device_lives_however_little_time_there_is() -> None:
    scenarios = (Scenario("iid", ROWS, 1), Scenario("iid", ROWS, 2))
    found = list(signals_rounds.lived(size, scenarios, 3, 0.0))
    assert sorted(count for _, count in found) == [1, 2]


def test_devices_of_a_scenario_add_up_out_of_order_too() -> None:
    scenario = Scenario("iid", 300, 1)
    one_day = signals_alerts.life(scenario, 0, months=1 / 30, seed=1)
    both = signals_alerts.Cell(scenario)
    both.add(one_day)
    both.add(signals_alerts.life(scenario, 1, months=1 / 30, seed=1))
    row = both.row()
    assert row["devices"] == 2
    assert row["trials"] == 2 * one_day.trials == 2
    assert row["false_alerts"]["Muster"]["months"] > 2 * 0.9 / 30
    assert set(row["false_alerts"]) == {"Muster", *signals_alerts.PEERS}


def size(scenario: Scenario, number: int) -> int:
    """A life for ``lived``, of a module so that another process finds it."""
    return scenario.features + number
