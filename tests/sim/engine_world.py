"""Three hubs on one database in a seed: each with its own clock, each stopped or killed anywhere.

One engine acts, by the lease. What must hold: who has lost the lease persists nothing, a number of
a directive says one thing and never goes back, and while any hub is able to act, some hub does.
"""

import random
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from securesystemslib.dsse import Envelope
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlmodel import Session

from muster_hub.errors import HubError
from muster_hub.reconcile.engine import Engine
from muster_hub.reconcile.lease import LEASE_SECONDS
from muster_hub.rollouts import commands
from muster_hub.storage import models
from muster_protocol.wire import directive as d
from muster_protocol.wire import topics
from muster_protocol.wire.directive import Directive
from sim.catalogue import Published, catalogue, scratch
from sim.engine_hub import Bystander, EngineHub, Post, store_of
from sim.hub import template
from sim.scheduler import Scheduler
from sim.trace import Trace
from sim.watch import Violation
from support.tuf_repository import NOW

HUBS = 3
DEVICES = 4
FAULTS_A_MINUTE = 8
CHAOS_SECONDS = 300.0
TAKE_OVER_SECONDS = LEASE_SECONDS + 15.0
"""Within which a hub that is able to act does so when nobody else did: a lease, the time until it
looks, and what a hub needs that has just begun."""
CONVERGE_SECONDS = 240.0
REPORT_SECONDS = (15.0, 50.0)
ALIKE_SHARE = 0.3
"""Of the worlds, in which all hubs have one name."""
VERSIONS = ("1.0.0", "2.0.0", "3.0.0", "4.0.0", "5.0.0")
SLOT = "main"
WHERE = {
    "engine": ("", "before it writes", "as it signs", "as it signs", "after it committed"),
    "publisher": ("", "before it sends a directive"),
}
"""At which points parts stand still or die; empty: at any."""
FINAL = ("digits", "9.0.0")


@dataclass(frozen=True)
class EngineDoubles:
    """What a careless hub would have instead; as they are: the real ones."""

    engine: type[Engine] = Engine


@dataclass(frozen=True)
class EngineOutcome:
    seed: int
    violation: Violation | None
    counts: Counter[str]
    device_seconds: float
    digest: str


class Follower:
    """A device as far as hubs know of it: it takes the newest directive, does it, and says so."""

    def __init__(self, world: "EngineWorld", name: str) -> None:
        self.world, self.name = world, name
        self.held: Directive | None = None

    def hear(self, envelope: bytes) -> None:
        said = opened(envelope)
        held = self.held
        if held is None or (said.epoch, said.generation) >= (held.epoch, held.generation):
            self.held = said

    def report(self) -> None:
        """Now and then; what it was told last is done by then."""
        world = self.world
        slots = {}
        for slot, asked in (self.held.slots if self.held is not None else {}).items():
            goal = asked.champion
            runs = {"manifest": goal.manifest, "version": goal.version, "model": goal.model}
            update = runs | {"state": "committed", "generation": self.held.generation}
            slots[slot] = {"running": runs, "update": update}
        said = {
            "epoch": 1, "generation": self.held.generation if self.held else 0, "slots": slots,
        }  # fmt: skip

        def write(session: Session) -> None:
            row = session.get(models.Device, self.name)
            assert row is not None
            session.add(row.sqlmodel_update({"report": said, "online": True,
                                             "last_seen": NOW + world.clock.now}))  # fmt: skip

        world.ask(write)
        world.clock.after(world.rng.uniform(*REPORT_SECONDS), self.report)


