"""The receiver's window: it ends with every chunk right, or with a reason, whatever sources do."""

import random
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_agent.fetch.actions import (
    BROKER,
    AskHub,
    ChunkRun,
    GiveUp,
    HttpGet,
    HttpRange,
    Keep,
    Place,
    Subscribe,
    Unsubscribe,
)
from muster_agent.fetch.window import AT_ONCE_CHUNKS, RUN_CHUNKS, Fetch
from muster_protocol.wire.chunks import sha256_hex
from muster_protocol.wire.errors import Refusal

CHUNKS = {sha256_hex(data): data for data in (bytes([n]) * 10 for n in range(20))}
NAMES = list(CHUNKS)
PLACES = {name: Place("file", 10 * number, 10) for number, name in enumerate(NAMES)}


class Confirmed(Fetch):
    """At a broker that takes every subscription at once."""

    def need(self, digests, now, places=None):
        return self._taken(super().need(digests, now, places), now)

    def tick(self, now):
        return self._taken(super().tick(now), now)

    def arrived(self, digest, data, now):
        return self._taken(super().arrived(digest, data, now), now)

    def answered(self, source, digest, data, detail, now, **how):
        return self._taken(super().answered(source, digest, data, detail, now, **how), now)

    def _taken(self, actions, now):
        for action in of(Subscribe, actions):
            self.subscribed(action.digests, now)
        return actions


def fetch(sources=0, window=4):
    made = Confirmed(window=window, silence_seconds=4.0, http_sources=sources, rng=random.Random(1))
    made.link_up(0.0)
    return made


def of(kind, actions):
    return [action for action in actions if isinstance(action, kind)]


def test_no_more_than_the_window_is_asked_for_at_once():
    item = fetch()
    asked = of(Subscribe, item.need(NAMES, 0.0))
    assert [action.digests[0] for action in asked] == NAMES[:4]
    actions = item.arrived(NAMES[0], CHUNKS[NAMES[0]], 0.1)
    assert actions == [
        Keep(NAMES[0], CHUNKS[NAMES[0]], healed=False, source=BROKER),
        Unsubscribe((NAMES[0],)),
        Subscribe((NAMES[4],)),
    ]


def test_silence_asks_again_then_the_hub_then_the_http_source():
    item = fetch(sources=1)
    item.need(NAMES[:2], 0.0)
    seen, now = [], 0.0
    for _ in range(3):
        waited = item.deadline() - now
        assert 3.0 <= waited <= 5.0
        now = item.deadline()
        seen.append([type(action).__name__ for action in item.tick(now)])
    assert seen == [
        ["Unsubscribe", "Subscribe"],
        ["Unsubscribe", "Subscribe", "AskHub"],
        ["Unsubscribe", "HttpGet", "HttpGet"],
    ]


def test_progress_on_one_chunk_keeps_the_watchdog_quiet():
    item = fetch()
    item.need(NAMES, 0.0)
    for number, name in enumerate(NAMES):
        now = 2.9 * (number + 1)
        assert item.tick(now) == []
        item.arrived(name, CHUNKS[name], now)
    assert item.done


def test_what_has_come_is_not_lost_and_silence_means_nothing_while_the_link_is_down():
    item = fetch()
    item.need(NAMES[:4], 0.0)
    assert item.link_down(1.0) == []
    assert item.deadline() == float("inf")
    assert item.tick(1e6) == []
    item.link_up(1e6)
    assert item.deadline() == float("inf")
    item.subscribed(NAMES[:4], 1e6)
    assert item.deadline() < 1e6 + 6


def test_an_altered_chunk_heals_from_the_next_source():
    item = fetch(sources=2)
    item.need(NAMES[:1], 0.0)
    actions = item.arrived(NAMES[0], b"altered", 0.1)
    assert actions == [Unsubscribe((NAMES[0],)), HttpGet(0, NAMES[0])]
    assert item.answered(0, NAMES[0], b"altered too", "", 0.2) == [HttpGet(1, NAMES[0])]
    (kept,) = item.answered(1, NAMES[0], CHUNKS[NAMES[0]], "", 0.3)
    assert kept == Keep(NAMES[0], CHUNKS[NAMES[0]], healed=True, source=1)
    assert item.done


