"""Nothing is lost and nothing counts twice, whoever is killed and whenever.

``MUSTER_CHAOS_SECONDS`` sets how long everything is killed at random, ``MUSTER_CHAOS_SEED`` the
order of it.
"""

import os
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from chaos.ground import Ground, acknowledged, committed, finish, logged
from muster_protocol.signals import summary_wire

DEVICES = 2
SECONDS = float(os.environ.get("MUSTER_CHAOS_SECONDS", "15"))
SEED = int(os.environ.get("MUSTER_CHAOS_SEED", "5"))

pytestmark = [pytest.mark.system, pytest.mark.long, pytest.mark.timeout(400 + 3 * SECONDS)]


def test_kills_of_broker_hub_and_agents_neither_lose_nor_double_a_count(tmp_path: Path) -> None:
    with ExitStack() as stack:
        ground = Ground(tmp_path, DEVICES, SEED, stack)
        data = ground.release(tmp_path / "model")

        feeders = ground.feed(data, seed=100)
        ground.rage(SECONDS)
        fed = finish(feeders)
        counted = ground.settled({name: tally.answered for name, tally in fed.items()})
        for name, tally in fed.items():
            assert tally.answered <= counted[name] <= tally.sent, (name, tally.failures)

        calm = finish_after(ground, data, seconds=3.0)
        again = ground.settled({name: counted[name] + calm[name] for name in counted})
        assert again == {name: counted[name] + calm[name] for name in counted}

        rows = 0
        for device in ground.devices:
            rows += the_hub_has_what_the_outbox_sent(
                ground.hub.data / "hub.db", device.directory / "state.db", device.name,
                inferences=again[device.name],
            )  # fmt: skip
        assert ground.kills.total() > SECONDS / 4, ground.kills
        kills = ", ".join(f"{count} of {what}" for what, count in sorted(ground.kills.items()))
        sent, answered = (
            sum(getattr(tally, field) for tally in fed.values()) for field in ("sent", "answered")
        )
        print(
            f"{ground.kills.total()} kills in {SECONDS:g} s ({kills}): {answered} answered <= "
            f"{sum(counted.values())} counted <= {sent} sent; {rows} rows each exactly once"
        )


def finish_after(ground: Ground, data: object, *, seconds: float) -> dict[str, int]:
    """Feed in peace; what was answered, which must be all that was sent."""
    feeders = ground.feed(data, seed=200)
    ground.wait("some are answered", lambda: all(
        feeder.tally.answered > seconds * 10 for feeder in feeders.values()
    ))  # fmt: skip
    tallies = finish(feeders)
    for name, tally in tallies.items():
        assert tally.failed == 0, (name, tally.failures)
    return {name: tally.answered for name, tally in tallies.items()}


def the_hub_has_what_the_outbox_sent(
    hub: Path, state: Path, device: str, *, inferences: int
) -> int:
    """Compare row by row; how many there are."""
    log = logged(state)
    by_stream = {
        stream: {(row.epoch, row.sequence): row.payload for row in log if row.stream == stream}
        for stream in ("summary", "event")
    }
    assert Counter(row.stream for row in log) == Counter(
        {stream: len(rows) for stream, rows in by_stream.items()}
    ), "a sequence was given twice"
    for stream, rows in by_stream.items():
        for epoch in {epoch for epoch, _ in rows}:
            numbers = sorted(number for row, number in rows if row == epoch)
            assert numbers == list(range(1, len(numbers) + 1)), (stream, "has a gap")
            assert acknowledged(hub, device)[stream, epoch] == numbers[-1]

    events = committed(hub, device, "event")
    assert Counter(events) == Counter(dict.fromkeys(by_stream["event"], 1))
    windows = committed(hub, device, "summary_window")
    assert len(windows) == len(by_stream["summary"])
    assert {(epoch, number): data for epoch, number, _, data in windows} == by_stream["summary"]
    for _, _, n, payload in windows:
        header = summary_wire.peek(payload)
        assert isinstance(header, summary_wire.Header)
        assert n == header.summary.counts.inferences
    assert sum(n for _, _, n, _ in windows) == inferences
    return len(log)
