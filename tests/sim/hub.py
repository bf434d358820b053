"""The hub of a simulated fleet: the real engine, ingest, publisher and database, one hand's work.

What the service does on threads is done here when the world's time says so: messages wait in the
broker's session until the intake has committed them, the engine steps when something was committed,
the publisher when something was decided.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import sqlalchemy
from sqlalchemy.exc import OperationalError
from sqlmodel import Session, col

from muster_hub.errors import HubError
from muster_hub.heartbeats import Heartbeats
from muster_hub.mqtt.intake import Intake
from muster_hub.mqtt.publisher import Publisher
from muster_hub.reconcile.engine import Engine
from muster_hub.reconcile.terms import DirectiveTerms
from muster_hub.registry.published import Bundles
from muster_hub.rollouts import commands
from muster_hub.settings.database import sqlite_url
from muster_hub.signing.directives import DirectiveSigner
from muster_hub.storage import models
from muster_hub.storage.sealing import Sealing
from muster_hub.storage.store import Store
from muster_hub.storage.tables import METADATA, target
from muster_protocol.wire import messages, topics
from muster_protocol.wire.errors import MusterError
from sim.catalogue import Published, catalogue, scratch
from support.tuf_repository import NOW

if TYPE_CHECKING:
    from sim.world import World

INGEST_SECONDS = (3.0, 12.0)
STEP_SECONDS = (8.0, 30.0)
"""Between a commit and the engine's next step."""
IDLE_STEP_SECONDS = 60.0
PUBLISH_SECONDS = (0.2, 2.0)
BATCH_MESSAGES_MAX = 100
_ROLLOUTS = sqlalchemy.select(target(models.Rollout)).order_by(col(models.Rollout.id))


class HubStore(Store):
    """The hub's database, which is sometimes busy."""

    busy = 0
    writes = 0

    @contextmanager
    def write(self) -> Iterator[Session]:
        if self.busy:
            self.busy -= 1
            raise OperationalError("BEGIN IMMEDIATE", {}, Exception("database is locked"))
        self.writes += 1
        with super().write() as session:
            yield session


@cache
def template() -> Any:
    """A database without rows."""
    path = scratch() / "template.db"
    store = Store(sqlite_url(path))
    METADATA.create_all(store.engine)
    store.close()
    return path


@cache
def _open(kind: type[HubStore]) -> HubStore:
    """One store a process: what SQLAlchemy has compiled is worth keeping between worlds."""
    store = kind(sqlite_url(scratch() / f"hub-{kind.__name__}.db"), Sealing(scratch()))
    sqlalchemy.event.listen(store.engine, "connect", careless)
    return store


def careless(connection: Any, _record: Any) -> None:
    """The file is in memory, and the world has no power cut for the hub."""
    connection.execute("PRAGMA synchronous = OFF")


def fresh_store(kind: type[HubStore]) -> HubStore:
    store = _open(kind)
    store.busy = 0
    store.close()
    path = scratch() / f"hub-{kind.__name__}.db"
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    shutil.copyfile(template(), path)
    return store


class BlobStore:
    """Implements what the engine's bundles need of blobs."""

    def read(self, sha256: str) -> bytes:
        try:
            return catalogue().blobs[sha256]
        except KeyError:
            raise MusterError(f"no blob {sha256}") from None


