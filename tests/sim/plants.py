"""Bugs planted on purpose, each by a double that breaks one rule: the checker must find them all.

None of them touches the product: a subclass of a double, or of a port's real implementation, does
what a careless version of the product would have done.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from typing import Any

import msgspec
from sqlalchemy import text
from sqlmodel import Session

from muster_agent.observe.outbox import Outbox
from muster_agent.storage.rows import Adopted, JournalRow, Pointer
from muster_agent.trust.trusted import Trusted
from muster_hub.mqtt.intake import Intake, Taken
from muster_protocol.signals.summary import Summary
from muster_protocol.wire import messages, topics
from muster_protocol.wire.errors import ProtocolError
from muster_protocol.wire.messages import Ack, Batch
from sim.catalogue import Trust, catalogue, trust_memory
from sim.disk import DiskState
from sim.doubles import HONEST, Doubles
from sim.hub import HubStore
from sim.network import Sender
from sim.workers import Launcher, Worker
from sim.world import lived

SEEDS_MAX = 200


class NoGenerations(DiskState):
    """Whatever directive comes last is executed, however old it is."""

    def adopted(self) -> Adopted | None:
        row = super().adopted()
        return Adopted(row.epoch, 0, row.envelope) if row else None


class EndlessResumes(DiskState):
    def put_journal(self, slot: str, row: JournalRow) -> None:
        super().put_journal(slot, msgspec.structs.replace(row, resumes=0))


class PointerApart(DiskState):
    """The pointer is written after the journal's transaction, not within it."""

    _late: list[tuple[str, Pointer]]

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        outer = not self.connection.in_transaction
        if outer:
            self._late = []
        with super().transaction():
            yield
        if outer:
            late, self._late = self._late, []
            for slot, pointer in late:
                super().put_pointer(slot, pointer)

    def put_pointer(self, slot: str, pointer: Pointer) -> None:
        if self.connection.in_transaction:
            self._late.append((slot, pointer))
        else:
            super().put_pointer(slot, pointer)


class CursorNotSaved(DiskState):
    """Only the beginning of a ring's recording is written down."""

    def put_recording(self, ring: str, row: bytes) -> None:
        if ring not in self.recordings():
            super().put_recording(ring, row)


class _Blind:
    def __init__(self, trusted: Trusted) -> None:
        self._trusted = trusted

    def __getattr__(self, name: str) -> Any:
        return getattr(self._trusted, name)

    def manifest_target(self, model: str, version: str, *, now: int) -> tuple[str, int] | None:
        found = [item for item in catalogue().by_manifest.values() if item.version == version]
        goal = next(item.goal for item in found if item.model == model)
        return goal.manifest, goal.manifest_bytes


class BelievesDirector(Trust):
    """What the director names is installed, signed by release keys or not."""

    def trusted(self) -> Any:
        found = super().trusted()
        return _Blind(found) if found is not None else None


class ForgetsVersions(Trust):
    """A damaged file makes the trust store begin anew from the factory root."""

    def truncate(self) -> None:
        self.node = trust_memory().factory


class BelievesAsked(Intake):
    """A device that has begun with a release counts as one that runs it."""

    def take(self, received: Any, now: float) -> Taken | None:
        return super().take([(topic, self._altered(topic, data)) for topic, data in received], now)

    def _altered(self, topic: str, payload: bytes) -> bytes:
        if not topic.endswith("/report"):
            return payload
        report = msgspec.msgpack.decode(payload)
        for slot in (report.get("slots") or {}).values():
            update = slot.get("update") or {}
            if update.get("state") in ("fetching", "verifying", "staged", "starting"):
                slot["running"] = {
                    name: update[name]
                    for name in ("model", "version", "manifest")
                    if name in update
                } | {"runtime": "onnx", "since": report["at"]}
                update["state"] = "committed"
        return msgspec.msgpack.encode(report)


class AcknowledgesFirst(Intake):
    """Devices hear that their rows are safe whether they were committed or not."""

    def take(self, received: Any, now: float) -> Taken | None:
        taken = super().take(received, now)
        if taken is not None:
            return taken
        nothing: dict[str, Any] = {field.name: [] for field in fields(Taken)}
        return Taken(**nothing | {"acks": [*self._acks(received)]})

    @staticmethod
    def _acks(received: Any) -> Iterator[tuple[str, Ack]]:
        for topic, payload in received:
            device, leaf = topics.parse_up(topic)
            with contextlib.suppress(ProtocolError):
                if leaf in ("telemetry", "event"):
                    batch = messages.decode(payload, Batch)
                    stream: messages.Stream = "event" if leaf == "event" else "summary"
                    yield device, Ack(1, stream, batch.epoch, batch.rows[-1].sequence)


