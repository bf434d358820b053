"""One of several hubs on one database: the real engine and publisher, stopped or killed anywhere.

Each part's step is work that may stand still before, within and after every transaction, and
before each message it sends. Each hub has a clock of its own, which may be wrong and may jump.
"""

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy
from sqlalchemy.exc import OperationalError
from sqlmodel import Session

from muster_hub.errors import HubError
from muster_hub.mqtt.publisher import Publisher
from muster_hub.reconcile import lease
from muster_hub.reconcile.engine import LEASE, Engine
from muster_hub.reconcile.leader import Leader
from muster_hub.reconcile.terms import DirectiveTerms
from muster_hub.registry.published import Bundles
from muster_hub.settings.database import sqlite_url
from muster_hub.signing.directives import DirectiveSigner
from muster_hub.storage.sealing import Sealing
from muster_hub.storage.store import BUSY_TIMEOUT_MS, Store
from muster_protocol.wire.directive import Directive
from sim.catalogue import catalogue, scratch
from sim.hub import BlobStore, careless
from sim.turns import Killed, Work
from support.tuf_repository import NOW

if TYPE_CHECKING:
    from sim.engine_world import EngineWorld

TICKS_SECONDS = {"engine": (2.0, 5.0), "publisher": (1.0, 3.0), "lease": (1.5, 2.5)}
WOKEN_SECONDS = (0.05, 1.0)
"""Between a commit and who waits for it, also in another process."""
LOCKED_SECONDS = 0.5
"""Between two tries to write while another has the database's lock."""
WITHIN_SECONDS_MAX = 8.0
"""Whoever stands still within a transaction holds up everybody: no longer than a database waits."""
RETRY_SECONDS = (1.0, 3.0)
RECONNECT_SECONDS = (1.0, 5.0)
PUBLISHER = "publisher"


class HeldStore(Store):
    """A hub's connection to the common database: where its parts may stand still, or die."""

    hub: "EngineHub | Bystander"

    @contextmanager
    def read(self) -> Iterator[Session]:
        self.hub.point("before it reads")
        with super().read() as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        hub = self.hub
        hub.point("before it writes")
        hub.wait_for_lock()
        try:
            with super().write() as session:
                hub.world.writing = True
                before = _changes(session), _term(session)
                yield session
                session.flush()
                hub.point("before it commits", WITHIN_SECONDS_MAX)
                if _changes(session) != before[0]:
                    hub.committing(session, before[1], _term(session))
        finally:
            hub.world.writing = False
        hub.point("after it committed")


def _changes(session: Session) -> int:
    raw: Any = session.connection().connection.driver_connection
    return int(raw.total_changes)


def _term(session: Session) -> int:
    """The epoch of the engine that may act."""
    return session.connection().execute(_TERM, {"name": LEASE}).scalar() or 0


_TERM = sqlalchemy.text("SELECT epoch FROM lease WHERE name = :name")


@cache
def store_of(path: Path, number: int) -> HeldStore:
    """One for each hub of a world, kept for the next: what it has compiled is worth keeping."""
    store = HeldStore(sqlite_url(path), Sealing(scratch()))
    sqlalchemy.event.listen(store.engine, "connect", careless)
    return store


