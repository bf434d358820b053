"""The receiver's window: it ends with every chunk right, or with a reason, whatever sources do."""

import random
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_agent.fetch import (
    BROKER,
    AskHub,
    Fetch,
    GiveUp,
    HttpGet,
    Keep,
    Subscribe,
    Unsubscribe,
)
from muster_protocol.chunks import sha256_hex
from muster_protocol.errors import Refusal

CHUNKS = {sha256_hex(data): data for data in (bytes([n]) * 10 for n in range(20))}
NAMES = list(CHUNKS)


def fetch(sources=0, window=4):
    made = Fetch(window=window, silence_seconds=4.0, http_sources=sources, rng=random.Random(1))
    made.link_up(0.0)
    return made


def of(kind, actions):
    return [action for action in actions if isinstance(action, kind)]


def test_no_more_than_the_window_is_asked_for_at_once():
    one = fetch()
    asked = of(Subscribe, one.need(NAMES, 0.0))
    assert [action.digests[0] for action in asked] == NAMES[:4]
    actions = one.arrived(NAMES[0], CHUNKS[NAMES[0]], 0.1)
    assert actions == [
        Keep(NAMES[0], CHUNKS[NAMES[0]], healed=False),
        Unsubscribe((NAMES[0],)),
        Subscribe((NAMES[4],)),
    ]


def test_silence_asks_again_then_the_hub_then_the_http_source():
    one = fetch(sources=1)
    one.need(NAMES[:2], 0.0)
    seen, now = [], 0.0
    for _ in range(3):
        waited = one.deadline() - now
        assert 3.0 <= waited <= 5.0
        now = one.deadline()
        seen.append([type(action).__name__ for action in one.tick(now)])
    assert seen == [
        ["Unsubscribe", "Subscribe"],
        ["Unsubscribe", "Subscribe", "AskHub"],
        ["Unsubscribe", "HttpGet", "HttpGet"],
    ]


def test_progress_on_one_chunk_keeps_the_watchdog_quiet():
    one = fetch()
    one.need(NAMES, 0.0)
    for number, name in enumerate(NAMES):
        now = 2.9 * (number + 1)
        assert one.tick(now) == []
        one.arrived(name, CHUNKS[name], now)
    assert one.done


def test_what_has_come_is_not_lost_and_silence_means_nothing_while_the_link_is_down():
    one = fetch()
    one.need(NAMES[:4], 0.0)
    one.link_down()
    assert one.deadline() == float("inf")
    assert one.tick(1e6) == []
    one.link_up(1e6)
    assert one.deadline() < 1e6 + 6


def test_an_altered_chunk_heals_from_the_next_source():
    one = fetch(sources=2)
    one.need(NAMES[:1], 0.0)
    actions = one.arrived(NAMES[0], b"altered", 0.1)
    assert actions == [Unsubscribe((NAMES[0],)), HttpGet(0, NAMES[0])]
    assert one.answered(0, NAMES[0], b"altered too", "", 0.2) == [HttpGet(1, NAMES[0])]
    (kept,) = one.answered(1, NAMES[0], CHUNKS[NAMES[0]], "", 0.3)
    assert kept == Keep(NAMES[0], CHUNKS[NAMES[0]], healed=True)
    assert one.done


def test_a_chunk_altered_everywhere_ends_with_that_name():
    one = fetch(sources=1)
    one.need(NAMES[:1], 0.0)
    one.arrived(NAMES[0], b"altered", 0.1)
    actions = one.answered(0, NAMES[0], b"altered", "", 0.2)
    assert of(AskHub, actions)
    assert one.arrived(NAMES[0], b"altered", 0.3) == []
    (gave_up,) = of(GiveUp, one.tick(one.deadline()))
    assert gave_up.refusal is Refusal.CHUNK_ALTERED
    assert "the broker and HTTP source 1" in gave_up.detail


def test_a_chunk_the_hub_publishes_anew_heals_without_any_http_source():
    one = fetch()
    one.need(NAMES[:1], 0.0)
    actions = one.arrived(NAMES[0], b"altered", 0.1)
    assert of(AskHub, actions) == [AskHub((NAMES[0],))]
    one.arrived(NAMES[0], b"altered", 0.2)
    (kept,) = of(Keep, one.arrived(NAMES[0], CHUNKS[NAMES[0]], 0.3))
    assert kept.healed


def test_a_chunk_nobody_has_ends_with_that_name_and_the_last_reason():
    one = fetch(sources=1)
    one.need(NAMES[:1], 0.0)
    for _ in range(3):
        actions = one.tick(one.deadline())
    assert of(HttpGet, actions)
    (gave_up,) = of(GiveUp, one.answered(0, NAMES[0], None, "answered 404", 99.0))
    assert (gave_up.refusal, "404" in gave_up.detail) == (Refusal.CHUNK_MISSING, True)


def test_an_http_source_that_never_answers_is_given_up():
    one = fetch(sources=1)
    one.need(NAMES[:1], 0.0)
    one.arrived(NAMES[0], b"altered", 0.1)
    actions = one.tick(one.deadline())
    assert actions == []  # The broker's watchdog has nothing to watch.
    actions = one.tick(one.deadline())
    assert of(AskHub, actions)


def test_late_and_foreign_messages_are_ignored():
    one = fetch()
    one.need(NAMES[:1], 0.0)
    assert one.arrived(NAMES[9], CHUNKS[NAMES[9]], 0.1) == []
    one.arrived(NAMES[0], CHUNKS[NAMES[0]], 0.1)
    assert one.arrived(NAMES[0], b"altered", 0.2) == []
    assert one.answered(0, NAMES[0], b"altered", "", 0.2) == []


@pytest.mark.parametrize("sources", [0, 1, 3])
@given(data=st.data())
def test_whatever_the_sources_do_every_chunk_comes_right_or_a_reason_does(sources, data):
    """Each ask is answered by the chunk, an altered one, or silence (an error for HTTP)."""
    one = fetch(sources, window=data.draw(st.integers(1, 6)))
    names = NAMES[: data.draw(st.integers(1, 12))]
    kinds = st.sampled_from(["good", "altered", "silent"])
    kept, gave_up, now = {}, [], 0.0
    todo = deque(one.need(names, now))
    for _ in range(10_000):
        if not todo:
            if one.done or gave_up:
                break
            now = one.deadline()
            assert now < float("inf")
            todo.extend(one.tick(now))
            continue
        action = todo.popleft()
        if isinstance(action, Keep):
            assert sha256_hex(action.data) == action.digest
            kept[action.digest] = action.data
        elif isinstance(action, GiveUp):
            gave_up.append(action)
        elif isinstance(action, Subscribe | HttpGet):
            source = BROKER if isinstance(action, Subscribe) else action.source
            asked = action.digests if isinstance(action, Subscribe) else (action.digest,)
            for digest in asked:
                answer = {"good": CHUNKS[digest], "altered": b"x", "silent": None}[data.draw(kinds)]
                if source != BROKER:
                    todo.extend(one.answered(source, digest, answer, "answered 404", now))
                elif answer is not None:
                    todo.extend(one.arrived(digest, answer, now))
    assert len(gave_up) <= 1
    assert one.done
    assert gave_up or set(kept) == set(names)
