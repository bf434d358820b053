"""From signed messages to goals: metadata, then the directive, then what each slot should run.

Holds the latest directive until the metadata that judge it have come, adopts it durably, and says
for each goal whether release keys signed its manifest. Nothing here runs or fetches a model.
"""

import base64
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import msgspec
from msgspec import UnsetType
from msgspec.structs import replace

from muster_agent.base.clock import Clock
from muster_agent.link.link import Link
from muster_agent.storage.rows import Adopted
from muster_agent.storage.state import StateDatabase
from muster_agent.trust.mirror import TIMESTAMP, TrustMirror
from muster_agent.trust.time import ClockReading, Instant
from muster_agent.trust.trusted import Trusted, TrustRefused
from muster_protocol.wire import directive as d
from muster_protocol.wire import messages, topics
from muster_protocol.wire.directive import Directive, DirectiveRefused, Goal
from muster_protocol.wire.errors import Refusal
from muster_protocol.wire.limits import SHOWN_SNAPSHOT_BYTES_MAX

_MAY_CLEAR = frozenset({Refusal.BAD_SIGNATURE, Refusal.STALE_EPOCH})
"""Refusals of a directive that newer metadata may lift: they may arrive after it."""


SHOW_SECONDS = 30.0
"""Between two times that metadata are shown to a hub that asks."""


class TrustSource(Protocol):
    """The device's trust store (``store.TrustStore``)."""

    def refresh(
        self, files: Mapping[str, bytes], models: frozenset[str], reading: ClockReading
    ) -> Trusted:
        """Verify metadata files and take over what they prove; raises nothing that expiry
        explains."""
        ...

    def trusted(self) -> Trusted | None:
        """What was verified last; None before the first time."""
        ...

    def versions(self) -> dict[str, int]:
        """Version of each role that is trusted, for the report."""
        ...

    def files(self) -> dict[str, bytes]:
        """Metadata that are trusted now, by name."""
        ...

    def now(self, reading: ClockReading) -> Instant:
        """Trusted time, given what the system's clock says."""
        ...


class _Payload(msgspec.Struct):
    payload: str


@dataclass
class _Pending:
    """A directive that is not adopted yet."""

    envelope: bytes
    until: float
    """When waiting for metadata ends."""


