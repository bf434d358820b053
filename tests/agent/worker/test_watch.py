"""What a worker says is listened to within bounds: it may be a hostile model that speaks."""

import json
import os
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from muster_agent.worker.events import Exited, Failed, Heartbeat, Ready, WorkerEvent
from muster_agent.worker.watch import DETAIL_CHARS_MAX, REPLIES_PER_SECOND_MAX, Watch
from muster_protocol.wire.errors import Refusal

WAIT_SECONDS = 60.0
READY = '{"type":"ready","facts":{}}\n'
SPEAK = """
import json, socket, sys, time
end = socket.socket(fileno=int(sys.argv[1]))
for part in json.load(sys.stdin):
    end.sendall(part.encode())
time.sleep(60)
"""


@contextmanager
def speaking(*parts: str) -> Iterator["queue.Queue[WorkerEvent]"]:
    """The events that a watch makes of a process which says this."""
    ours, theirs = socket.socketpair()
    read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    process = subprocess.Popen(
        [sys.executable, "-c", SPEAK, str(theirs.fileno())],
        pass_fds=(theirs.fileno(),), stdin=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(json.dumps(parts).encode())
    process.stdin.close()
    theirs.close()
    ours.settimeout(0.0)
    events: queue.Queue[WorkerEvent] = queue.Queue()
    watch = Watch(
        "w", process, ours, read, start_seconds=WAIT_SECONDS, stop_grace=lambda: None,
        deliver=events.put,
    )  # fmt: skip
    thread = threading.Thread(target=watch.run)
    thread.start()
    try:
        yield events
    finally:
        process.kill()
        thread.join(WAIT_SECONDS)
        ours.close()
        os.close(read)
        os.close(write)


def last(events: "queue.Queue[WorkerEvent]") -> WorkerEvent:
    while True:
        event = events.get(timeout=WAIT_SECONDS)
        if isinstance(event, Exited | Failed):
            return event


@pytest.mark.parametrize(
    "line",
    [
        '{"type":"ready","facts":{"memory_bytes":-1}}',
        '{"type":"ready","facts":{"memory_bytes":9223372036854775808}}',
        '{"type":"ready","facts":{"latency_ms":1e300}}',
        '{"type":"ready","facts":{"isolation":"' + "x" * 100 + '"}}',
        '{"type":"beat","counters":{"inferences":18446744073709551616}}',
        '{"type":"beat","counters":{"cpu_seconds":-5}}',
        '{"type":"beat","counters":{"errors":"many"}}',
        '{"type":"refused","refusal":"because","detail":""}',
        '{"type":"what"}', "[]", "nonsense", "\x00", "x" * 70_000,
    ],
    ids=lambda line: line[:40],
)  # fmt: skip
def test_a_worker_that_says_what_can_not_be_is_ended(line: str) -> None:
    with speaking(line + "\n") as events:
        assert isinstance(last(events), Failed)


def test_a_worker_that_talks_without_end_is_ended() -> None:
    beat = '{"type":"beat","counters":{}}\n'
    with speaking(READY, beat * 5_000) as events:
        event = last(events)
        assert isinstance(event, Exited)
        assert f"more than {REPLIES_PER_SECOND_MAX} things in a second" in event.detail
    assert events.qsize() <= REPLIES_PER_SECOND_MAX


def test_a_worker_is_ready_once() -> None:
    with speaking(READY, READY) as events:
        assert isinstance(events.get(timeout=WAIT_SECONDS), Ready)
        event = last(events)
        assert isinstance(event, Exited)
        assert "said twice" in event.detail


def test_what_a_worker_says_of_its_refusal_can_stand_on_a_terminal() -> None:
    said = r"\u001b]52;c;aGk=\u0007 it\nlooks \u202e odd " + "x" * 2_000
    with speaking('{"type":"refused","refusal":"load_failed","detail":"' + said + '"}\n') as events:
        event = last(events)
    assert isinstance(event, Failed)
    assert event.refusal is Refusal.LOAD_FAILED
    assert event.detail.isprintable()
    assert event.detail.startswith("]52;c;aGk= it looks odd xxx")
    assert len(event.detail) <= DETAIL_CHARS_MAX


def test_a_worker_that_beats_as_it_should_is_heard() -> None:
    with speaking(READY, '{"type":"beat","counters":{"inferences":3}}\n') as events:
        assert isinstance(events.get(timeout=WAIT_SECONDS), Ready)
        beat = events.get(timeout=WAIT_SECONDS)
        assert isinstance(beat, Heartbeat)
        assert beat.counters.inferences == 3
