"""Slow links are links: progress is bytes, each is paid once, and nothing that is there is refused.

In virtual time, at the chunk's real size; ``make bench-links`` measures the same over sockets.
"""

import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from muster_agent.fetch.actions import (
    AskHub,
    ChunkRun,
    HttpGet,
    HttpRange,
    Place,
    Subscribe,
    Unsubscribe,
)
from muster_agent.fetch.pace import AHEAD_SECONDS, SAMPLE_BYTES, Pace
from muster_agent.fetch.window import Fetch
from muster_protocol.wire.chunks import sha256_hex
from muster_protocol.wire.errors import Refusal
from muster_protocol.wire.limits import CHUNK_BYTES, KIB
from support.slow_link import Line, World, breaking, stalls, up_and_down

MODEL = [bytes([number + 1]) * CHUNK_BYTES for number in range(5)]
CHUNKS = {sha256_hex(data): data for data in MODEL}
NAMES = list(CHUNKS)
MODEL_BYTES = CHUNK_BYTES * len(MODEL)
PLACES = {name: Place("file", CHUNK_BYTES * at, CHUNK_BYTES) for at, name in enumerate(NAMES)}


def world(line, *, sources=0, retained=NAMES, pace=None, seed=1):
    fetch = Fetch(
        window=4, silence_seconds=4.0, http_sources=sources, rng=random.Random(seed),
        pace=pace or Pace(),
    )  # fmt: skip
    return World(line, fetch, CHUNKS, set(retained), places=PLACES)


@pytest.mark.parametrize("sources", [0, 1])
@pytest.mark.parametrize("rate", [1000, 2000, 5000, 12_000, 100_000])
def test_a_model_takes_its_size_over_the_rate_and_is_paid_for_once(rate, sources):
    """Rate as given, 400 ms each way, stalls of 5 s that make up 5 % of the time."""
    made = world(Line(rate, moves=stalls(0.05, 5.0)), sources=sources)
    seconds = made.run(seconds=4 * MODEL_BYTES / rate)
    assert made.kept == CHUNKS
    assert seconds <= 1.25 * MODEL_BYTES / rate + 4.0
    assert made.paid_bytes <= 1.1 * MODEL_BYTES
    assert made.asked_hub == 0


@pytest.mark.parametrize("rate", [2000, 5000, 12_000])
def test_a_link_that_comes_and_goes_pays_once_where_it_can_go_on_in_the_middle(rate):
    moves = up_and_down(60.0)
    made = world(Line(rate, moves=moves, breaks=breaking(moves, 45.0)), sources=1)
    seconds = made.run(seconds=10 * MODEL_BYTES / rate)
    assert made.kept == CHUNKS
    assert made.paid_bytes <= 1.1 * MODEL_BYTES + CHUNK_BYTES / 2
    assert seconds <= 1.25 * 2 * MODEL_BYTES / rate + 120.0


def test_what_the_broker_lacks_comes_by_http_however_slow_the_link():
    made = world(Line(2000), sources=1, retained=NAMES[:1])
    made.run(seconds=600)
    assert made.kept == CHUNKS
    assert made.paid_bytes <= 1.1 * MODEL_BYTES


@pytest.mark.parametrize("sources", [0, 1])
@pytest.mark.parametrize("rate", [2000, 100_000, 10_000_000])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_what_is_altered_everywhere_is_refused_as_soon_as_it_has_been_seen(rate, sources, count):
    """A copy that came whole is no chunk under way: nothing is waited for as if it were."""
    made = world(Line(rate), sources=sources)
    made.altered, made.chunks = True, {name: CHUNKS[name] for name in NAMES[:count]}
    seconds = made.run(seconds=3600)
    assert made.gave_up is not None
    assert made.gave_up.refusal is Refusal.CHUNK_ALTERED
    assert made.kept == {}
    # Each copy that was paid for takes its time; then one ordinary silence, on a slow link longer.
    assert seconds <= made.paid_bytes / rate + 45.0


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 32 * KIB), min_size=1, max_size=5),
    rate=st.floats(200_000, 10_000_000),
    delay=st.floats(0.0, 0.5),
    sources=st.integers(0, 1),
)
def test_small_models_that_are_altered_everywhere_are_refused_as_soon(sizes, rate, delay, sources):
    """So little comes that the link is never known: it isn't taken for a slow one."""
    made = world(Line(rate, delay), sources=sources)
    parts = [bytes([number]) * size for number, size in enumerate(sizes, 1)]
    made.altered, made.chunks = True, {sha256_hex(data): data for data in parts}
    made.retained = set(made.chunks)
    made.places = {}
    seconds = made.run(seconds=3600)
    assert made.gave_up is not None
    assert made.gave_up.refusal is Refusal.CHUNK_ALTERED
    assert made.kept == {}
    assert seconds <= 30.0


def test_what_nobody_has_is_still_refused_on_a_slow_link():
    made = world(Line(2000), retained=NAMES[:1])
    made.run(seconds=600)
    assert list(made.kept) == NAMES[:1]
    assert made.gave_up is not None


