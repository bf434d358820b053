"""A hub under fire: the corpus through the real intake, the real engine and every list."""

import json
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
from sqlmodel import select

from fuzz.corpus import Corpus
from muster_hub.access.scope import EVERYTHING
from muster_hub.alerts import reading as alerts_reading
from muster_hub.errors import HubError
from muster_hub.fleet import reading as fleet_reading
from muster_hub.fleet import set_aside
from muster_hub.heartbeats import Heartbeats
from muster_hub.identity import parsing
from muster_hub.monitoring import drift_reading
from muster_hub.monitoring import reading as monitoring_reading
from muster_hub.mqtt.intake import Intake
from muster_hub.reconcile.engine import Engine
from muster_hub.registry.published import Bundles
from muster_hub.storage import models
from muster_protocol.signals import baseline
from muster_protocol.wire import bounds, topics
from muster_protocol.wire.manifest import File
from support.hub_engine import FixedCatalogue, Plant
from support.hub_store import batch, summary
from support.summaries import fitted
from wire_samples import MANIFEST

HOSTILE, HONEST = ("evil-1", "evil-2", "evil-3"), ("good-1", "good-2")
BATCH_MESSAGES = 48
STEP_BATCHES = 4
LIST_BATCHES = 24
STEP_SECONDS = 120.0


@dataclass
class Outcome:
    messages: int = 0
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        counted = ", ".join(f"{name} {count:,}" for name, count in sorted(self.counts.items()))
        return f"{self.messages:,} messages in {self.seconds:.0f} s: {counted}"


class Siege:
    def __init__(self, directory: Path, url: str | None, seed: int) -> None:
        self.plant = Plant(directory, *HOSTILE, *HONEST, url=url)
        known = [
            (self.plant.publish("1", **self._with_baseline()), "digits", "1"),
            (self.plant.publish("2", baseline=None), "digits", "2"),
        ]
        self.plant.start("1", canary=1, gate={"metrics": ["errors", "p95 latency"]})
        self.corpus = Corpus(seed, known)
        self.heartbeats = Heartbeats()
        self.intake = Intake(self.plant.store, lambda _seconds: True)
        self.engine = Engine(
            self.plant.store, FixedCatalogue(), self.plant.signing,
            Bundles(self.plant.store, self.plant.blobs), self.plant.settings,
            heartbeats=self.heartbeats, now=lambda: self.plant.now,
        )  # fmt: skip
        self.sequence = 0
        self.outcome = Outcome()

    def _with_baseline(self) -> dict[str, Any]:
        file = baseline.encode(fitted())
        entry = File("baseline.bin", len(file), self.plant.blobs.put(file))
        return {"baseline": entry.path, "files": (*MANIFEST.files, entry)}

    def run(self, messages: int, seconds: float = float("inf")) -> Outcome:
        """Send so many messages, or as many as the time allows; raises AssertionError."""
        began = time.monotonic()
        stream = self.corpus.messages()
        turn = 0
        while self.outcome.messages < messages and time.monotonic() - began < seconds:
            self._send(list(islice(stream, BATCH_MESSAGES)))
            turn += 1
            self.plant.now += STEP_SECONDS
            if turn % STEP_BATCHES == 0:
                self._step()
            if turn % LIST_BATCHES == 0:
                self._lists()
        self.plant.now += 7_200
        self._step()
        self._lists()
        self.outcome.seconds = time.monotonic() - began
        for name in ("set_aside", "rows", "reports", "duplicates"):
            self.outcome.counts[name] = getattr(self.intake.counters, name)
        self.plant.close()
        return self.outcome

    def _send(self, made: list[tuple[topics.UpLeaf, bytes]]) -> None:
        """A batch with a message of each honest device among it: those are acknowledged at once."""
        self.sequence += 1
        hostile = [
            (topics.up(HOSTILE[number % len(HOSTILE)], leaf), payload)
            for number, (leaf, payload) in enumerate(made)
        ]
        honest = [
            (topics.up(name, "telemetry"), batch({self.sequence: summary(5)})) for name in HONEST
        ]
        middle = len(hostile) // 2
        taken = self.intake.take([*hostile[:middle], *honest, *hostile[middle:]], self.plant.now)
        assert taken is not None, "intake took what it was sent for a busy database"
        acks = {device: ack.sequence for device, ack in taken.acks if device in HONEST}
        assert acks == dict.fromkeys(HONEST, self.sequence), "others were not acknowledged"
        for renewal in taken.renewals:
            self._read_request(renewal.csr_pem)
        self.outcome.messages += len(hostile)
        self.outcome.counts["batches"] += 1

    def _read_request(self, csr_pem: str) -> None:
        self.outcome.counts["certificate requests"] += 1
        try:
            parsing.read_request(csr_pem.encode())
        except HubError:
            return

    def _step(self) -> None:
        self.engine.changed()
        assert self.engine.step()
        self.outcome.counts["steps"] += 1
        unwell = {
            name: item.detail for name, item in self.heartbeats.standings().items() if not item.ok
        }
        assert unwell == {}, f"a part of the hub is unwell: {unwell}"

    def _lists(self) -> None:
        """What people and programs are shown is JSON, and steers no terminal."""
        now, plant = self.plant.now, self.plant
        with plant.store.read() as session:
            shown: list[Any] = [
                fleet_reading.devices(
                    session, EVERYTHING, selector=None, after="", limit=100, now=now
                ),
                alerts_reading.alerts(session, EVERYTHING, state=None, before=None, limit=500),
                fleet_reading.events(session, EVERYTHING, after=0, limit=500),
            ]
            for name in HOSTILE:
                shown += [
                    monitoring_reading.counts(session, EVERYTHING, name),
                    monitoring_reading.windows(
                        session, EVERYTHING, name, model=None, before=None, limit=200
                    ),
                    [row.fault for row in set_aside.kept(session, name, 20)],
                    drift_reading.drift(session, plant.blobs.read, [name], model=None),
                ]
            names = session.exec(select(models.Device.id)).all()
        assert len(names) == len(HOSTILE) + len(HONEST)
        text = msgspec.json.encode(shown).decode()
        for value in _texts(json.loads(text)):
            assert bounds.is_clean(value), f"{value!r} is shown as it came"
        self.outcome.counts["lists"] += 1


def _texts(tree: Any) -> list[str]:
    match tree:
        case str():
            return [tree]
        case list():
            return [text for item in tree for text in _texts(item)]
        case dict():
            return [text for key, item in tree.items() for text in (key, *_texts(item))]
        case _:
            return []
