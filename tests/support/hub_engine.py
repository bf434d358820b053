"""An engine on a real database with a clock set by hand, and devices that report to it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner
from sqlmodel import col, select

from muster_hub.reconcile.directives import SignsDirectives
from muster_hub.reconcile.engine import Engine
from muster_hub.reconcile.terms import DirectiveTerms
from muster_hub.registry.published import Bundles
from muster_hub.rollouts import commands
from muster_hub.signing.directives import DirectiveSigner
from muster_hub.storage import models
from muster_hub.storage.blobs import Blobs
from muster_protocol.wire import directive, manifest
from muster_protocol.wire.contact import Contact
from muster_protocol.wire.directive import Directive, Drift
from support.hub_store import open_store
from wire_samples import MANIFEST

SLOT = "vision"


class FixedCatalogue:
    """Director epoch 1; nothing to re-sign."""

    director_epoch = 1

    def __init__(self) -> None:
        self.reported: dict[str, int] = {}

    def ahead(self, reported: Mapping[str, int]) -> dict[str, int]:
        self.reported = dict(reported)
        return {}

    def caught_up(self) -> None:
        return None

    def refresh(self, now: float) -> bool:
        return False


class Plant:
    """A hub's engine and what its devices would see. Time passes only in ``tick``."""

    def __init__(
        self,
        directory: Path,
        *devices: str,
        signing: SignsDirectives | None = None,
        url: str | None = None,
        drift: Drift | UnsetType = UNSET,
        trace: Callable[[int | None], str] = lambda _rollout: "",
        contact: Callable[[], Contact | UnsetType] = lambda: UNSET,
        public_chunks_url: str = "",
        **options: Any,
    ) -> None:
        self.now = 1_000_000.0
        self.store = open_store(directory, *devices, url=url)
        self.blobs = Blobs(directory / "blobs")
        self.catalogue = FixedCatalogue()
        self.signing = signing or DirectiveSigner(CryptoSigner.generate_ed25519())
        self.settings = DirectiveTerms(
            window_seconds=300.0,
            valid_seconds=86_400,
            chunks_url="https://hub/api/v1/chunks",
            public_chunks_url=public_chunks_url,
            token=lambda device, expires: f"{device}-{expires}",
            drift=lambda _model, _labels: drift,
            trace=trace,
            contact=contact,
        )
        self.engine = Engine(
            self.store,
            self.catalogue,
            self.signing,
            Bundles(self.store, self.blobs),
            self.settings,
            now=lambda: self.now,
            **options,
        )
        for device in devices:
            self.change(device, online=True, last_seen=self.now)

    def close(self) -> None:
        self.store.close()

    def tick(self, seconds: float = 1.0) -> None:
        self.now += seconds
        self.engine.changed()
        self.engine.step()

    def publish(
        self, version: str, status: str = "published", *, baseline_format: int = 1, **changes: Any
    ) -> str:
        """Register a version, its manifest changed so; the manifest's hash."""
        made = msgspec.structs.replace(MANIFEST, model="digits", version=version, **changes)
        data = manifest.encode(made)
        with self.store.write() as session:
            if session.get(models.Model, "digits") is None:
                session.add(models.Model(name="digits", created=self.now))
                session.flush()
            sha256 = self.blobs.put(data)
            session.add(
                models.Version(
                    model="digits",
                    version=version,
                    manifest_sha256=sha256,
                    manifest=data,
                    status=status,
                    check={"ok": True, "builds": [], "baseline_format": baseline_format},
                    size_bytes=1,
                    created=self.now,
                    created_by="test",
                )
            )
        return sha256

    def start(self, version: str, **options: Any) -> int:
        settled = {"selector": "", "min_soak_seconds": 0, "canary": 0} | options
        with self.store.write() as session:
            return commands.start_rollout(
                session,
                model="digits",
                version=version,
                slot=SLOT,
                by="test",
                now=self.now,
                **settled,
            )

    def change(self, device: str, **fields: Any) -> None:
        with self.store.write() as session:
            row = session.get(models.Device, device)
            assert row is not None
            session.add(row.sqlmodel_update(fields))

    def report(self, device: str, version: str, state: str = "committed", **more: Any) -> None:
        """Have a device say that its directive's goal is in ``state``."""
        held = self.directive(device)
        assert held is not None
        goal = held.slots[SLOT].champion
        runs = {"manifest": goal.manifest, "version": goal.version, "model": goal.model}
        update = runs | {"state": state, "generation": held.generation} | more
        slot = {"running": runs if state == "committed" else {}, "update": update}
        assert goal.version == version
        self.change(
            device,
            last_seen=self.now,
            report={"epoch": 1, "generation": held.generation, "slots": {SLOT: slot}},
        )

    def directive(self, device: str) -> Directive | None:
        with self.store.read() as session:
            row = session.get(models.DirectiveRow, device)
        return None if row is None else directive.decode(row.payload)

    def directives(self) -> dict[str, Directive]:
        """Device → what it was told last."""
        with self.store.read() as session:
            rows = session.exec(select(models.DirectiveRow.device, models.DirectiveRow.payload))
            return {device: directive.decode(payload) for device, payload in rows}

    def versions(self) -> dict[str, str]:
        """Device → version its directive asks for."""
        return {
            name: held.slots[SLOT].champion.version if held.slots else "none"
            for name, held in self.directives().items()
        }

    def messages(self, device: str) -> list[Directive | None]:
        """Every directive ever put out for a device, in order; None for a withdrawal."""
        with self.store.read() as session:
            rows = session.exec(
                select(models.OutboxMessage)
                .where(models.OutboxMessage.topic == f"muster/v1/down/{device}/directive")
                .order_by(col(models.OutboxMessage.id))
            ).all()
        return [_open(row.payload) for row in rows]

    def rollout(self, number: int) -> models.Rollout:
        with self.store.read() as session:
            row = session.get(models.Rollout, number)
        assert row is not None
        return row

    def states(self, number: int) -> dict[str, str]:
        with self.store.read() as session:
            rows = session.exec(
                select(models.RolloutDevice).where(models.RolloutDevice.rollout == number)
            ).all()
        return {row.device: row.state for row in rows}


def _open(payload: bytes) -> Directive | None:
    if not payload:
        return None
    envelope = Envelope.from_dict(msgspec.json.decode(payload))
    assert envelope.payload_type == directive.PAYLOAD_TYPE
    return directive.decode(envelope.payload)
