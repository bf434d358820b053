"""The simulation of the rule in time says what the monitor itself would."""

import numpy as np
import pytest
from bench.signals_charts import Replay
from bench.signals_in_time import measured
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
    within = np.array([vectors.variance(each) for each in counts])
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
        np.testing.assert_allclose(vectors.variance(after), vectors.variance(before))
        np.testing.assert_allclose(vectors.relations(after), vectors.relations(before), rtol=1e-6)


def test_a_scenario_is_measured_with_both_trainings() -> None:
    row = measured(Scenario("iid", ROWS, 2), devices=1, days=6, seed=1, seconds=0.0)
    assert {cell["training_windows"] for cell in row["trained"].values()} == {600, 2016}
    for cell in row["trained"].values():
        assert cell["devices"] == 1
        assert cell["trials"] == 1
        assert set(cell["young_median_delay"]) <= {"1", "6", "30", "60", "288"}