def test_a_chunk_altered_everywhere_ends_with_that_name():
    item = fetch(sources=1)
    item.need(NAMES[:1], 0.0)
    item.arrived(NAMES[0], b"altered", 0.1)
    actions = item.answered(0, NAMES[0], b"altered", "", 0.2)
    assert of(AskHub, actions)
    assert item.arrived(NAMES[0], b"altered", 0.3) == []
    (gave_up,) = of(GiveUp, item.tick(item.deadline()))
    assert gave_up.refusal is Refusal.CHUNK_ALTERED
    assert "the broker and HTTP source 1" in gave_up.detail


def test_a_chunk_the_hub_publishes_anew_heals_without_any_http_source():
    item = fetch()
    item.need(NAMES[:1], 0.0)
    actions = item.arrived(NAMES[0], b"altered", 0.1)
    assert of(AskHub, actions) == [AskHub((NAMES[0],))]
    item.arrived(NAMES[0], b"altered", 0.2)
    (kept,) = of(Keep, item.arrived(NAMES[0], CHUNKS[NAMES[0]], 0.3))
    assert kept.healed


def test_a_chunk_nobody_has_ends_with_that_name_and_the_last_reason():
    item = fetch(sources=1)
    item.need(NAMES[:1], 0.0)
    for _ in range(3):
        actions = item.tick(item.deadline())
    assert of(HttpGet, actions)
    (gave_up,) = of(GiveUp, item.answered(0, NAMES[0], None, "answered 404", 99.0))
    assert (gave_up.refusal, "404" in gave_up.detail) == (Refusal.CHUNK_MISSING, True)


def test_an_http_source_that_never_answers_is_given_up():
    item = fetch(sources=1)
    item.need(NAMES[:1], 0.0)
    item.arrived(NAMES[0], b"altered", 0.1)
    actions = item.tick(item.deadline())
    assert of(AskHub, actions)


def test_late_and_foreign_messages_are_ignored():
    item = fetch()
    item.need(NAMES[:1], 0.0)
    assert item.arrived(NAMES[9], CHUNKS[NAMES[9]], 0.1) == []
    item.arrived(NAMES[0], CHUNKS[NAMES[0]], 0.1)
    assert item.arrived(NAMES[0], b"altered", 0.2) == []
    assert item.answered(0, NAMES[0], b"altered", "", 0.2) == []


def http_first(sources=1, places=PLACES):
    """A fetch that has found the broker silent: its HTTP sources come first from now on."""
    item = fetch(sources)
    first = sha256_hex(b"first")
    item.need([first], 0.0)
    for _ in range(3):
        item.tick(item.deadline())
    asked = item.answered(0, first, b"first", "", 20.0)
    assert of(Keep, asked)
    return item, item.need(NAMES, 20.0, places)


def test_neighbours_are_asked_for_in_one_range_and_the_next_one_waits_already():
    first, actions = http_first()
    runs = [action.run for action in of(HttpRange, actions)]
    assert [run.digests for run in runs] == [
        tuple(NAMES[:RUN_CHUNKS]), tuple(NAMES[RUN_CHUNKS:AT_ONCE_CHUNKS]),
    ]  # fmt: skip
    assert [(run.offset, run.size_bytes) for run in runs] == [(0, 80), (80, 80)]
    for name in NAMES[:RUN_CHUNKS]:
        actions = first.answered(0, name, CHUNKS[name], "", 21.0)
    assert actions == [
        Keep(name, CHUNKS[name], healed=False, source=0),
        HttpRange(0, ChunkRun("file", 160, tuple(NAMES[AT_ONCE_CHUNKS:]), (10,) * 4)),
    ]


def test_a_run_ends_where_the_file_does_or_a_chunk_is_here_already():
    split = {name: Place("a" if n < 3 else "b", 10 * n, 10) for n, name in enumerate(NAMES)}
    del split[NAMES[5]]
    _, actions = http_first(places=split)
    assert [action.run.digests for action in of(HttpRange, actions)] == [
        tuple(NAMES[:3]), tuple(NAMES[3:5]), tuple(NAMES[6:14]),
    ]  # fmt: skip
    assert of(HttpGet, actions) == [HttpGet(0, NAMES[5])]