class Goals:
    """``directive`` is the adopted one, ``trusted`` the metadata in force."""

    def __init__(
        self,
        device: str,
        *,
        clock: Clock,
        link: Link,
        state: StateDatabase,
        trust: TrustSource,
        wait_seconds: float,
        refused: Callable[[Refusal, str, int], None],
        now: float,
    ) -> None:
        """``refused`` is told of each refused message once: reason, detail, generation or 0."""
        self.directive: Directive | None = None
        self._directive_refusal: tuple[Refusal, str] | None = None
        self._metadata_refusal: tuple[Refusal, str] | None = None
        self.trusted: Trusted | None = trust.trusted()
        self._device = device
        self._clock = clock
        self._link = link
        self._state = state
        self._trust = trust
        self._wait_seconds = wait_seconds
        self._refused = refused
        self._mirror = TrustMirror(trust.versions(), now=now)
        self._followed: frozenset[str] = frozenset()
        self._pending: _Pending | None = None
        self._shown_at = float("-inf")
        self._linked = False
        self._load(now)

    def _load(self, now: float) -> None:
        """The directive in force before the restart; it was verified when it was adopted."""
        adopted = self._state.adopted()
        if adopted is None:
            return
        try:
            sealed = msgspec.json.decode(adopted.envelope, type=_Payload)
            self.directive = d.decode(base64.b64decode(sealed.payload))
        except (msgspec.DecodeError, ValueError, DirectiveRefused):
            return  # The generation still counts; the hub's retained directive comes again.
        self._mirror.follow(self._models(self.directive), now)

    @property
    def refusal(self) -> tuple[Refusal, str] | None:
        """Why the latest directive, or the latest metadata, were not taken."""
        return self._directive_refusal or self._metadata_refusal

    def reading(self) -> ClockReading:
        """The system's clock and how far to believe it."""
        return ClockReading(self._clock.wall(), self._clock.quality())

    def instant(self) -> Instant:
        """Trusted time."""
        return self._trust.now(self.reading())

    def deadline(self, now: float) -> float:
        """When ``tick`` should be called next."""
        check = self._mirror.next_check(now)
        mirror = now + check if check is not None else float("inf")
        return min(mirror, self._pending.until if self._pending else float("inf"))

    def connected(self, now: float) -> None:
        """Subscribe to metadata and to this device's directive."""
        self._linked = True
        self._mirror.link_up(now)
        self._link.subscribe(
            topics.down(self._device, "directive"), topics.down(self._device, "show")
        )
        self._follow()
        self._asked(self._mirror.wanted())

    def disconnected(self) -> None:
        """Nothing is on its way any more."""
        self._linked = False
        self._mirror.link_down()

    def subscribed(self, files: Iterable[str], now: float) -> None:
        """The broker has taken subscriptions to metadata."""
        self._mirror.confirmed(files, now)

    def coming(self) -> bool:
        """Whether metadata may still be under way: the broker has yet to take a subscription."""
        return self._mirror.coming

    def show(self, now: float) -> None:
        """Show the hub the metadata trusted here; not to anyone who asks all the time."""
        if now - self._shown_at < SHOW_SECONDS:
            return
        self._shown_at = now
        files = self._trust.files()
        timestamp, snapshot = files.get("timestamp.json", b""), files.get("snapshot.json", b"")
        if not (timestamp and snapshot and len(snapshot) <= SHOWN_SNAPSHOT_BYTES_MAX):
            return
        shown = messages.encode(messages.Shown(timestamp, snapshot))
        self._link.publish(topics.up(self._device, "shown"), shown)

    def ask_again(self) -> None:
        """A subscription that stands already has the retained timestamp sent once more. What is
        here already is judged anew, too: a clock that was wrong may have refused it.
        """
        self._mirror.ask_again()
        self._asked((TIMESTAMP,))
        self._link.subscribe(topics.tuf(TIMESTAMP))

    def put_metadata(self, file: str, data: bytes, now: float) -> bool:
        """A TUF file has come; True when goals should be looked at again."""
        self._mirror.put(file, data, now)
        self._follow()
        return self.tick(now)

    def put_directive(self, envelope: bytes, now: float) -> bool:
        """A directive has come; True when it was adopted and goals should be looked at."""
        if not envelope:
            return False  # A cleared topic: an empty directive changes nothing that runs.
        self._pending = _Pending(envelope, now + self._wait_seconds)
        return self._consider(now)

    def tick(self, now: float) -> bool:
        """Verify what is due; True when goals should be looked at again."""
        refreshed = self._mirror.due(now)
        if refreshed:
            self._refresh(now)
        adopted = self._consider(now) if refreshed or self._late(now) else False
        return refreshed or adopted

    def traced(self, event: messages.Event) -> messages.Event:
        """An event of an update with the trace that the directive in force names for it."""
        slot = self.directive.slots.get(event.slot) if self.directive is not None else None
        if slot is None or slot.champion.manifest != event.manifest:
            return event
        trace = slot.traceparent
        return event if isinstance(trace, UnsetType) else replace(event, trace=trace)

    def verdict(self, goal: Goal) -> tuple[Refusal, str] | None:
        """Why this goal may not be installed, or None when release keys signed it."""
        where = f"{goal.model} {goal.version}"
        if self.trusted is None:
            return Refusal.METADATA_MISSING, "no signed metadata have come yet"
        try:
            target = self.trusted.manifest_target(
                goal.model, goal.version, now=self.instant().seconds
            )
        except TrustRefused as refused:
            return refused.refusal, str(refused)
        if target == (goal.manifest, goal.manifest_bytes):
            return None
        known = "another manifest" if target else "no such version"
        return Refusal.UNSIGNED_MANIFEST, f"{where}: the release keys signed {known}"

    def _asked(self, files: Iterable[str]) -> None:
        if self._linked:
            self._mirror.asked(files)

    def _late(self, now: float) -> bool:
        if self._pending is None or now < self._pending.until:
            return False
        if self.coming():
            self._pending.until = now + self._wait_seconds
        return now >= self._pending.until

    def _follow(self) -> None:
        wanted = self._mirror.wanted()
        gone, new = self._followed - wanted, wanted - self._followed
        self._followed = wanted
        if gone:
            self._link.unsubscribe(*(topics.tuf(file) for file in sorted(gone)))
        if new:
            self._asked(new)
            self._link.subscribe(*(topics.tuf(file) for file in sorted(new)))

    def _refresh(self, now: float) -> None:
        try:
            self.trusted = self._trust.refresh(
                self._mirror.files, self._mirror.models, self.reading()
            )
            self._metadata_refusal = None
        except TrustRefused as refused:
            self.trusted = self._trust.trusted()
            before = self._metadata_refusal
            self._metadata_refusal = (refused.refusal, str(refused))
            if self._metadata_refusal != before:
                self._refused(refused.refusal, str(refused), 0)
        self._mirror.refreshed(self._trust.versions(), now)
        self._follow()

    def _consider(self, now: float) -> bool:
        """Judge the pending directive; True when it was adopted."""
        pending, trusted = self._pending, self.trusted
        if pending is None:
            return False
        if trusted is None:
            self._unjudged(pending, now)
            return False
        if pending.until == float("inf"):
            pending.until = now + self._wait_seconds  # What judges it may still be coming in.
        generation = 0
        try:
            candidate = trusted.verify_directive(pending.envelope)
            generation = candidate.generation
            adopted = self._state.adopted()
            d.accept(
                candidate,
                device=self._device,
                epoch=trusted.director_epoch,
                adopted=(adopted.epoch, adopted.generation) if adopted else (0, 0),
                now=self.instant().seconds,
            )
        except DirectiveRefused as refused:
            if refused.refusal not in _MAY_CLEAR or now >= pending.until:
                self._pending = None
                self._refuse(refused.refusal, str(refused), generation)
            return False
        self._adopt(candidate, pending.envelope, now)
        return True

    def _unjudged(self, pending: _Pending, now: float) -> None:
        """Nothing has come that could judge a directive: say so once, and keep it."""
        if now < pending.until:
            return
        pending.until = float("inf")
        self._refuse(
            Refusal.METADATA_MISSING,
            f"a directive has come, but within {self._wait_seconds:g} s no signed metadata to "
            "judge it by",
            0,
        )

    def _refuse(self, refusal: Refusal, detail: str, generation: int) -> None:
        """Keep why the directive was not taken, and tell it once."""
        before, self._directive_refusal = self._directive_refusal, (refusal, detail)
        if self._directive_refusal != before:
            self._refused(refusal, detail, generation)

    def _adopt(self, candidate: Directive, envelope: bytes, now: float) -> None:
        self._state.put_adopted(Adopted(candidate.epoch, candidate.generation, envelope))
        self._pending = None
        self.directive = candidate
        self._directive_refusal = None
        self._mirror.follow(self._models(candidate), now)
        self._follow()

    def _models(self, directive: Directive) -> frozenset[str]:
        """Whose metadata decide what may run here. An empty directive changes nothing that runs,
        so what is on its way, or serves, goes on to be judged by news of its model.
        """
        goals = [slot.champion for slot in directive.slots.values()]
        goals += [slot.challenger for slot in directive.slots.values() if slot.challenger]
        if not directive.slots:
            goals += [row.goal for row in self._state.journal().values() if row.goal is not None]
            goals += [pointer.goal for pointer in self._state.pointers().values()]
        return frozenset(goal.model for goal in goals)
