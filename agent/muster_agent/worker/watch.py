"""The reader thread's work: one worker's channel, its last words, its deadlines, its end."""

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from typing import IO, assert_never

from muster_agent.runtimes.base import without_numbers
from muster_agent.worker import control
from muster_agent.worker.events import Drained, Exited, Failed, Heartbeat, Ready, WorkerEvent
from muster_protocol.wire.errors import ProtocolError, Refusal

STDERR_TAIL_BYTES = 4096
LAST_WORDS_SECONDS = 5.0
"""How long a worker that closed its channel, or was refused, may take to end."""
REPLIES_PER_SECOND_MAX = 50
"""It beats once a second, and answers what it is told."""
DETAIL_CHARS_MAX = 500
FROM_OUTSIDE = frozenset(
    {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGKILL}
)
"""Signals by which a service or a machine is stopped; a fault of the model itself brings others."""
_NEVER = float("inf")


class Watch:
    """Turns what happens to one worker process into events; it decides nothing.

    It keeps the deadlines that a worker can't be trusted with: being ready ``start_seconds`` after
    now, and ending within the grace that ``stop_grace`` gives once a byte comes on ``wake``.
    """

    def __init__(
        self,
        worker_id: str,
        process: subprocess.Popen[bytes],
        channel: socket.socket,
        wake: int,
        *,
        start_seconds: float,
        stop_grace: Callable[[], float | None],
        deliver: Callable[[WorkerEvent], None],
    ) -> None:
        self._id = worker_id
        self._process = process
        self._channel = channel
        self._wake = wake
        self._start_seconds = start_seconds
        self._stop_grace = stop_grace
        self._deliver = deliver
        self._lines = control.LineReader()
        self._tail = b""
        self._deadline = time.monotonic() + start_seconds
        self._ready = False
        self._refused: Failed | None = None
        self._heard = (0.0, 0)
        """Since when, and how many replies."""
        self._killed = ""
        """Why this side killed it."""

    def run(self) -> None:
        """Watch until the process has ended, bury it, and deliver how it ended."""
        assert self._process.stderr is not None
        with selectors.DefaultSelector() as selector, self._process.stderr as stderr:
            os.set_blocking(stderr.fileno(), False)
            end = os.pidfd_open(self._process.pid)
            selector.register(end, selectors.EVENT_READ, None)
            selector.register(self._channel, selectors.EVENT_READ, self._on_channel)
            selector.register(stderr, selectors.EVENT_READ, self._on_stderr)
            selector.register(self._wake, selectors.EVENT_READ, self._on_wake)
            try:
                while not self._turn(selector):
                    pass
                with contextlib.suppress(OSError, ProtocolError):
                    self._on_channel(selector)
                self._on_stderr(selector)
            finally:
                self._process.kill()
                self._process.wait()
                os.close(end)
        self._deliver(self._ending(self._process.returncode))

    def _turn(self, selector: selectors.BaseSelector) -> bool:
        """Wait for one thing to happen; True when the process has ended."""
        timeout = None if self._deadline == _NEVER else self._deadline - time.monotonic()
        if timeout is not None and timeout <= 0:
            self._kill("it did not end in time" if self._stopped else self._too_slow())
            timeout = None
        for key, _ in selector.select(timeout):
            if key.data is None:
                return True
            try:
                key.data(selector)
            except ProtocolError as error:
                self._kill(str(error))
        return False

    @property
    def _stopped(self) -> bool:
        return self._stop_grace() is not None

    def _too_slow(self) -> str:
        if self._ready or self._refused is not None:
            return "it closed its channel but did not end"
        return f"not ready after {self._start_seconds:g} s"

    def _kill(self, why: str) -> None:
        self._killed = self._killed or why
        self._deadline = _NEVER
        self._process.kill()

    def _on_wake(self, _: selectors.BaseSelector) -> None:
        os.read(self._wake, 64)
        grace = self._stop_grace()
        if grace is not None:
            self._deadline = time.monotonic() + grace

    def _on_stderr(self, selector: selectors.BaseSelector) -> None:
        stderr: IO[bytes] | None = self._process.stderr
        assert stderr is not None
        with contextlib.suppress(BlockingIOError):
            data = os.read(stderr.fileno(), 65536)
            if not data:
                with contextlib.suppress(KeyError):
                    selector.unregister(stderr)
            self._tail = (self._tail + data)[-STDERR_TAIL_BYTES:]

    def _on_channel(self, selector: selectors.BaseSelector) -> None:
        try:
            data = self._channel.recv(65536)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        if not data:
            with contextlib.suppress(KeyError):
                selector.unregister(self._channel)
            self._deadline = min(self._deadline, time.monotonic() + LAST_WORDS_SECONDS)
            return
        for line in self._lines.feed(data):
            self._listen(time.monotonic())
            self._on_reply(control.decode_reply(line))

    def _listen(self, now: float) -> None:
        """Raises ProtocolError for a worker that would keep the supervisor busy with listening."""
        since, count = self._heard
        self._heard = (since, count + 1) if now - since < 1.0 else (now, 1)
        if self._heard[1] > REPLIES_PER_SECOND_MAX:
            raise ProtocolError(f"it said more than {REPLIES_PER_SECOND_MAX} things in a second")

    def _on_reply(self, reply: control.Reply) -> None:
        match reply:
            case control.IsReady(facts=facts):
                if self._ready:
                    raise ProtocolError("it said twice that it is ready")
                self._ready = True
                if not self._stopped:
                    self._deadline = _NEVER
                self._deliver(Ready(self._id, facts))
            case control.Refused(refusal=refusal, detail=detail):
                self._refused = Failed(self._id, refusal, _one_line(detail))
                self._deadline = time.monotonic() + LAST_WORDS_SECONDS
            case control.Beat(counters=counters):
                self._deliver(Heartbeat(self._id, counters))
            case control.IsDrained():
                self._deliver(Drained(self._id))
            case _:
                assert_never(reply)

    def _ending(self, returncode: int) -> WorkerEvent:
        if self._refused is not None:
            return self._refused
        words = describe_end(returncode, self._tail)
        from_outside = -returncode in FROM_OUTSIDE and not self._killed
        if self._ready or self._stopped:
            detail = f"{self._killed}: {words}" if self._killed else words
            return Exited(self._id, returncode, detail, from_outside)
        if self._killed:
            return Failed(self._id, Refusal.START_TIMEOUT, f"{self._killed}: killed")
        if returncode == -signal.SIGXCPU:
            return Failed(self._id, Refusal.START_TIMEOUT, "it used up its processor time")
        return Failed(self._id, Refusal.WORKER_DIED, words, from_outside)


def _one_line(words: str) -> str:
    """What a worker said, as text that can stand in a log and on a terminal."""
    text = "".join(each if each.isprintable() else " " for each in words[: 2 * DETAIL_CHARS_MAX])
    return " ".join(text.split())[:DETAIL_CHARS_MAX]


def describe_end(returncode: int, stderr: bytes) -> str:
    """How a process ended and what it said last, on one line."""
    lines = [line.strip() for line in stderr.decode("utf-8", "replace").splitlines()]
    said = [line for line in lines if line]
    fatal = [line for line in said if line.startswith(("Fatal Python error", "terminate called"))]
    last = without_numbers((fatal or said[-1:] or [""])[0][:300])
    how = _ended_by(-returncode) if returncode < 0 else f"ended with code {returncode}"
    return f"{how}: {last}" if last else how


def _ended_by(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:  # One of the real-time signals, which have numbers only.
        name = f"signal {number}"
    return f"killed by {name} ({_HINTS[number]})" if number in _HINTS else f"killed by {name}"


_HINTS: dict[int, str] = {
    signal.SIGALRM: "one request took longer than allowed",
    signal.SIGKILL: "not by Muster: perhaps the kernel was out of memory",
    signal.SIGSYS: "it made a system call of another architecture",
}
