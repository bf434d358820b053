"""What a virtual device says and when: presence, reports, windows, updates. Time is given to it."""

import random
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import msgspec
from bench.fleet.windows import Windows
from securesystemslib.dsse import Envelope

from muster_protocol.signals import summary_wire
from muster_protocol.wire import directive as wire
from muster_protocol.wire import messages, topics
from muster_protocol.wire.directive import Directive  # noqa: TC001 (a field of a class)
from muster_protocol.wire.messages import (
    Ack,
    Batch,
    Event,
    Facts,
    Grant,
    GrantRequest,
    Presence,
    Report,
    Row,
    Running,
    SlotReport,
    Stamp,
    Stream,
    Update,
)

SLOT = "main"
REPORT_SECONDS = 60.0
RESEND_SECONDS = 30.0
"""A row that the hub has not acknowledged by then is sent again."""
ROWS_PER_BATCH_MAX = 16
FETCH_SECONDS, START_SECONDS = (1.0, 6.0), (0.5, 2.0)
Timer = Literal["report", "window", "resend", "staged", "ask", "started"]
Publish = Callable[..., None]


@dataclass
class Counts:
    """Of a whole fleet."""

    rows: int = 0
    resent: int = 0
    acknowledged: int = 0
    committed: int = 0
    directives: int = 0
    stale_directives: int = 0


