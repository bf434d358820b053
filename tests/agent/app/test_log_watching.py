"""The log on its way to whoever watches it: for a while, bounded, once a request, no secrets."""

import logging

import pytest
from msgspec import UNSET

from muster_agent.app.log_watching import (
    BYTES_MAX,
    LINES_MAX,
    LINES_PER_TURN,
    RECENT_LINES,
    TURN_SECONDS,
    WATCH_SECONDS,
    LogLines,
    LogWatching,
)
from muster_agent.app.redacting import redacted
from muster_agent.storage.state import open_state
from muster_agent.trust.time import Instant
from muster_protocol.wire import messages
from muster_protocol.wire.directive import TimedRequest
from support.agent_world import NOW, Device, World
from wire_samples import STAMP

LATER = NOW + 3600


class Watched:
    def __init__(self, directory, *, rooms=True):
        self.state = open_state(directory, {})
        self.lines = LogLines(lambda: STAMP)
        self.room = rooms
        self.watching = LogWatching(
            self.state, self.lines, lambda: Instant(NOW, "synchronised"), lambda: self.room
        )
        self.logger = logging.getLogger("muster_agent.test_log_watching")
        self.logger.setLevel(logging.INFO)
        self.logger.addHandler(self.lines)

    def close(self):
        self.logger.removeHandler(self.lines)
        self.state.close()

    def sent(self, now):
        """As the hub reads it."""
        events = [
            messages.decode(messages.encode(each), messages.Event)
            for each in self.watching.events(now)
        ]
        assert {each.kind for each in events} <= {"log"}
        return [each.detail.partition(": ")[2] for each in events]

    def all_sent(self, now):
        found = []
        while now < (due := self.watching.deadline(now)) < float("inf") or due == now:
            found += self.sent(due)
            now = due + 0.001
        return found


@pytest.fixture
def watched(tmp_path):
    made = Watched(tmp_path)
    yield made
    made.close()


def test_nothing_is_sent_unless_somebody_watches_who_sees_the_latest_lines_first(watched):
    for number in range(RECENT_LINES + 10):
        watched.logger.info("line %d", number)
    assert watched.sent(5.0) == []
    watched.watching.obey(UNSET, 5.0)
    assert watched.watching.deadline(5.0) == float("inf")
    watched.watching.obey(TimedRequest(1, LATER), 10.0)
    assert watched.sent(10.0) == [f"line {10 + number}" for number in range(LINES_PER_TURN)]
    assert watched.sent(10.0 + TURN_SECONDS / 2) == []
    rest = watched.all_sent(10.0 + TURN_SECONDS)
    assert rest == [f"line {n}" for n in range(10 + LINES_PER_TURN, RECENT_LINES + 10)]
    watched.logger.info("too late")
    assert watched.sent(10.0 + WATCH_SECONDS) == []


def test_a_request_counts_once_also_across_a_restart_and_not_when_it_comes_late(watched, tmp_path):
    watched.logger.warning("trouble")
    watched.watching.obey(TimedRequest(2, NOW), 0.0)
    assert watched.sent(0.0) == []
    watched.watching.obey(TimedRequest(2, LATER), 0.0)
    assert watched.sent(0.0) == []
    watched.watching.obey(TimedRequest(3, LATER), 0.0)
    assert watched.sent(0.0) == ["trouble"]
    watched.state.close()
    again = Watched(tmp_path)
    again.logger.warning("trouble")
    again.watching.obey(TimedRequest(3, LATER), 0.0)
    assert again.sent(0.0) == []
    again.close()


def test_a_noisy_log_is_cut_and_says_how_much_was_not_sent(watched):
    watched.watching.obey(TimedRequest(1, LATER), 0.0)
    watched.logger.info("first")
    assert watched.sent(0.0) == ["first"]
    for number in range(RECENT_LINES * 3):
        watched.logger.info("noise %d", number)
    found = watched.sent(TURN_SECONDS)
    assert found[0] == f"{RECENT_LINES * 2} lines were not sent"
    assert len(found) == LINES_PER_TURN + 1
    assert all("more lines" not in line for line in found)
    total, now = list(found), TURN_SECONDS
    while watched.watching.deadline(now) < float("inf"):
        for _ in range(LINES_PER_TURN):
            watched.logger.info("x" * 400)
        now += TURN_SECONDS
        total += watched.sent(now)
    assert total[-1] == "no more lines for this request"
    assert len(total) <= LINES_MAX + 10
    assert sum(map(len, total)) <= BYTES_MAX + 1024


def test_it_leaves_the_days_bytes_to_telemetry(watched):
    watched.logger.info("a line")
    watched.room = False
    watched.watching.obey(TimedRequest(1, LATER), 0.0)
    assert watched.sent(0.0) == []
    assert watched.watching.deadline(0.0) == float("inf")


def test_lines_go_home_by_the_outbox_once_each(tmp_path):
    world = World()
    device = Device(world, tmp_path)
    lines = LogLines(lambda: STAMP)
    logger = logging.getLogger("muster_agent.test_log_watching")
    logger.setLevel(logging.INFO)
    logger.addHandler(lines)
    device.log_watch = lambda state: LogWatching(
        state, lines, lambda: Instant(NOW, "synchronised"), lambda: True
    )
    device.boot()
    logger.info("before")
    world.direct(world.release("1"), log_watch=TimedRequest(1, LATER))
    device.run(10)
    logger.info("after")
    device.run(10)
    sent = [event.detail.partition(": ")[2] for event in device.events_of("log")]
    logger.removeHandler(lines)
    device.cut()
    assert sent == ["before", "after"]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("GET with Authorization: Bearer abc.def-123", "Bearer …"),
        ("password=hunter2 user=ada", "password=… user=ada"),
        ('{"token": "s3cret", "name": "x"}', '"name": "x"'),
        ("api_key: abcd1234, done", "api_key: …, done"),
        ("https://ada:hunter2@proxy:3128/x", "https://…@proxy:3128/x"),
        ("pkcs11:token=Muster;pin-value=1234;object=k", "object=k"),
        ("token t1.s3cret.%s is damaged" % ("a1" * 32), "token … is damaged"),
        ("-----BEGIN PRIVATE KEY-----\nMIG\n-----END PRIVATE KEY----- rest", "… rest"),
        ("-----BEGIN PRIVATE KEY-----\nMIG", "…"),
        ("offline: hub:8883 does not answer", "offline: hub:8883 does not answer"),
    ],
)
def test_what_lets_somebody_in_is_left_out(text, left):
    found = redacted(text)
    assert left in found
    for secret in ("hunter2", "s3cret", "abcd1234", "abc.def-123", "1234;", "MIG"):
        assert secret not in found