def test_a_budget_bounds_what_is_asked_for_at_once():
    first, actions = http_first(places={})
    assert [action.digest for action in of(HttpGet, actions)] == NAMES[:4]
    first, _ = http_first()
    first.at_once = 5
    actions = []
    for name in NAMES[:AT_ONCE_CHUNKS]:
        actions += of(HttpRange, first.answered(0, name, CHUNKS[name], "", 21.0))
    assert [action.run.digests for action in actions] == [tuple(NAMES[AT_ONCE_CHUNKS:])]


def test_a_source_without_ranges_is_asked_for_each_chunk_by_its_name():
    first, _ = http_first()
    asked = []
    for name in NAMES[:AT_ONCE_CHUNKS]:
        asked += first.answered(0, name, None, "answered 200", 21.0, unserved=True)
    assert asked == [HttpGet(0, name) for name in NAMES[:AT_ONCE_CHUNKS]]
    for name in NAMES[:AT_ONCE_CHUNKS]:
        asked = first.answered(0, name, CHUNKS[name], "", 22.0)
    assert not of(HttpRange, asked)
    assert of(HttpGet, asked)


def test_what_is_altered_in_a_range_heals_by_its_name_from_the_same_source():
    first, _ = http_first()
    assert first.answered(0, NAMES[0], b"altered", "", 21.0) == [HttpGet(0, NAMES[0])]
    (kept, *_) = first.answered(0, NAMES[0], CHUNKS[NAMES[0]], "", 21.0)
    assert kept == Keep(NAMES[0], CHUNKS[NAMES[0]], healed=True, source=0)


def test_a_range_that_breaks_off_keeps_what_came_and_the_next_source_has_the_rest():
    first, _ = http_first(sources=2)
    assert of(Keep, first.answered(0, NAMES[0], CHUNKS[NAMES[0]], "", 21.0))
    assert first.answered(0, NAMES[1], None, "ended", 21.0) == [HttpGet(1, NAMES[1])]


def test_a_slow_source_is_not_late_while_chunks_of_its_runs_come():
    first, _ = http_first()
    now = 20.0
    for name in NAMES[:AT_ONCE_CHUNKS]:
        now += 80.0
        assert first.tick(now) == []
        assert of(Keep, first.answered(0, name, CHUNKS[name], "", now))


def http_answers(item, action, now, draw):
    """Of a range every chunk, or none for want of ranges; each good, altered or missing."""
    run = action.run.digests if isinstance(action, HttpRange) else ()
    unserved = bool(run) and draw(st.booleans())
    for digest in run or (action.digest,):
        came = draw(st.sampled_from([CHUNKS[digest], b"x", None]))
        yield from item.answered(
            action.source, digest, None if unserved else came, "answered 404", now,
            unserved=unserved,
        )  # fmt: skip


@pytest.mark.parametrize("sources", [0, 1, 3])
@given(data=st.data())
def test_whatever_the_sources_do_every_chunk_comes_right_or_a_reason_does(sources, data):
    """Each ask is answered by the chunk, an altered one, or silence (an error for HTTP)."""
    item = fetch(sources, window=data.draw(st.integers(1, 6)))
    names = NAMES[: data.draw(st.integers(1, 12))]
    kinds = st.sampled_from(["good", "altered", "silent"])
    kept, gave_up, now = {}, [], 0.0
    todo = deque(item.need(names, now, PLACES))
    for _ in range(10_000):
        if not todo:
            if item.done or gave_up:
                break
            now = item.deadline()
            assert now < float("inf")
            todo.extend(item.tick(now))
            continue
        action = todo.popleft()
        if isinstance(action, Keep):
            assert sha256_hex(action.data) == action.digest
            kept[action.digest] = action.data
        elif isinstance(action, GiveUp):
            gave_up.append(action)
        elif isinstance(action, Subscribe):
            for digest in action.digests:
                kind = data.draw(kinds)
                if kind != "silent":
                    came = CHUNKS[digest] if kind == "good" else b"x"
                    todo.extend(item.arrived(digest, came, now))
        elif isinstance(action, HttpGet | HttpRange):
            todo.extend(http_answers(item, action, now, data.draw))
    assert len(gave_up) <= 1
    assert item.done
    assert gave_up or set(kept) == set(names)