class CountsAgain(Intake):
    """A batch that comes a second time is taken for another one."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._seen: set[bytes] = set()

    def take(self, received: Any, now: float) -> Taken | None:
        return super().take([(topic, self._renamed(topic, data)) for topic, data in received], now)

    def _renamed(self, topic: str, payload: bytes) -> bytes:
        if not topic.endswith("/telemetry"):
            return payload
        batch = messages.decode(payload, Batch)
        key = batch.epoch + bytes(msgspec.msgpack.encode([row.sequence for row in batch.rows]))
        if key in self._seen:
            batch = msgspec.structs.replace(batch, epoch=bytes(reversed(batch.epoch)))
        self._seen.add(key)
        return messages.encode(batch)


class EveryoneOnline(HubStore):
    """Devices that are away are waited for like those that are there."""

    @contextlib.contextmanager
    def write(self) -> Iterator[Session]:
        with super().write() as session:
            session.connection().execute(text(
                "UPDATE device SET online = 1, last_seen = (SELECT max(last_seen) FROM device)"
            ))  # fmt: skip
            yield session


class ForgetsPermit(HubStore):
    """A device that was given a permit to swap is not counted as down."""

    @contextlib.contextmanager
    def write(self) -> Iterator[Session]:
        with super().write() as session:
            session.connection().execute(text("UPDATE swap_grant SET given_at = NULL"))
            yield session


class NotRetained(Sender):
    """A directive is sent to whoever happens to listen."""

    def send(self, name: Any, topic: str, payload: bytes, **options: Any) -> bool:
        if topic.endswith("/directive"):
            options["retain"] = False
        return super().send(name, topic, payload, **options)


class NeverAgain(Sender):
    """A broker that came back empty is taken for the one that was filled before."""

    @property
    def connections(self) -> int:
        return 1


class DropsWindows(Outbox):
    def _make_room(self) -> None:
        while self._table.size_bytes() > self._bytes_max:
            if not self._table.drop_oldest("summary"):
                break


class DropsFeatures(Outbox):
    """Windows reach the hub without what drift is seen by."""

    def put_summary(self, summary: Summary) -> None:
        super().put_summary(replace(summary, features=None))


class OneAlertADevice(HubStore):
    """Who has an alert of drift gets no other one."""

    @contextlib.contextmanager
    def write(self) -> Iterator[Session]:
        with super().write() as session:
            yield session
            session.flush()
            session.connection().execute(_HIDE)


_HIDE = text(
    "DELETE FROM alert WHERE kind = 'drift' AND state != 'resolved' AND id NOT IN (SELECT min(id) "
    "FROM alert WHERE kind = 'drift' AND state != 'resolved' GROUP BY device)"
)


class OneEpoch(Outbox):
    """A wiped device counts its rows from 1 again under the same epoch."""

    def __init__(self, connection: Any, **options: Any) -> None:
        draw = options["new_epoch"]
        super().__init__(
            connection, **options | {"new_epoch": lambda size: draw(size) and bytes(size)}
        )


class EndsByAnAnswer(Outbox):
    """What the hub acknowledges is looked for among rows that a device may have no more."""

    def acknowledge(self, ack: Any) -> Any:
        raise KeyError(ack.sequence)


class _Deaf(Worker):
    def pause(self) -> None:
        """It goes on accepting."""


class _Careless(Worker):
    trusting = True


class NeverPauses(Launcher):
    worker = _Deaf


class LoadsUnchecked(Launcher):
    worker = _Careless


PLANTS: dict[str, Doubles] = {
    "stale retained command executed": replace(HONEST, state=NoGenerations),
    "unsigned bundle runs": replace(HONEST, trust=BelievesDirector),
    "rollback memory lost": replace(HONEST, trust=ForgetsVersions),
    "success on the old image": replace(HONEST, intake=BelievesAsked),
    "offline devices judged": replace(HONEST, hub_store=EveryoneOnline),
    "acknowledged before commit": replace(HONEST, intake=AcknowledgesFirst),
    "duplicate batch counted": replace(HONEST, intake=CountsAgain),
    "resume loop without bound": replace(HONEST, state=EndlessResumes),
    "pointer apart from journal": replace(HONEST, state=PointerApart),
    "budget not handed on": replace(HONEST, plan=lambda plan: plan | {"in_flight_max": 0}),
    "permit given and forgotten": replace(HONEST, hub_store=ForgetsPermit),
    "directive not retained": replace(HONEST, sender=NotRetained),
    "empty broker not filled again": replace(HONEST, sender=NeverAgain),
    "outbox epoch reused": replace(HONEST, outbox=OneEpoch),
    "an answer ends the agent": replace(HONEST, outbox=EndsByAnAnswer),
    "fold cursor not saved": replace(HONEST, state=CursorNotSaved),
    "windows dropped when full": replace(HONEST, outbox=DropsWindows),
    "drift not told": replace(HONEST, outbox=DropsFeatures),
    "a standing alert hides the next": replace(HONEST, hub_store=OneAlertADevice),
    "two models answer": replace(HONEST, launcher=NeverPauses),
    "rotten model runs": replace(HONEST, launcher=LoadsUnchecked),
}


def seeds_to_find(
    name: str, seeds: Sequence[int] = range(SEEDS_MAX)
) -> tuple[str, int | None, str]:
    """The plant's name, the first of the seeds whose world shows it, and which promise it broke."""
    for seed in seeds:
        found = lived(seed, PLANTS[name]).violation
        if found is not None:
            return name, seed, found.invariant
    return name, None, ""
