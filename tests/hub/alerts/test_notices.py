"""Which alerts are told, when and together; when retraining is asked for."""

from itertools import pairwise

import hypothesis.strategies as st
from hypothesis import given

from muster_hub.alerts import notices
from muster_hub.alerts.notices import DAY_SECONDS, ActiveSilence, Fact, Retraining
from muster_protocol.wire import selectors

WAIT, ESCALATE = 10.0, 100.0


def fact(number: int = 1, **fields: object) -> Fact:
    settled = {"kind": "drift", "state": "open", "opened": 0.0, "notified": "", "device": "cam-1",
               "model": "digits", "labels": {"site": "berlin"}}  # fmt: skip
    return Fact(id=number, **(settled | fields))


def decided(
    facts: list[Fact], now: float, *silences: ActiveSilence
) -> list[tuple[str, tuple[int, ...]]]:
    found = notices.decide(facts, silences, now=now, group_seconds=WAIT, escalate_seconds=ESCALATE)
    return [(notice.step, notice.alerts) for notice in found]


def test_alerts_of_one_site_model_and_cause_are_told_together_after_a_moment():
    facts = [fact(1), fact(2, opened=9.0, device="cam-2"), fact(3, labels={"site": "rome"})]
    assert decided(facts, 5.0) == []
    assert decided(facts, 10.0) == [("opened", (1, 2)), ("opened", (3,))]


def test_what_nobody_acknowledges_is_told_once_more():
    assert decided([fact(notified="opened")], ESCALATE) == [("escalated", (1,))]
    assert decided([fact(notified="opened", state="acknowledged")], ESCALATE) == []
    assert decided([fact(notified="escalated")], 9 * ESCALATE) == []


def test_the_end_is_told_of_what_was_told_to_begin():
    assert decided([fact(state="resolved", notified="escalated")], 20.0) == [("resolved", (1,))]
    assert decided([fact(state="resolved")], 20.0) == []
    assert decided([fact(state="acknowledged")], 20.0) == []


def test_a_silence_holds_back_matching_devices_until_it_ends():
    berlin = ActiveSilence(selectors.parse("site=berlin"), until=50.0)
    hub = fact(2, device=None, labels={})
    assert decided([fact(), hub], 20.0, berlin) == [("opened", (2,))]
    assert decided([fact(), hub], 20.0, ActiveSilence(selectors.parse(""), 50.0)) == []
    assert decided([fact()], 50.0, berlin) == [("opened", (1,))]


@given(
    st.lists(st.tuples(st.floats(0, 300), st.sampled_from(["open", "acknowledged", "resolved"]))),
    st.lists(st.floats(0, 1000), max_size=20),
)
def test_no_step_of_an_alert_is_told_twice(alerts, looks):
    facts = {n: fact(n, opened=at, state=state) for n, (at, state) in enumerate(alerts)}
    seen = []
    for now in sorted(looks):
        for step, members in decided(list(facts.values()), now):
            for number in members:
                seen.append((step, number))
                facts[number] = fact(
                    number, opened=facts[number].opened, state=facts[number].state, notified=step
                )
    assert len(seen) == len(set(seen))


def test_the_digest_comes_once_a_day_at_its_hour():
    six = 6 * 3600.0
    assert not notices.digest_due(None, 10 * DAY_SECONDS + six, 6)
    yesterday = 9 * DAY_SECONDS + six
    assert not notices.digest_due(yesterday, 10 * DAY_SECONDS + six - 1, 6)
    assert notices.digest_due(yesterday, 10 * DAY_SECONDS + six, 6)
    assert not notices.digest_due(10 * DAY_SECONDS + six, 10 * DAY_SECONDS + six + 5, 6)


def ask(drifting: list[tuple[float, int]], devices: int = 4) -> list[float]:
    """When retraining was asked for, given how many devices drifted when."""
    state, asked = Retraining(), []
    for now, count in drifting:
        state, wanted = notices.retrain(
            state, count, now=now, devices=devices, after_seconds=10, cooldown_seconds=100
        )
        asked += [now] if wanted else []
    return asked


def test_one_drift_asks_for_retraining_once_however_long_it_lasts():
    assert ask([(float(now), 5) for now in range(0, 1000, 5)]) == [10.0]


def test_a_number_that_wavers_about_the_mark_asks_no_second_time():
    assert ask([(now * 20.0 + half * 12, 4 - half) for now in range(50) for half in (0, 1)]) == []
    steady = [(0.0, 4), (10.0, 4)]
    assert ask([*steady, *((20.0 + now, 3 + now % 2) for now in range(500))]) == [10.0]


def test_a_new_drift_asks_again_but_not_before_the_cooldown_is_over():
    gone = [(0.0, 4), (10.0, 4), (20.0, 1)]
    assert ask([*gone, (30.0, 4), (50.0, 4), (109.0, 4), (110.0, 4)]) == [10.0, 110.0]


@given(st.lists(st.tuples(st.floats(0, 50), st.integers(0, 9)), max_size=60))
def test_requests_are_never_closer_than_the_cooldown(steps):
    now, drifting = 0.0, []
    for passed, count in steps:
        now += passed
        drifting.append((now, count))
    asked = ask(drifting)
    assert all(later - earlier >= 100 for earlier, later in pairwise(asked))
