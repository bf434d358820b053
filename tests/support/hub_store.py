"""A hub's database with devices in it, and messages as devices send them."""

from pathlib import Path

from muster_hub.settings.database import sqlite_url
from muster_hub.storage import models
from muster_hub.storage.sealing import Sealing
from muster_hub.storage.store import Store
from muster_hub.storage.tables import METADATA
from muster_protocol.signals import summary_wire
from muster_protocol.signals.summary import Summary, Tally
from muster_protocol.wire import messages
from muster_protocol.wire.messages import Batch, Event, Facts, Report, Row, Stamp

EPOCH = bytes(range(12))
BOOT = b"boot-one"
MANIFEST = "ab" * 32


def open_store(directory: Path, *devices: str, url: str | None = None) -> Store:
    """A store with the hub's tables and ``devices``: on SQLite in ``directory``, or at ``url``."""
    store = Store(url or sqlite_url(directory / "hub.db"), Sealing(directory))
    METADATA.create_all(store.engine)
    with store.write() as session:
        for device in devices:
            session.add(models.Device(id=device, created=0.0))
    return store


def stamp(seconds: float = 0.0, *, boot: bytes = BOOT, wall: float = 0.0) -> Stamp:
    return Stamp(boot, seconds, wall, "synchronised" if wall else "unknown")


def summary(inferences: int = 10, *, opened: float = 0.0, closed: float = 5.0) -> bytes:
    return summary_wire.encode(
        Summary(
            model="digits",
            version="1",
            manifest=MANIFEST,
            opened=stamp(opened),
            closed=stamp(closed),
            counts=Tally(inferences=inferences),
        )
    )


def event(**fields: object) -> bytes:
    settled = {"kind": "refused", "at": stamp(1.0), "manifest": MANIFEST} | fields
    return messages.encode(Event(**settled))


def batch(rows: dict[int, bytes], *, epoch: bytes = EPOCH, sent: float = 6.0) -> bytes:
    listed = [Row(sequence, payload) for sequence, payload in sorted(rows.items())]
    return messages.encode(Batch(1, epoch, stamp(sent), listed))


def report(**fields: object) -> bytes:
    settled = {"at": stamp(1.0), "facts": Facts(agent_version="1")} | fields
    return messages.encode(Report(**settled))
