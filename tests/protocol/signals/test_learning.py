"""Baselines in time: what they learn, their file, and charts on what they learnt."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as drawn

from muster_protocol.signals import baseline, binning, charts, features, learning, timeline
from muster_protocol.signals.baseline import Baseline
from muster_protocol.signals.chart_monitor import ChartMonitor
from muster_protocol.signals.charts import PLANS, Plan
from muster_protocol.signals.learning import InTime
from muster_protocol.signals.rule import Rule
from muster_protocol.signals.summary import Summary
from muster_protocol.wire.errors import ProtocolError
from muster_protocol.wire.messages import Stamp
from support import in_time

HOUR = 3600.0
DAY = 24 * HOUR
MONDAY = 4 * DAY


def fit(x: np.ndarray, in_time: InTime, **kwargs: str) -> Baseline:
    watched = features.elements("x", x.shape[1], **kwargs)
    return learning.fit({"x": x.astype(np.float32)}, watched, in_time)


def window(fitted: Baseline, x: np.ndarray, at: float = 0.0) -> Summary:
    stamp = Stamp(b"", 0.0, at, "synchronised")
    counted = binning.count(fitted, {"x": x.astype(np.float32)})
    return Summary("m", "1", "00" * 32, stamp, stamp, features=counted)


def test_a_file_read_again_is_the_same_baseline() -> None:
    fitted = in_time.fitted()
    read = baseline.decode(baseline.encode(fitted))
    assert read.digest == fitted.digest
    assert read.normal is not None
    assert fitted.normal is not None
    assert read.normal.file == fitted.normal.file
    assert len(read.normal.charts) == len(PLANS)


def test_a_baseline_without_time_stays_format_1() -> None:
    x = np.random.default_rng(0).normal(size=(400, 2)).astype(np.float32)
    plain = baseline.fit({"x": x}, features.elements("x", 2))
    assert baseline.encode(plain)[len(baseline.MAGIC)] == 1
    assert plain.normal is None
    assert not binning.count(plain, {"x": x}).joint_total.size


def test_it_costs_a_few_hundred_bytes_a_feature() -> None:
    x = np.random.default_rng(0).normal(size=(4000, 50))
    plain = baseline.fit({"x": x.astype(np.float32)}, features.elements("x", 50))
    more = len(baseline.encode(fit(x, InTime(20)))) - len(baseline.encode(plain))
    assert more / 50 < 1200


@pytest.mark.parametrize("rows", [15, 100, 159])
def test_too_few_windows_are_refused_with_how_many_are_needed(rows: int) -> None:
    with pytest.raises(ProtocolError, match="at least 16"):
        fit(np.zeros((rows, 1)) + np.arange(rows)[:, None], InTime(10))


def test_only_a_categorical_feature_tells_the_regime() -> None:
    with pytest.raises(ProtocolError, match="not among the categorical"):
        fit(np.random.default_rng(0).normal(size=(400, 1)), InTime(10, context="x[0]"))


@pytest.mark.parametrize("field", ["spreads", "carry", "still", "capped", "missing", "projections"])
def test_a_damaged_timeline_is_refused(field: str) -> None:
    fitted = in_time.fitted()
    assert fitted.normal is not None
    data = getattr(fitted.normal.file, field)
    for damaged in (data[:-1], data + b"\0\0\0\0", b"\0\0\xc0\x7f" + data[4:]):
        file = msgspec.structs.replace(fitted.normal.file, **{field: damaged})
        with pytest.raises(ProtocolError, match="baseline timeline"):
            baseline.made(fitted.features, fitted.bins, file)


def test_a_chart_with_a_spread_of_nothing_is_refused() -> None:
    fitted = in_time.fitted()
    assert fitted.normal is not None
    first, *others = fitted.normal.file.charts
    broken = msgspec.structs.replace(first, spread=bytes(len(first.spread)))
    file = msgspec.structs.replace(fitted.normal.file, charts=(broken, *others))
    with pytest.raises(ProtocolError, match="spread of nothing"):
        baseline.made(fitted.features, fitted.bins, file)


@settings(max_examples=40, deadline=None)
@given(
    drawn.arrays(
        np.float32,
        st.tuples(st.integers(48, 120), st.integers(1, 3)),
        elements=st.one_of(
            st.floats(-1e6, 1e6, width=32), st.sampled_from([0.0, np.nan, np.inf, 3e38, 1e-45])
        ),
    ),
    st.integers(1, 3),
)
def test_whatever_training_holds_its_own_windows_can_be_judged(x: np.ndarray, rows: int) -> None:
    x[0] = 1.0
    fitted = fit(x, InTime(rows))
    fitted = baseline.decode(baseline.encode(fitted))
    monitor = ChartMonitor(fitted)
    for at in range(0, len(x) - rows + 1, rows):
        for finding in monitor.feed(window(fitted, x[at : at + rows])):
            assert np.isfinite([finding.value, finding.limit, finding.effect]).all()


@settings(max_examples=50, deadline=None)
@given(
    drawn.arrays(np.float64, (40, 5), elements=st.floats(-1e3, 1e3)),
    st.sampled_from([Plan(1.0), Plan(0.3), Plan(0.07)]),
)
def test_contributions_add_up_to_the_statistic(x: np.ndarray, plan: Plan) -> None:
    chart = charts.fit(plan, x, np.full(5, 1e-3))
    e = np.random.default_rng(0).normal(size=5) * 3
    whole = charts.contributions(chart, e).sum() / 5
    assert np.log(max(whole, charts.STATISTIC_MIN)) == pytest.approx(
        charts.statistic(chart, e), abs=1e-6
    )


@pytest.mark.parametrize("smoothing", [1.0, 0.3, 0.07])
def test_a_chart_followed_window_by_window_is_the_one_that_was_fitted(smoothing: float) -> None:
    x = np.cumsum(np.random.default_rng(1).normal(size=(200, 3)), axis=0) * 0.1
    chart = charts.fit(Plan(smoothing), x, np.full(3, 1e-3))
    track = charts.Track.fresh(chart)
    slow = [charts.statistic(chart, charts.follow(chart, track, c)) for c in x - chart.mean]
    np.testing.assert_allclose(slow, charts.scores(chart, x))


def test_limits_fall_with_the_chance_and_no_training_window_passes_them() -> None:
    x = np.random.default_rng(1).normal(size=(300, 3))
    for plan in PLANS:
        chart = charts.fit(plan, x, np.full(3, 1e-3))
        limits = [charts.limits([chart], chance)[0] for chance in (1e-2, 1e-4, 1e-6)]
        assert limits == sorted(limits)
        assert limits[0] >= chart.file.top


def test_a_chart_that_too_little_stands_behind_leaves_its_chance_to_the_others() -> None:
    x = np.random.default_rng(1).normal(size=(60, 3))
    quick, slow = (charts.fit(Plan(weight), x, np.full(3, 1e-3)) for weight in (1.0, 0.02))
    assert slow.file.freedom < charts.FREEDOM_MIN
    assert charts.limits([quick, slow], 1e-4) == [*charts.limits([quick], 1e-4), np.inf]


def daily(times: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A room: warm by day, colder at the week-end."""
    hour, day = (times / HOUR) % 24, ((times - MONDAY) // DAY) % 7
    level = 20 + 3 * np.sin((hour - 8) / 24 * 2 * np.pi) - 2 * (day >= 5)
    return (level + rng.normal(0, 0.3, len(times)))[:, None]


def test_four_weeks_teach_what_is_usual_at_each_hour_of_the_week() -> None:
    rng = np.random.default_rng(2)
    times = MONDAY + np.arange(0, 35 * DAY, 300.0)
    fitted = fit(daily(times, rng), InTime(12, HOUR, times=times))
    assert fitted.normal is not None
    assert fitted.normal.profile is not None
    monitor = ChartMonitor(fitted)
    start = times[-1] + 300.0
    findings = []
    for begin in np.arange(start, start + 14 * DAY, HOUR):
        now = begin + np.arange(0, HOUR, 300.0)
        off = 1.5 if begin >= start + 13 * DAY else 0.0
        if monitor.feed(window(fitted, daily(now, rng) + off, at=begin)):
            findings.append((begin - start) / DAY)
    assert findings[0] == pytest.approx(13, abs=0.2), "1.5 °C off, a third of the daily swing"


def test_less_than_four_weeks_teach_no_week() -> None:
    times = MONDAY + np.arange(0, 20 * DAY, 300.0)
    fitted = fit(daily(times, np.random.default_rng(2)), InTime(12, HOUR, times=times))
    assert fitted.normal is not None
    assert fitted.normal.profile is None


def recipes(which: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    level = np.where(which == 1, 100.0, 50.0)
    return np.stack([level + rng.normal(0, 1, len(which)), which], axis=1)


def by_recipe(which: np.ndarray, rng: np.random.Generator) -> Baseline:
    watched = (
        features.Feature("oven", features.Element("x", 0)),
        features.Feature("recipe", features.Element("x", 1), "categorical"),
    )
    x = recipes(which, rng).astype(np.float32)
    return learning.fit({"x": x}, watched, InTime(20, context="recipe"))


def test_a_changeover_is_normal_and_each_regime_has_its_own_level() -> None:
    rng = np.random.default_rng(3)
    fitted = by_recipe(np.repeat(np.arange(20) % 2, 400), rng)
    assert fitted.normal is not None
    assert set(fitted.normal.regimes) == {0, 1}
    monitor = ChartMonitor(fitted)
    for part in range(60):
        which = np.full(20, (part // 15) % 2)
        assert not monitor.feed(window(fitted, recipes(which, rng)))
    # 90 is normal in neither regime, though training had both sides of it.
    off = recipes(np.ones(20, int), rng) - [[10.0, 0.0]]
    found = [finding for _ in range(2) for finding in monitor.feed(window(fitted, off))]
    assert found[0].feature == "oven"
    assert found[0].direction == "lower"


def test_a_regime_that_training_did_not_know_is_not_judged() -> None:
    rng = np.random.default_rng(3)
    fitted = by_recipe(np.repeat(np.arange(20) % 2, 400), rng)
    monitor = ChartMonitor(fitted)
    for _ in range(30):
        x = np.stack([rng.normal(75, 1, 20), np.full(20, 7.0)], axis=1)
        assert not monitor.feed(window(fitted, x))


def test_projections_merge_exactly() -> None:
    fitted, rng = in_time.fitted(), np.random.default_rng(4)
    x = in_time.rows(rng, 60)
    whole = binning.count(fitted, {"x": x})
    parts = [binning.count(fitted, {"x": x[at : at + 20]}) for at in (0, 20, 40)]
    merged = parts[0] + parts[1] + parts[2]
    np.testing.assert_allclose(merged.joint_total, whole.joint_total)
    np.testing.assert_allclose(merged.joint_squares, whole.joint_squares)
    assert len(whole.joint_total) == fitted.projections <= timeline.PROJECTIONS_MAX


def wandering(rng: np.random.Generator, windows: int) -> np.ndarray:
    """[windows, 2]: a level that wanders in sampling noise, and noise alone."""
    level, kept = np.empty(windows), 0.0
    for window in range(windows):
        kept = 0.97 * kept + rng.normal(0, 0.25)
        level[window] = kept
    noise = rng.normal(size=(windows, 2))
    noise[:, 0] += level
    return noise


def test_a_level_that_wanders_in_noise_is_foretold_better_than_by_the_last_window() -> None:
    x = wandering(np.random.default_rng(5), 600)
    carry, gain = charts.dynamics(x)
    assert gain[0] < 0.5, "most of what a window brings is noise"
    assert carry[0] >= 0.9
    assert gain[1] == 1.0, "noise alone needs no such level"
    assert carry[1] == pytest.approx(0, abs=0.15)
    fitted = charts.fit(Plan(1.0), x, np.full(2, 1e-3))
    assert fitted.spread[0] < 0.95 * x[:, 0].std()
    assert fitted.file.gain


def test_what_windows_bring_varies_as_much_in_a_lifes_first_window_as_later() -> None:
    chart = charts.fit(Plan(1.0), wandering(np.random.default_rng(5), 600), np.full(2, 1e-3))
    lives = []
    for seed in range(400):
        lived = wandering(np.random.default_rng([7, seed]), 100)[30:] - chart.mean
        track = charts.Track.fresh(chart)
        lives.append([charts.follow(chart, track, c) for c in lived])
    spread = np.array(lives).std(axis=0)
    np.testing.assert_allclose(spread, 1.0, atol=0.25)


WANDER_WINDOWS, WANDERING_WINDOWS = 72, 600


def straying(features: int, seed: int) -> np.ndarray:
    """[windows, features]: levels that stray for six hours at a time, under sampling noise."""
    rng, keep = np.random.default_rng(seed), np.exp(-1 / WANDER_WINDOWS)
    level, levels = rng.normal(0, 0.25, features), []
    for kick in rng.normal(0, 0.25 * np.sqrt(1 - keep**2), (WANDERING_WINDOWS, features)):
        level = keep * level + kick
        levels.append(level)
    return np.array(levels) + rng.normal(0, 50**-0.5, (WANDERING_WINDOWS, features))


def test_the_largest_of_many_wandering_levels_is_known_no_better_than_one_level() -> None:
    plan = Plan(0.3, largest=True)
    fits = [charts.fit(plan, straying(20, seed), np.zeros(20)) for seed in range(5)]
    freedom = np.mean([chart.file.freedom for chart in fits])
    # An AR(1)'s variance is known by as many independent windows as it has correlation times.
    assert freedom < 2 * WANDERING_WINDOWS / WANDER_WINDOWS


@pytest.mark.parametrize("features", [2, 16, 100])
def test_the_largest_of_many_numbers_is_as_seldom_over_its_limit_as_of_few(features: int) -> None:
    x = np.random.default_rng(1).normal(size=(600, features))
    chart = charts.fit(Plan(1.0, largest=True), x, np.zeros(features))
    (limit,) = charts.limits([chart], 1e-5)
    tail = math.erfc(math.exp(limit / 2) / math.sqrt(2))
    assert tail * features < 1e-5


def test_the_budget_counts_alerts_and_a_running_mean_makes_one_of_two_windows() -> None:
    x = np.random.default_rng(1).normal(size=(300, 3))
    brought, mean = (charts.fit(Plan(weight), x, np.zeros(3)) for weight in (1.0, 0.3))
    rule = Rule(budget_per_month=0.5, window_seconds=300.0)
    assert rule.chance == pytest.approx(0.5 / 8640)
    assert rule.chance_of_means == pytest.approx(2 * rule.chance)
    found = charts.limits([brought, mean], rule.chance, rule.chance_of_means)
    alone = [
        *charts.limits([brought], rule.chance / 2),
        *charts.limits([mean], rule.chance_of_means / 2),
    ]
    assert found == alone
    monitor = ChartMonitor(in_time.fitted(), rule)
    assert monitor.limits == charts.limits(monitor.normal.charts, rule.chance, rule.chance_of_means)
    long = Rule(window_seconds=43_200.0)
    assert long.chance == long.chance_of_means == 1e-3


def test_one_features_largest_number_is_left_to_the_chart_of_both() -> None:
    x = np.random.default_rng(1).normal(size=(600, 2))
    for count, largest in ((1, False), (2, True)):
        normal = fit(x[:, :count], InTime(20)).normal
        assert normal is not None
        assert any(chart.file.largest for chart in normal.charts) == largest


def test_levels_that_wander_for_themselves_are_not_taken_for_related() -> None:
    def steadiest(x: np.ndarray) -> float:
        """The variance, of 1, of what varies least among all mixtures of the numbers."""
        return float(charts.fit(Plan(0.3), x, np.zeros(x.shape[1])).weights.min())

    assert all(steadiest(straying(8, seed)) > 0.5 for seed in range(5))
    x = np.random.default_rng(0).normal(size=(WANDERING_WINDOWS, 8))
    x[:, 1::2] = 0.9 * x[:, ::2] + np.sqrt(1 - 0.9**2) * x[:, 1::2]
    assert steadiest(x) < 0.15