class EngineHub:
    def __init__(self, world: "EngineWorld", number: int, store: HeldStore) -> None:
        self.world, self.name, self.store = world, f"hub-{number}", store
        self.rate = 1.0 + world.rng.uniform(-1e-3, 1e-3)
        self.offset_seconds = world.rng.choice([0.0, 0.0, 2.0, -5.0, 40.0, -600.0])
        self.running = False
        self.life = 0
        self.stopped_until = 0.0
        self.acted = 0.0
        """When a step of its engine last came to its end, by the world's time."""
        self.able_since = 0.0
        """Since when nothing keeps it from acting but the lease."""
        self._fuses: dict[str, tuple[str, int, float | None]] = {}
        self._works: dict[str, Work] = {}
        self._at: dict[str, float] = {}
        self._part = ""

    def now(self) -> float:
        return NOW + self.world.clock.now * self.rate + self.offset_seconds

    # Life and death

    def start(self) -> None:
        self.store.hub = self
        self.life += 1
        self.running = True
        self.able_since = self.world.clock.now
        bundles, name = Bundles(self.store, BlobStore()), self.world.named(self)
        self.leader = Leader(
            self.store, PUBLISHER, name, lambda epoch: Publishing(self, bundles, epoch),
            clock=self.world.database_time, monotonic=lambda: self.world.clock.now,
        )  # fmt: skip
        self.engine: Engine = self.world.doubles.engine(
            self.store, self.world.published, PausingSigner(self), bundles,
            DirectiveTerms(
                window_seconds=60.0, valid_seconds=86_400, token=lambda device, _expires: device,
                chunks_url="https://hub.test/api/v1/chunks",
            ),
            holder=name, now=self.now, lease_clock=self.world.database_time,
            monotonic=lambda: self.world.clock.now,
            on_published=lambda: self.soon("publisher", WOKEN_SECONDS),
        )  # fmt: skip
        for part in TICKS_SECONDS:
            self.soon(part)

    def stop(self, seconds: float) -> None:
        """The machine stands still: nothing of the hub moves, and it doesn't notice."""
        self.world.trace.add(self.name, f"stands still for {seconds:.0f} s")
        self.stopped_until = max(self.stopped_until, self.world.clock.now + seconds)
        self.able_since = self.stopped_until

    def die(self, seconds: float) -> None:
        """Killed, and started again after so long."""
        if not self.running:
            return
        self.world.trace.add(self.name, f"killed, back in {seconds:.0f} s")
        self.running = False
        self._at.clear()
        self._fuses.clear()
        if self.leader.led is not None:
            self.leader.led.stop()
        works, self._works = self._works, {}
        for part, work in works.items():
            if part != self._part:
                work.kill()
        self.world.clock.after(seconds, lambda: self.running or self.start())

    def heal(self) -> None:
        """What stands still goes on, and its clock is as right as clocks are."""
        self._fuses.clear()
        self.stopped_until = 0.0
        self.offset_seconds = self.world.rng.uniform(-1.0, 1.0)

    def fuse(self, part: str, where: str, points: int, seconds: float | None) -> None:
        """After so many points of a part, of that name or any, it stands still for so long; None:
        the hub is killed there.
        """
        self._fuses[part] = where, points, seconds

    # Its parts

    def soon(self, part: str, within: tuple[float, float] | None = None) -> None:
        when = self.world.clock.now + self.world.rng.uniform(*(within or TICKS_SECONDS[part]))
        if self.running and part not in self._works and when < self._at.get(part, float("inf")):
            self._at[part] = when
            self.world.clock.at(when, lambda: self._tick(part, when))

    def _tick(self, part: str, when: float) -> None:
        if self._at.get(part) != when or not self.running:
            return
        if self.stopped_until > self.world.clock.now:
            self._at[part] = later = self.stopped_until
            self.world.clock.at(later, lambda: self._tick(part, later))
            return
        del self._at[part]
        acts: dict[str, Callable[[], object]] = {
            "engine": self._step, "publisher": self._publish, "lease": self.leader.look,
        }  # fmt: skip
        act = acts[part]
        self._works[part] = work = Work(lambda: (act(), None)[1])
        self._go_on(part, work)

    def _step(self) -> None:
        if self.engine.step():
            self.acted = self.world.clock.now

    def _publish(self) -> None:
        led = self.leader.led
        if led is not None:
            # Who has lost the lease says so at each step, until its term is ended.
            with suppress(HubError):
                led.publisher.step()

    def _go_on(self, part: str, work: Work) -> None:
        if self._works.get(part) is not work:
            return
        if self.stopped_until > self.world.clock.now:
            self.world.clock.at(self.stopped_until, lambda: self._go_on(part, work))
            return
        retry = None
        self._part, before = part, self._part
        try:
            pause = work.resume()
        except Killed:
            return
        except OperationalError:
            pause, retry = None, RETRY_SECONDS
        finally:
            self._part = before
        if pause is not None:
            self.world.clock.after(pause, lambda: self._go_on(part, work))
            return
        if self._works.pop(part, None) is work:
            self.soon(part, retry)

    def point(self, where: str, seconds_max: float = float("inf")) -> None:
        """Where the part that runs may stand still, or the hub may die."""
        part = self._part
        if part not in self._works or part not in self._fuses:
            return
        wanted, points, seconds = self._fuses[part]
        if wanted not in ("", where):
            return
        if points > 0:
            self._fuses[part] = wanted, points - 1, seconds
            return
        del self._fuses[part]
        work = self._works[part]
        if seconds is None:
            self.world.trace.add(self.name, f"dies in its {part}, {where}")
            self.die(self.world.rng.uniform(2.0, 60.0))
            raise Killed
        seconds = min(seconds, seconds_max)
        self.world.trace.add(self.name, f"its {part} stands still {where}, for {seconds:.0f} s")
        self.able_since = self.world.clock.now + seconds
        work.pause(seconds)

    def committing(self, session: Session, before: int, now: int) -> None:
        """A part has changed something and is about to commit it, in such terms of the engine."""
        if self._part == "engine":
            self.world.committing(self, session, before, now)

    def wait_for_lock(self) -> None:
        """As long as the database waits for another's transaction."""
        waited = 0.0
        while self.world.writing:
            work = self._works.get(self._part)
            if work is None or waited >= BUSY_TIMEOUT_MS / 1000:
                self.able_since = self.world.clock.now
                raise OperationalError("BEGIN IMMEDIATE", {}, Exception("database is locked"))
            waited += LOCKED_SECONDS
            work.pause(LOCKED_SECONDS)