class Hub:
    def __init__(self, world: "World") -> None:
        self.world = world
        self.store = fresh_store(world.doubles.hub_store)
        self.published = Published()
        self.running = False
        self._step_at = self._publish_at = float("inf")
        self._ingesting = False
        self._rollouts: tuple[int, list[Any]] = (-1, [])
        self.life = 0
        self.heartbeats = Heartbeats(lambda: self.world.clock.now)
        world.broker.on_session = self.ingest_soon

    def now(self) -> float:
        return NOW + self.world.clock.now

    def enrol(self, devices: dict[str, dict[str, str]]) -> None:
        with self.store.write() as session:
            for name, labels in devices.items():
                session.add(models.Device(id=name, labels=labels, created=self.now()))
            for model in sorted({release.model for release in catalogue().releases}):
                session.add(models.Model(name=model, created=self.now()))

    def enrol_unapproved(self, name: str) -> None:
        with self.store.write() as session:
            session.add(models.Device(id=name, created=self.now(), approved=False))

    def start(self) -> None:
        world = self.world
        self.life += 1
        self.running = True
        self.intake: Intake = world.doubles.intake(self.store, lambda _seconds: True)
        bundles = Bundles(self.store, BlobStore())
        self.publisher = Publisher(
            self.store,
            None,
            self.published,
            bundles,
            save=lambda: None,
            now=self.now,
            monotonic=lambda: self.world.clock.now,
            sender=world.doubles.sender(world.broker),
        )
        self.engine = Engine(
            self.store,
            self.published,
            DirectiveSigner(catalogue().director),
            bundles,
            DirectiveTerms(
                window_seconds=self.world.window_seconds,
                valid_seconds=86_400,
                chunks_url="https://hub.test/api/v1/chunks",
                token=lambda device, _expires: device,
            ),
            on_published=self.publish_soon,
            now=self.now,
            heartbeats=self.heartbeats,
            monotonic=lambda: self.world.clock.now,
        )
        world.broker.hub_connects()
        self.step_soon(1.0)
        self.ingest_soon()

    def crash(self, seconds: float) -> None:
        """Killed: what was not committed and not acknowledged comes again to the next one."""
        if not self.running:
            return
        self.world.trace.add("hub", f"killed, back in {seconds:.0f} s")
        self.running = False
        self.life += 1
        self._ingesting = False
        self._step_at = self._publish_at = float("inf")
        self.world.broker.hub.connected = False
        self.world.clock.after(seconds, self._back)

    def _back(self) -> None:
        if not self.running:
            self.world.trace.add("hub", "starts again")
            self.start()

    # Ingest

    def ingest_soon(self) -> None:
        if self.running and not self._ingesting:
            self._ingesting = True
            life = self.life
            pause = self.world.rng.uniform(*INGEST_SECONDS)
            self.world.clock.after(pause, lambda: self.life == life and self._ingest())

    def _ingest(self) -> None:
        self._ingesting = False
        side = self.world.broker.hub
        if not side.connected:
            return  # The session is handed over when the connection is back.
        batch = [side.session[n] for n in range(min(len(side.session), BATCH_MESSAGES_MAX))]
        if not batch:
            return
        taken = self.intake.take(batch, self.now())
        if taken is not None:
            for _ in batch:
                side.session.popleft()
            for device, ack in taken.acks:
                self.world.broker.publish(topics.down(device, "ack"), messages.encode(ack))
            for wanted in taken.wants:
                self.publisher.want(wanted.device, wanted.chunks, wanted.last_resort)
            if taken.wants:
                self.publish_soon()
            self.world.watch.ingested([topic for topic, _ in batch])
            self.step_soon(self.world.rng.uniform(*STEP_SECONDS))
        if side.session:
            self.ingest_soon()

    # Engine and publisher

    def step_soon(self, seconds: float) -> None:
        when = self.world.clock.now + seconds
        if self.running and when < self._step_at:
            self._step_at = when
            self.world.clock.at(when, lambda: self._step(when))

    def _step(self, when: float) -> None:
        if self._step_at != when or not self.running:
            return
        self._step_at = float("inf")
        try:
            self.engine.step()
        except OperationalError:
            self.step_soon(self.world.rng.uniform(1.0, 3.0))
            return
        self.world.watch.stepped()
        self.step_soon(IDLE_STEP_SECONDS)
        self.publish_soon()

    def publish_soon(self) -> None:
        when = self.world.clock.now + self.world.rng.uniform(*PUBLISH_SECONDS)
        if self.running and when < self._publish_at:
            self._publish_at = when
            self.world.clock.at(when, lambda: self._publish(when))

    def _publish(self, when: float) -> None:
        if self._publish_at != when or not self.running:
            return
        self._publish_at = float("inf")
        try:
            self.publisher.step()
        except OperationalError:
            self.publish_soon()

    # Operators

    def release(self, number: int) -> None:
        """Sign and publish the first ``number`` releases of the catalogue."""
        fresh = catalogue().releases[self.published.count : number]

        def write(session: Session) -> int:
            for item in fresh:
                session.add(
                    models.Version(
                        model=item.model, version=item.version, manifest_sha256=item.sha256,
                        manifest=item.manifest, status="published", size_bytes=1,
                        created=self.now(), created_by="operator",
                    )
                )  # fmt: skip
            return 1

        if fresh and self._ask(write) is not None:
            self.published.count = number

    def roll_out(self, model: str, version: str, slot: str, **plan: Any) -> int | None:
        """The number of the rollout, None when the hub refuses to start one now."""
        return self._ask(
            lambda session: commands.start_rollout(
                session, model=model, version=version, slot=slot, by="operator", now=self.now(),
                **self.world.doubles.plan(plan),
            )
        )  # fmt: skip

    def move(self, verb: str, rollout: int) -> bool:
        """pause, resume or abort; False when the hub says no."""
        command = getattr(commands, f"{verb}_rollout")
        done = self._ask(
            lambda session: (command(session, rollout, by="operator", now=self.now()), 1)[1]
        )
        return done is not None

    def change(self, device: str, **fields: Any) -> bool:
        """Whether it was done: the hub may be down, or its database busy."""

        def write(session: Session) -> int:
            row = session.get(models.Device, device)
            assert row is not None
            session.add(row.sqlmodel_update(fields))
            return 1

        return self._ask(write) is not None

    def _ask(self, act: Any) -> int | None:
        if not self.running:
            return None
        try:
            with self.store.write() as session:
                done: int = act(session)
        except (HubError, OperationalError) as error:
            self.world.trace.add("operator", f"the hub says no: {error}"[:120])
            return None
        self.engine.changed()
        self.step_soon(0.5)
        return done

    def rollouts(self) -> list[Any]:
        """Rows of the table, the oldest first."""
        if self._rollouts[0] != self.store.writes:
            with self.store.read() as session:
                rows = list(session.connection().execute(_ROLLOUTS))
            self._rollouts = self.store.writes, rows
        return self._rollouts[1]