def test_on_a_slow_link_one_chunk_is_asked_for_at_a_time_on_a_fast_one_the_window():
    pace = Pace()
    pace.begin(0.0)
    pace.came(32 * KIB, 16.0)
    assert pace.slow
    assert pace.ahead_bytes == CHUNK_BYTES
    for second in range(17, 40):
        pace.came(1_000_000, float(second))
    assert not pace.slow
    assert pace.ahead_bytes > 4 * CHUNK_BYTES
    assert pace.ahead_bytes <= AHEAD_SECONDS * 1_000_000


def test_a_chunk_that_comes_by_the_other_source_is_kept():
    fetch = Fetch(window=4, silence_seconds=4.0, http_sources=1, rng=random.Random(1))
    fetch.link_up(0.0)
    fetch.need(NAMES[:1], 0.0)
    now = 0.0
    for _ in range(3):
        fetch.subscribed(NAMES[:1], now)
        now = fetch.deadline()
        actions = fetch.tick(now)
    assert any(type(action).__name__ == "HttpGet" for action in actions)
    kept, *_ = fetch.arrived(NAMES[0], CHUNKS[NAMES[0]], now + 1.0)
    assert (kept.digest, kept.healed) == (NAMES[0], False)
    assert fetch.done


@settings(max_examples=25, deadline=None)
@example(rate=3000.0, delay=1.0, stall=10.0, share=0.3, sources=0, seed=3)  # as a chunk begins
@example(rate=510.0, delay=2.0, stall=5.0, share=0.3, sources=1, seed=3)  # before it is known
@given(
    rate=st.floats(500, 200_000),
    delay=st.floats(0.01, 2.0),
    stall=st.floats(0.5, 20.0),
    share=st.floats(0.01, 0.3),
    sources=st.integers(0, 1),
    seed=st.integers(0, 1000),
)
def test_no_link_that_carries_bytes_is_taken_for_a_silent_one(
    rate, delay, stall, share, sources, seed
):
    """Whatever its rate, distance and stalls: no refusal, no second payment, no cry for the hub."""
    made = world(Line(rate, delay, moves=stalls(share, stall)), sources=sources, seed=seed)
    made.run(seconds=20 * MODEL_BYTES / rate + 1000)
    assert made.kept == CHUNKS
    assert made.gave_up is None
    # A stall before its speed is known may cost a chunk: fast links that lack one look the same.
    is_known = rate * (stall / share - stall - 2 * delay) >= SAMPLE_BYTES
    assert made.paid_bytes <= 1.1 * MODEL_BYTES + (0 if is_known else CHUNK_BYTES)


@settings(max_examples=15, deadline=None)
@given(
    rate=st.floats(2000, 100_000),
    up=st.floats(50.0, 200.0),
    sources=st.integers(0, 1),
    seed=st.integers(0, 1000),
)
def test_a_link_that_breaks_again_and_again_brings_everything_in_the_end(rate, up, sources, seed):
    moves = up_and_down(max(up, 1.5 * CHUNK_BYTES / rate + 10.0))
    line = Line(rate, moves=moves, breaks=breaking(moves, 45.0))
    made = world(line, sources=sources, seed=seed)
    made.run(seconds=30 * MODEL_BYTES / rate + 3000)
    assert made.kept == CHUNKS
    assert made.gave_up is None


def silent_until_the_hub_is_asked(fetch, names, now):
    actions = []
    while not any(type(action).__name__ == "AskHub" for action in actions):
        fetch.subscribed(names, now)
        now = fetch.deadline()
        actions = fetch.tick(now)
    return actions, now


def test_what_the_broker_has_no_room_for_comes_by_http_from_the_hubs_first_word():
    fetch = Fetch(window=2, silence_seconds=4.0, http_sources=1, rng=random.Random(1))
    fetch.link_up(0.0)
    fetch.need(NAMES, 0.0, PLACES)
    actions, now = silent_until_the_hub_is_asked(fetch, NAMES[:2], 0.0)
    assert not actions[-1].last_resort
    actions = fetch.arrived(NAMES[0], b"", now) + fetch.arrived(NAMES[1], b"", now)
    assert actions == [
        Unsubscribe((NAMES[0],)), HttpGet(0, NAMES[0]),
        HttpRange(0, ChunkRun("file", 2 * CHUNK_BYTES, tuple(NAMES[2:]), (CHUNK_BYTES,) * 3)),
        Unsubscribe((NAMES[1],)), HttpGet(0, NAMES[1]),
    ]  # fmt: skip


def test_a_device_without_another_source_has_the_hub_send_what_the_broker_has_no_room_for():
    fetch = Fetch(window=1, silence_seconds=4.0, http_sources=0, rng=random.Random(1))
    fetch.link_up(0.0)
    fetch.need(NAMES, 0.0, PLACES)
    actions, now = silent_until_the_hub_is_asked(fetch, NAMES[:1], 0.0)
    actions = fetch.arrived(NAMES[0], b"", now)
    for name in NAMES:
        # The subscription goes first: what the hub sends isn't retained.
        assert actions[-2:] == [Subscribe((name,)), AskHub((name,), last_resort=True)]
        actions = fetch.arrived(name, CHUNKS[name], now)
    assert fetch.done