class Bystander:
    """The API and ingest: they decide nothing, and nothing keeps them."""

    def __init__(self, world: "EngineWorld") -> None:
        self.world = world

    def point(self, where: str, seconds_max: float = 0.0) -> None:
        """Nowhere."""

    def committing(self, session: Session, before: int, now: int) -> None:
        """It may."""

    def wait_for_lock(self) -> None:
        """It is not asked while anybody has it."""


class PausingSigner(DirectiveSigner):
    """May stand still with a directive that is signed and not yet committed."""

    def __init__(self, hub: EngineHub) -> None:
        super().__init__(catalogue().director)
        self._hub = hub

    def sign(self, wanted: Directive) -> bytes:
        envelope = super().sign(wanted)
        self._hub.point("as it signs")
        return envelope


class Publishing:
    """The publisher of one term; implements ``muster_hub.reconcile.leader.Part``."""

    def __init__(self, hub: EngineHub, bundles: Bundles, epoch: int) -> None:
        self.post = Post(hub)
        self.publisher = Publisher(
            hub.store, None, hub.world.published, bundles, save=lambda: None, now=hub.now,
            monotonic=lambda: hub.world.clock.now, sender=self.post,
            fenced=lambda session: lease.fenced(session, PUBLISHER, epoch),
        )  # fmt: skip

    def start(self) -> None:
        self.post.start()

    def stop(self) -> None:
        self.post.stop()


class Post:
    """A publisher's connection to the broker, which may stand still before each directive that it
    sends; implements ``muster_hub.mqtt.sending.Sending``.

    All publishers have one name, so the broker ends the connection of the one before. That one
    connects again, and then repeats what was under way.
    """

    def __init__(self, hub: EngineHub) -> None:
        self._hub = hub
        self._made = 0
        self._waiting: list[tuple[Hashable, str, bytes, bool]] = []
        self._taken: list[Hashable] = []
        self._stopped = False

    @property
    def connected(self) -> bool:
        return self._hub.world.posting is self

    @property
    def connections(self) -> int:
        return self._made

    def start(self) -> None:
        """Connect; whoever was, is no more."""
        world = self._hub.world
        if self._stopped or not self._hub.running:
            return
        if self._hub.stopped_until > world.clock.now:
            world.clock.at(self._hub.stopped_until, self.start)
            return
        before, world.posting = world.posting, self
        self._made += 1
        waiting, self._waiting = self._waiting, []
        for name, topic, payload, retain in waiting:
            world.publish(topic, payload, retain=retain)
            self._taken.append(name)
        if before is not None and before is not self:
            world.clock.after(world.rng.uniform(*RECONNECT_SECONDS), before.start)

    def stop(self) -> None:
        self._stopped = True
        if self.connected:
            self._hub.world.posting = None

    def send(
        self,
        name: Hashable,
        topic: str,
        payload: bytes,
        *,
        retain: bool,
        expiry_seconds: int | None = None,
    ) -> bool:
        if not self.connected:
            return False
        if topic.endswith("/directive"):
            self._hub.point("before it sends a directive")
        if self.connected:
            self._hub.world.publish(topic, payload, retain=retain)
            self._taken.append(name)
        else:
            self._waiting.append((name, topic, payload, retain))
        return True

    def taken(self) -> list[Hashable]:
        taken, self._taken = self._taken, []
        return taken

    def drain(self, timeout_seconds: float) -> bool:
        return self.connected

    def retained(self, topic: str, timeout_seconds: float) -> bytes | None:
        return self._hub.world.retained.get(topic)