class EngineWorld:
    """One seed. ``run`` lives it to its end, or to the first broken promise."""

    def __init__(
        self,
        seed: int,
        doubles: EngineDoubles | None = None,
        chaos_seconds: float = CHAOS_SECONDS,
    ) -> None:
        self.seed, self.chaos_seconds = seed, chaos_seconds
        self.rng = random.Random(f"{seed}/engines")
        self.doubles = doubles or EngineDoubles()
        self.clock = Scheduler()
        self.trace = Trace(self.clock)
        self.counts: Counter[str] = Counter()
        self.published = Published()
        self.published.count = len(catalogue().releases)
        self.writing = False
        """Whether some hub is within a transaction that writes."""
        self.posting: Post | None = None
        """The publisher's connection that the broker has."""
        self.retained: dict[str, bytes] = {}
        self.alike = self.rng.random() < ALIKE_SHARE
        self._database_offset_seconds = 0.0
        self.devices = {f"dev-{number}": Follower(self, f"dev-{number}")
                        for number in range(DEVICES)}  # fmt: skip
        self._told: dict[tuple[str, int], str] = {}
        self._newest: dict[str, int] = {}
        self._ended: dict[int, str] = {}
        self.broken: Violation | None = None
        """Raised again where no part of a hub can catch it."""
        self._leader: EngineHub | None = None
        self._terms: dict[int, tuple[str, int]] = {}
        """Epoch of the engine's lease → the hub that was given it, and in which of its lives."""
        self._rollout = 0
        path = scratch() / "engines.db"
        stores = [store_of(path, number) for number in range(HUBS + 1)]
        for store in stores:
            store.close()
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        shutil.copyfile(template(), path)
        *theirs, self._store = stores
        self.hubs = [EngineHub(self, number, store) for number, store in enumerate(theirs)]
        self._store.hub = Bystander(self)

    def run(self) -> EngineOutcome:
        violation = None
        try:
            self._live()
        except Violation as found:
            violation = found
            self.trace.add("VIOLATION", str(found))
        finally:
            for hub in self.hubs:
                hub.die(0.0)
        return EngineOutcome(
            self.seed, violation, self.counts, self.clock.now * DEVICES, self.trace.digest
        )

    def _live(self) -> None:
        with self._store.write() as session:
            for name in self.devices:
                session.add(models.Device(id=name, created=NOW))
            session.add(models.Model(name=FINAL[0], created=NOW))
            for made in catalogue().releases:
                if made.model == FINAL[0]:
                    session.add(
                        models.Version(
                            model=made.model, version=made.version, status="published",
                            manifest_sha256=made.sha256, manifest=made.manifest, size_bytes=1,
                            created=NOW, created_by="operator",
                        )
                    )  # fmt: skip
        for hub in self.hubs:
            hub.start()
        for device in self.devices.values():
            self.clock.after(self.rng.uniform(0.0, 5.0), device.report)
        self.clock.after(5.0, self._roll_out)
        self.clock.after(1.0, self._looks)
        for _ in range(round(FAULTS_A_MINUTE * self.chaos_seconds / 60.0)):
            self.clock.at(self.rng.uniform(10.0, self.chaos_seconds), self._befall)
        self._until(self.chaos_seconds)
        for hub in self.hubs:
            hub.heal()
        self._settle()

    def _until(self, when: float) -> None:
        while self.clock.step(when):
            if self.broken is not None:
                raise self.broken

    def named(self, hub: EngineHub) -> str:
        """What a hub is called in leases."""
        return "hub" if self.alike else hub.name

    def database_time(self, _session: object) -> float:
        """Implements ``lease.Clock``: one for all, which jumps when another machine takes over the
        database."""
        return NOW + self.clock.now + self._database_offset_seconds

    # What goes wrong

    def _befall(self) -> None:
        hub, size = self.rng.choice(self.hubs), self.rng.random()
        if self._leader is not None and self.rng.random() < 0.6:
            hub = self._leader  # who acts has more to lose
        part = self.rng.choice(("engine", "engine", "publisher"))
        where = self.rng.choice(WHERE[part])
        points = self.rng.randrange(12 if where == "" else 3)
        match self.rng.choice(("still", "still", "dies", "stopped", "killed", "clock", "database")):
            case "still":
                hub.fuse(part, where, points, LEASE_SECONDS * (0.5 + 3.0 * size))
            case "dies":
                hub.fuse(part, where, points, None)
            case "stopped":
                hub.stop(2.0 + 60.0 * size**2)
            case "killed":
                hub.die(2.0 + 40.0 * size)
            case "database":
                jump = self.rng.choice((-600.0, -10.0, -3.0, 3.0, 10.0, 600.0)) * size
                self.trace.add("world", f"the database's clock jumps by {jump:.0f} s")
                self._database_offset_seconds += jump
            case _:
                jump = self.rng.choice((-3600.0, -20.0, -6.0, 6.0, 20.0, 3600.0)) * size
                self.trace.add(hub.name, f"its clock jumps by {jump:.0f} s")
                hub.offset_seconds += jump
        self.counts["faults"] += 1

    # What people do

    def ask(self, act: Callable[[Session], None]) -> bool:
        """A short transaction of the API or of ingest; later, when the database is locked."""
        if self.writing:
            self.clock.after(1.0, lambda: self.ask(act))
            return False
        try:
            with self._store.write() as session:
                act(session)
        except (HubError, OperationalError) as error:
            self.trace.add("operator", f"the hub says no: {error}"[:120])
            return False
        for hub in self.hubs:
            if hub.running:
                hub.engine.changed()
                hub.soon("engine", (0.1, 2.0))
        return True

    def _roll_out(self, version: str | None = None) -> None:
        """Another version to all, whatever is under way; or other labels for a device."""
        chosen = version or self.rng.choice(VERSIONS)

        def write(session: Session) -> None:
            for number in session.connection().execute(_LIVE).scalars():
                commands.abort_rollout(session, number, by="operator", now=NOW + self.clock.now)
            self._rollout = commands.start_rollout(
                session, model=FINAL[0], version=chosen, slot=SLOT, by="operator",
                now=NOW + self.clock.now, selector="", canary=self.rng.choice([0, 1]),
                min_soak_seconds=1.0, in_flight_max=self.rng.choice([0, 2]),
            )  # fmt: skip

        if self.ask(write):
            self.counts["rollouts"] += 1
            self.trace.add("operator", f"rollout {self._rollout}: {chosen}")
        if version is None and self.clock.now < self.chaos_seconds - 40.0:
            self.clock.after(self.rng.uniform(5.0, 40.0), self._roll_out)

    # What happens at the broker

    def publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        if retain:
            self.retained[topic] = payload
        if topic.endswith("/directive"):
            self.counts["directives"] += 1
            device = self.devices[topic.split("/")[-2]]
            self.clock.after(self.rng.uniform(0.01, 0.3), lambda: device.hear(payload))

    # What must hold

    def expect(self, holds: object, invariant: str, detail: str) -> None:
        if not holds:
            self.broken = self.broken or Violation(invariant, detail)
            raise self.broken

    def committing(self, hub: EngineHub, session: Session, before: int, term: int) -> None:
        """An engine is about to commit a change; the lease has such epochs before and after it."""
        own = hub.name, hub.life
        if term != before:
            self.expect(
                term > max(self._terms, default=0),
                "an epoch is given once",
                f"{hub.name} was given epoch {term} after {max(self._terms, default=0)}",
            )
            self._terms[term] = own
            self.counts["taken over"] += 1
            self.trace.add(hub.name, f"acts from now on, in epoch {term}")
            self._leader = hub
        self.expect(
            self._terms.get(term) == own,
            "who lost the lease persists nothing",
            f"{hub.name} in its life {hub.life} changes what {self._terms.get(term)} alone may",
        )
        for device, generation, content in session.connection().execute(_DIRECTIVES):
            self.expect(
                generation >= self._newest.get(device, 0),
                "directive numbers never go back",
                f"{device} was told {self._newest.get(device)}, now {generation} by {hub.name}",
            )
            self._newest[device] = generation
            before = self._told.setdefault((device, generation), content)
            self.expect(
                before == content,
                "a directive's number says one thing",
                f"{hub.name} tells {device} another thing under number {generation}",
            )
        for number, state in session.connection().execute(_ROLLOUTS):
            before = self._ended.get(number, state)
            self.expect(
                before == state,
                "a rollout that has ended stays so",
                f"rollout {number} was {before}, {hub.name} makes it {state}",
            )
            if state not in ("running", "paused"):
                self._ended[number] = state

    def _looks(self) -> None:
        """Somebody acts while anybody can."""
        now = self.clock.now
        if self.writing:
            for hub in self.hubs:
                hub.able_since = max(hub.able_since, now)
        able = [hub for hub in self.hubs if hub.running and now >= hub.able_since]
        since = max((hub.acted for hub in self.hubs), default=0.0)
        waited = min((now - max(hub.able_since, since) for hub in able), default=0.0)
        longest = max((now - max(hub.able_since, since) for hub in able), default=0.0)
        self.expect(
            longest <= TAKE_OVER_SECONDS,
            "a stand-by takes over",
            f"nobody has acted for {now - since:.0f} s, while "
            f"{[hub.name for hub in able]} could, for {waited:.0f} s at least",
        )
        self.clock.after(1.0, self._looks)

    def _settle(self) -> None:
        """No fault any more: what the last rollout asks for is done, and known."""
        while not self.ask(lambda _session: None):
            self._until(self.clock.now + 2.0)
        self._roll_out(FINAL[1])
        end = self.clock.now + CONVERGE_SECONDS
        while missing := self._missing():
            self._until(self.clock.now + 5.0)
            self.expect(self.clock.now < end, "convergence", missing)

    def _missing(self) -> str:
        """What is not yet as it should be in the end; empty: nothing."""
        with self._store.read() as session:
            rows = session.connection().execute(_ENVELOPES).fetchall()
            rollouts = dict(iter(session.connection().execute(_ROLLOUTS)))
        for device, envelope in rows:
            if self.retained.get(topics.down(device, "directive")) != envelope:
                return f"the broker holds another directive for {device} than the database"
        for name, device in self.devices.items():
            slot = device.held.slots.get(SLOT) if device.held is not None else None
            version = slot.champion.version if slot is not None else "nothing"
            if version != FINAL[1]:
                return f"{name} was told {version}"
        state = rollouts.get(self._rollout)
        return "" if state == "completed" else f"rollout {self._rollout} is {state}"


def opened(envelope: bytes) -> Directive:
    return d.decode(Envelope.from_dict(msgspec.json.decode(envelope)).payload)


_LIVE = text("SELECT id FROM rollout WHERE state IN ('running', 'paused')")
_DIRECTIVES = text("SELECT device, generation, content_sha256 FROM directive")
_ENVELOPES = text("SELECT device, envelope FROM directive")
_ROLLOUTS = text("SELECT id, state FROM rollout")
