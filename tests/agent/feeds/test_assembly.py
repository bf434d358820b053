"""Windows, statistics, quality and order: what a model is given, and why it sometimes isn't."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, structs

from muster_agent.base.tag_settings import TagSettings
from muster_agent.feeds.assembly import Assembler, refusals
from muster_agent.feeds.inlet import Inlet
from muster_agent.feeds.samples import Lost, Sample, grade_of, in_unit, number
from muster_agent.feeds.windows import SignalWindow, statistic
from muster_protocol.wire.feeding import InputFeature, InputQuality, InputWindow
from wire_samples import MANIFEST_2

FLOW = InputFeature("flow", unit="m3/h", least=0.0, most=100.0)
TEMP = InputFeature("temp", unit="°C")


def assembler(*features: InputFeature, window=UNSET, quality=UNSET) -> Assembler:
    listed = structs.replace(MANIFEST_2, features=features, window=window, quality=quality)
    return Assembler(listed)


def sample(signal: str, value: float, at: float = 0.0, **fields) -> Sample:
    return Sample(signal, value, at, fields.pop("arrived", at), **fields)


def test_features_are_in_the_models_order_however_they_came():
    made = assembler(FLOW, TEMP)
    made.put(sample("temp", 20.0, 1.0))
    made.put(sample("flow", 5.0, 2.0))
    row = made.row(2.0)
    assert (row.values, row.grade, row.at) == ((5.0, 20.0), "good", 2.0)


def test_a_feature_is_scaled_as_the_model_was_trained():
    made = assembler(structs.replace(FLOW, offset=50.0, scale=10.0))
    made.put(sample("flow", 80.0))
    assert made.row(0.0).values == (3.0,)


def test_a_row_waits_for_every_signal_and_names_those_that_lack():
    made = assembler(FLOW, TEMP)
    made.put(sample("flow", 5.0))
    row = made.row(0.0)
    assert (row.values, row.reason, row.signals) == (None, "missing", ("temp",))
    assert made.totals()["rows_skipped"] == 1


@pytest.mark.parametrize(
    ("value", "now", "reason"),
    [(101.0, 0.0, "range"), (-1.0, 0.0, "range"), (5.0, 11.0, "stale"), (5.0, 9.0, "")],
)
def test_what_is_out_of_range_or_old_is_bad(value, now, reason):
    made = assembler(FLOW)
    made.put(sample("flow", value))
    assert made.row(now).reason == reason


def test_a_sign_of_life_keeps_a_value_that_does_not_change():
    made = assembler(FLOW)
    made.put(sample("flow", 5.0))
    made.alive(["flow", "unknown"], 100.0)
    assert made.row(105.0).values == (5.0,)


def test_a_lost_source_makes_its_signals_bad_at_once_until_a_new_value_comes():
    made = assembler(FLOW)
    made.put(sample("flow", 5.0))
    made.lost(["flow"])
    assert made.row(0.1).reason == "lost"
    made.put(sample("flow", 6.0, 0.2))
    assert made.row(0.3).values == (6.0,)


def test_a_held_value_stands_in_for_a_bounded_time_and_is_uncertain():
    made = assembler(FLOW, quality=InputQuality(bad="hold", hold_seconds=5.0))
    made.put(sample("flow", 5.0))
    assert made.row(0.0).grade == "good"
    made.put(sample("flow", 500.0, 1.0))
    row = made.row(4.0)
    assert (row.values, row.grade, row.reason) == ((5.0,), "uncertain", "substituted")
    assert made.row(6.0).values is None


def test_a_model_that_takes_missing_values_is_given_nan():
    made = assembler(FLOW, TEMP, quality=InputQuality(bad="pass"))
    made.put(sample("temp", 20.0))
    row = made.row(0.0)
    assert row.values is not None
    assert math.isnan(row.values[0])
    assert (row.values[1], row.grade) == (20.0, "uncertain")


def test_uncertain_values_are_used_and_said_or_refused_as_the_model_says():
    for policy, values in (("use", (5.0,)), ("bad", None)):
        made = assembler(FLOW, quality=InputQuality(uncertain=policy))
        made.put(sample("flow", 5.0, grade="uncertain", reason="source"))
        assert made.row(0.0).values == values


def test_a_window_of_seconds_goes_by_the_sources_clock():
    made = assembler(structs.replace(FLOW, statistic="mean"), window=InputWindow(seconds=10.0))
    for at, value in ((0.0, 100.0), (5.0, 1.0), (14.0, 3.0)):
        made.put(sample("flow", value, at, arrived=0.0))
    assert made.row(0.0).values == (2.0,)


def test_each_gives_sample_by_sample_what_every_feature_was():
    both = (structs.replace(FLOW, statistic="each"), structs.replace(TEMP, statistic="each"))
    made = assembler(*both, window=InputWindow(samples=2))
    made.put(sample("flow", 1.0, 1.0))
    made.put(sample("temp", 10.0, 1.0))
    assert made.row(1.0).reason == "missing"
    for at in (2.0, 3.0):
        made.put(sample("flow", at, at))
        made.put(sample("temp", 10 * at, at))
    assert made.row(3.0).values == (2.0, 20.0, 3.0, 30.0)


def test_a_source_whose_clock_is_set_back_begins_anew():
    made = assembler(FLOW)
    made.put(sample("flow", 5.0, 1e6))
    made.put(sample("flow", 6.0, 10.0))
    assert made.row(10.0).values == (6.0,)
    assert made.totals()["clock_jumps"] == 1


def test_late_samples_take_their_place_and_repeated_ones_count_once():
    window = SignalWindow(seconds=10.0)
    for at in (0.0, 5.0, 12.0, 5.0, 4.0, 1.0):
        window.put(sample("flow", at, at))
    assert [kept.at for kept in window.samples()] == [4.0, 5.0, 12.0]
    assert window.counts == {"samples": 6, "repeated": 1, "late": 1, "late_dropped": 1}


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(-5, 5)), max_size=50), st.integers(1, 9))
def test_a_window_is_bounded_ordered_and_accounts_for_every_sample(items, size):
    window = SignalWindow(samples=size)
    for at, value in items:
        window.put(sample("s", value, at))
    kept = [item.at for item in window.samples()]
    assert kept == sorted(kept)
    assert len(kept) <= size
    counts = window.counts
    assert counts["samples"] == len(items)
    assert counts["repeated"] + counts["late_dropped"] + len(kept) <= max(len(items), 1)


def test_statistics_are_what_their_names_say():
    samples = [sample("s", value, at) for at, value in ((0.0, 1.0), (1.0, 2.0), (2.0, 6.0))]
    got = {
        kind: statistic(kind, samples) for kind in ("last", "mean", "min", "max", "slope", "each")
    }
    assert got == {
        "last": [6.0], "mean": [3.0], "min": [1.0], "max": [6.0], "slope": [2.5],
        "each": [1.0, 2.0, 6.0],
    }  # fmt: skip
    assert statistic("std", samples) == [pytest.approx(math.sqrt(14 / 3))]
    assert statistic("rms", samples) == [pytest.approx(math.sqrt(41 / 3))]
    assert statistic("slope", samples[:1]) == [0.0]
    assert math.isnan(statistic("mean", [])[0])


def test_a_mismatch_of_tags_and_features_is_refused_by_name():
    listed = structs.replace(MANIFEST_2, features=(FLOW, TEMP))
    tags = {"flow": TagSettings(unit="l/min"), "tmp": TagSettings(unit="°C")}
    flow, temp = refusals(listed, tags)
    assert "'flow'" in flow
    assert "'m3/h'" in flow
    assert "'l/min'" in flow
    assert "needs the signal 'temp'" in temp
    assert "flow, tmp" in temp
    assert refusals(listed, {"flow": TagSettings(unit="m3/h"), "temp": tags["tmp"]}) == []
    (words,) = refusals(MANIFEST_2, tags)
    assert "names no features" in words


def test_values_come_in_many_spellings():
    assert [number(raw) for raw in (1, True, "2.5", 10**400)][:3] == [1.0, 1.0, 2.5]
    assert all(math.isnan(number(raw)) for raw in (None, "open", [1], {}, 10**400))
    assert in_unit(sample("s", math.nan), TagSettings()).reason == "unreadable"
    assert [grade_of(raw) for raw in (192, 64, 0, True, "GOOD", "Uncertain", "??")] == [
        "good", "uncertain", "bad", "good", "good", "uncertain", "bad",
    ]  # fmt: skip


def test_a_queue_that_is_full_drops_the_oldest_and_counts_it_by_name():
    woken = []
    inlet = Inlet(None, 2, lambda: woken.append(1))
    for value in (1.0, 2.0, 3.0):
        inlet.put(sample("flow", value))
    assert [each.value for each in inlet.drain()] == [2.0, 3.0]
    assert inlet.dropped == {"flow": 1}
    assert woken == []
    inlet.put(Lost(("flow",)))
    assert woken == [1]
