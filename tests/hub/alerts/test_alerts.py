"""Alerts: one per trouble, with hysteresis."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from muster_hub.alerts import rules
from muster_hub.alerts.rules import Condition, StandingAlert, decide
from muster_hub.alerts.troubles import Troubles
from muster_hub.fleet.known import Known
from muster_hub.storage.care import Care

CONDITION = Condition(key="k", kind="drift", severity="warning", title="t", detail={"a": 1})


def standing(condition=CONDITION, cleared_at=None):
    return StandingAlert(
        id=1,
        key=condition.key,
        severity=condition.severity,
        title=condition.title,
        detail=condition.detail,
        cleared_at=cleared_at,
    )


def at(now, alerts_=(), conditions=()):
    return decide(alerts_, conditions, now=now, clear_seconds=60)


def test_a_new_trouble_opens_one_alert_however_often_it_is_seen():
    severe = replace(CONDITION, severity="critical")
    assert at(0, [], [CONDITION, severe, CONDITION]).opened == (severe,)


def test_a_trouble_that_lasts_changes_nothing():
    changes = at(0, [standing()], [CONDITION])
    assert changes == rules.AlertChanges()


def test_what_an_alert_says_is_refreshed():
    wider = replace(CONDITION, title="more")
    assert at(0, [standing()], [wider]).refreshed == {1: wider}


def test_an_alert_resolves_only_after_its_cause_stayed_away():
    assert at(100, [standing()]).clearing == (1,)
    assert at(130, [standing(cleared_at=100)]) == rules.AlertChanges()
    assert at(160, [standing(cleared_at=100)]).resolved == (1,)


def test_a_cause_that_comes_back_in_time_keeps_the_same_alert():
    changes = at(130, [standing(cleared_at=100)], [CONDITION])
    assert changes.refreshed == {1: CONDITION}
    assert changes.opened == ()


def test_a_clock_that_jumped_back_starts_the_wait_anew():
    assert at(50, [standing(cleared_at=100)]).clearing == (1,)


def test_a_refused_update_names_model_and_reason():
    update = {"state": "failed", "refusal": "golden_mismatch", "model": "m", "version": "2"}
    found = rules.refused("d", "s", update)
    assert found is not None
    assert found.title == "d refused m 2 in s: golden_mismatch"
    assert rules.refused("d", "s", {"state": "committed"}) is None


def test_a_slot_whose_feeds_lack_something_is_a_trouble_of_its_own_while_it_says_so():
    report = {"slots": {"main": {"feed": "feed press: source plc: no answer"}, "b": {}}}
    device = Known("d", {}, True, report, 1.0, 1.0, True, 0.0)
    troubles = Troubles()
    troubles.look({"d": device}, ["d"], Care())
    (found,) = troubles.conditions((), 2.0, judges_silence=True)
    assert (found.key, found.kind) == ("feed/d/main", "feed")
    assert found.title == "d, slot main: feed press: source plc: no answer"
    well = replace(device, report={"slots": {"main": {}}})
    troubles.look({"d": well}, ["d"], Care())
    assert troubles.conditions((), 2.0, judges_silence=True) == []


def test_drift_names_the_feature_and_when_it_was_found():
    first, later = (rules.drifted("d", "m", "1", "flow", title="t", since=at) for at in (5.0, 9.0))
    assert first.detail == {"model": "m", "version": "1", "features": ["flow"]}
    assert first.key != later.key


@given(st.lists(st.booleans(), max_size=40), st.integers(1, 100))
def test_at_most_one_alert_stands_and_none_resolves_while_its_cause_is_there(seen, step):
    stands = None
    for tick, present in enumerate(seen):
        now = tick * step
        changes = at(now, [stands] if stands else [], [CONDITION] if present else [])
        assert len(changes.opened) <= (0 if stands else 1)
        if changes.opened:
            stands = standing()
        if changes.refreshed:
            stands = standing()
        if changes.clearing:
            assert not present
            stands = standing(cleared_at=now)
        if changes.resolved:
            assert not present
            stands = None
        if present:
            assert stands is not None
