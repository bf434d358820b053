"""A fleet of three with a hub's own keys, catalogue, intake and engine; one device is hostile.

No network: messages go into the intake as they would come from the broker.
"""

from collections.abc import Callable
from pathlib import Path

from sqlmodel import col, select

from muster_agent.trust.time import ClockReading
from muster_hub.heartbeats import Heartbeats
from muster_hub.mqtt.intake import Intake
from muster_hub.mqtt.showing import Showing
from muster_hub.reconcile.engine import Engine
from muster_hub.registry.published import Bundles
from muster_hub.signing import keys
from muster_hub.signing.catalogue import Catalogue
from muster_hub.signing.directives import DirectiveSigner
from muster_hub.storage import models
from muster_hub.storage.models import Alert, DirectiveRow, OutboxMessage
from muster_protocol.wire import topics
from muster_protocol.wire.messages import Ack, Shown
from support.hub_engine import Plant
from support.hub_store import batch, report, summary
from support.trust_device import TrustDevice
from support.tuf_repository import NOW

HOSTILE, HONEST = "dev-1", ("dev-2", "dev-3")
EPOCH = bytes(12)


class Besieged:
    """``attack`` lets the hostile device send something; ``assert_updates`` is the end of each."""

    def __init__(self, directory: Path, url: str | None = None) -> None:
        self.keyring = keys.create_keyring(directory / "keys", None)
        self.catalogue = Catalogue(directory / "tuf", self.keyring)
        self.catalogue.create(float(NOW))
        signing = DirectiveSigner(self.catalogue.director)
        self.plant = Plant(directory, HOSTILE, *HONEST, signing=signing, url=url)
        self.plant.now = float(NOW)
        self.heartbeats = Heartbeats()
        self.engine = self._engine()
        self.intake = Intake(self.plant.store, lambda _seconds: True)
        self.published = 0
        self.showing = Showing(
            self.catalogue, self._publish, lambda: self.plant.now, monotonic=lambda: self.plant.now
        )
        for name in HONEST:
            self.plant.change(name, labels={"group": "honest"})
        self.release("1")
        self.device = TrustDevice(directory / "device", self.catalogue.factory_root())
        self.sequence = 0
        self.assert_updates()

    def close(self) -> None:
        self.plant.close()

    def _publish(self) -> None:
        self.published += 1

    def _engine(self) -> Engine:
        plant = self.plant
        return Engine(
            plant.store, self.catalogue, plant.signing, Bundles(plant.store, plant.blobs),
            plant.settings, heartbeats=self.heartbeats, now=lambda: plant.now,
        )  # fmt: skip

    def restart(self) -> None:
        """The hub is started anew on what it has kept."""
        self.engine = self._engine()
        self.intake = Intake(self.plant.store, lambda _seconds: True)

    def release(self, version: str) -> str:
        sha256 = self.plant.publish(version)
        with self.plant.store.read() as session:
            row = session.get(models.Version, ("digits", version))
        assert row is not None
        assert self.catalogue.release("digits", version, row.manifest, self.plant.now)
        return sha256

    def attack(self, leaf: topics.UpLeaf, payload: bytes, *, times: int = 1) -> None:
        """The hostile device sends it, among messages of the others, who are acknowledged."""
        for _ in range(times):
            self._deliver([(topics.up(HOSTILE, leaf), payload)])
        self.tick()

    def attack_with(self, make: Callable[[int], tuple[topics.UpLeaf, bytes]], times: int) -> None:
        """The same with ``times`` different messages."""
        made = [make(number) for number in range(times)]
        self._deliver([(topics.up(HOSTILE, leaf), payload) for leaf, payload in made])
        self.tick()

    def show(self, device: str, timestamp: bytes, snapshot: bytes) -> None:
        """Raises CatalogueError when what is shown proves nothing."""
        self.plant.now += 60
        self.showing(device, Shown(timestamp, snapshot))

    def tick(self, seconds: float = 61.0) -> None:
        self.plant.now += seconds
        self.engine.changed()
        assert self.engine.step()

    def _deliver(self, messages: list[tuple[str, bytes]]) -> None:
        self.sequence = getattr(self, "sequence", 0) + 1
        first, second = (
            (topics.up(name, "telemetry"), batch({self.sequence: summary(3)})) for name in HONEST
        )
        done = self.intake.take([first, *messages, second], self.plant.now)
        assert done is not None
        acks = {device: ack for device, ack in done.acks if device in HONEST}
        assert {ack.sequence for ack in acks.values()} == {self.sequence}, "others wait"
        assert all(isinstance(ack, Ack) for ack in acks.values())

    def alerts(self) -> dict[str, Alert]:
        with self.plant.store.read() as session:
            rows = session.exec(select(Alert).where(Alert.state != "resolved")).all()
        return {row.key: row for row in rows}

    def asked_to_show(self) -> list[str]:
        with self.plant.store.read() as session:
            found = session.exec(
                select(OutboxMessage.topic).where(col(OutboxMessage.topic).endswith("/show"))
            ).all()
        return sorted({topic.split("/")[3] for topic in found})

    def assert_updates(self) -> None:
        """A new version reaches the honest devices: signed, directed, verified, acknowledged."""
        version = f"9.{int(self.plant.now)}"
        digest = self.release(version)
        rollout = self.plant.start(version, selector="group=honest")
        self.tick()
        reading = ClockReading(self.plant.now, "synchronised")
        trusted = self.device.update(self.catalogue.files_to_publish(), reading)
        found = trusted.manifest_target("digits", version, now=int(self.plant.now))
        assert found is not None
        assert found[0] == digest
        for name in HONEST:
            with self.plant.store.read() as session:
                row = session.get(DirectiveRow, name)
            assert row is not None
            held = trusted.verify_directive(row.envelope)
            assert held.slots["vision"].champion.manifest == digest
            self.plant.report(name, version)
        self.tick()
        assert self.plant.rollout(rollout).state == "completed"
        self._deliver([(topics.up(name, "report"), report()) for name in HONEST])
        assert all(item.ok for item in self.heartbeats.standings().values()), "a part is unwell"