class Device:
    """``publish(topic, payload, retain=...)`` sends; ``after(seconds, timer)`` has it woken."""

    def __init__(
        self,
        name: str,
        publish: Publish,
        after: Callable[[float, Timer], None],
        windows: Windows,
        counts: Counts,
    ) -> None:
        self.name = name
        self._publish = publish
        self._after = after
        self._windows = windows
        self.drifts = False
        self._counts = counts
        self._rng = random.Random(name)
        self._boot = secrets.token_bytes(8)
        self._epoch = secrets.token_bytes(12)
        self._rows: dict[Stream, dict[int, tuple[bytes, float]]] = {"summary": {}, "event": {}}
        self._next: dict[Stream, int] = {"summary": 1, "event": 1}
        self._held: Directive | None = None
        self._nonce = b""
        self.running: wire.Goal | None = None
        self.state: messages.UpdateState = "idle"
        self.window_seconds = 0.0
        """0: no windows are sent."""

    @property
    def unacknowledged(self) -> int:
        return sum(map(len, self._rows.values()))

    @property
    def runs_as_asked(self) -> bool:
        """Whether it runs what its latest directive asks for."""
        return self.running is not None and self.running == self._goal()

    def connected(self, now: float, *, again: bool) -> None:
        online = messages.encode(Presence(online=True))
        self._publish(topics.up(self.name, "presence"), online, retain=True)
        self._report(now)
        if not again:
            self._after(self._rng.uniform(0, REPORT_SECONDS), "report")
            self._after(self._rng.uniform(0, RESEND_SECONDS), "resend")

    def begin_windows(self, window_seconds: float) -> None:
        begun, self.window_seconds = self.window_seconds > 0, window_seconds
        if window_seconds and not begun:
            self._after(self._rng.uniform(0, window_seconds), "window")

    def woken(self, timer: Timer, now: float) -> None:
        match timer:
            case "report":
                self._report(now)
                self._after(REPORT_SECONDS * self._rng.uniform(0.95, 1.05), "report")
            case "window":
                if self.window_seconds:
                    self._window(now)
                    self._after(self.window_seconds, "window")
            case "resend":
                self._resend(now)
                self._after(RESEND_SECONDS, "resend")
            case "staged":
                self.state = "staged"
                self._event(now)
                self._report(now)
                self._ask(now)
            case "ask":
                if self.state == "staged":
                    self._ask(now)
            case "started":
                self._commit(now)

    def heard(self, topic: str, payload: bytes, now: float) -> None:
        leaf = topic.rpartition("/")[2]
        if leaf == "ack":
            ack = messages.decode(payload, Ack)
            rows = self._rows[ack.stream]
            for sequence in [each for each in rows if each <= ack.sequence]:
                del rows[sequence]
                self._counts.acknowledged += 1
        elif leaf == "directive" and payload:
            self._adopt(payload, now)
        elif leaf == "grant":
            grant = messages.decode(payload, Grant)
            if grant.nonce == self._nonce and self.state == "staged":
                if grant.given:
                    self._start(now)
                else:
                    self._after(grant.retry_seconds * self._rng.uniform(0.8, 1.2), "ask")

    def _adopt(self, payload: bytes, now: float) -> None:
        held = wire.decode(Envelope.from_dict(msgspec.json.decode(payload)).payload)
        self._counts.directives += 1
        if self._held is not None and held.generation < self._held.generation:
            self._counts.stale_directives += 1
            return
        self._held = held
        goal = self._goal()
        if goal is not None and goal != self.running:
            self.state = "fetching"
            self._after(self._rng.uniform(*FETCH_SECONDS), "staged")
        self._report(now)

    def _goal(self) -> wire.Goal | None:
        slot = self._held.slots.get(SLOT) if self._held is not None else None
        return slot.champion if slot is not None else None

    def _ask(self, now: float) -> None:
        goal, held = self._goal(), self._held
        if goal is None or held is None:
            return
        if held.slots[SLOT].swap == "free":
            self._start(now)
            return
        self._nonce = secrets.token_bytes(12)
        request = GrantRequest(
            nonce=self._nonce, slot=SLOT, manifest=goal.manifest, generation=held.generation
        )
        self._publish(topics.up(self.name, "grant"), messages.encode(request))
        self._after(10.0, "ask")

    def _start(self, now: float) -> None:
        self.state = "starting"
        self._report(now)
        self._after(self._rng.uniform(*START_SECONDS), "started")

    def _commit(self, now: float) -> None:
        self.running, self.state = self._goal(), "committed"
        self._counts.committed += 1
        self._event(now)
        self._report(now)

    def _stamp(self, now: float) -> Stamp:
        return Stamp(self._boot, now, 0.0, "unknown")

    def _report(self, now: float) -> None:
        at, goal, held = self._stamp(now), self._goal(), self._held
        slots = {}
        if goal is not None and held is not None:
            runs = self.running
            slots[SLOT] = SlotReport(
                health="ok",
                running=Running(
                    model=runs.model, version=runs.version, manifest=runs.manifest,
                    runtime="onnx", since=at,
                ) if runs is not None else None,
                update=Update(
                    state=self.state, model=goal.model, version=goal.version,
                    manifest=goal.manifest, generation=held.generation,
                ),
            )  # fmt: skip
        report = Report(
            at=at, epoch=held.epoch if held else 0, generation=held.generation if held else 0,
            slots=slots, facts=Facts(agent_version="light"), outbox_rows=self.unacknowledged,
        )  # fmt: skip
        self._publish(topics.up(self.name, "report"), messages.encode(report))

    def _event(self, now: float) -> None:
        goal = self._goal()
        assert goal is not None
        assert self._held is not None
        event = Event(
            kind="update", at=self._stamp(now), slot=SLOT, model=goal.model, version=goal.version,
            manifest=goal.manifest, generation=self._held.generation, state=self.state,
        )  # fmt: skip
        self._row("event", messages.encode(event), now)

    def _window(self, now: float) -> None:
        if self.running is None:
            return
        counted = replace(
            self._rng.choice(self._windows.of(self.running.version, drifts=self.drifts)),
            model=self.running.model, version=self.running.version, manifest=self.running.manifest,
            opened=self._stamp(now - self.window_seconds), closed=self._stamp(now),
        )  # fmt: skip
        self._row("summary", summary_wire.encode(counted), now)

    def _row(self, stream: Stream, payload: bytes, now: float) -> None:
        sequence = self._next[stream]
        self._next[stream] += 1
        self._counts.rows += 1
        self._rows[stream][sequence] = payload, now
        self._send(stream, [sequence], now)

    def _resend(self, now: float) -> None:
        for stream, rows in self._rows.items():
            late = [n for n, (_, sent) in rows.items() if now - sent >= RESEND_SECONDS]
            if late:
                self._counts.resent += len(late[:ROWS_PER_BATCH_MAX])
                self._send(stream, late[:ROWS_PER_BATCH_MAX], now)

    def _send(self, stream: Stream, sequences: list[int], now: float) -> None:
        rows = [Row(sequence, self._rows[stream][sequence][0]) for sequence in sequences]
        for sequence in sequences:
            self._rows[stream][sequence] = self._rows[stream][sequence][0], now
        leaf: topics.UpLeaf = "telemetry" if stream == "summary" else "event"
        batch = messages.encode(Batch(1, self._epoch, self._stamp(now), rows))
        self._publish(topics.up(self.name, leaf), batch)
