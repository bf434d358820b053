"""A hub's catalogue and director in memory, with every key at hand: for tests of trust.

``files`` is what the broker retains under ``tuf/``. Tests play the honest hub with ``release`` and
``publish``, and a thief by signing with the keys of the roles that were stolen.
"""

import copy
import datetime as dt
import hashlib
import random
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Role,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from muster_agent.trust.time import BUILD_TIME, DAY_SECONDS
from muster_protocol.wire import directive as directives
from muster_protocol.wire import manifest
from muster_protocol.wire.directive import Directive, Goal, Slot
from muster_protocol.wire.metadata import DIRECTOR_EPOCH_FIELD, ISSUED_FIELD

NOW = BUILD_TIME + 30 * DAY_SECONDS
TOP = ("root", "targets", "snapshot", "timestamp")
LIFE_DAYS = {"root": 365, "targets": 365, "snapshot": 7, "timestamp": 1, "director": 365}
Signers = list[CryptoSigner]


def moment(seconds: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


def signers(count: int = 1, rng: random.Random | None = None) -> Signers:
    """New keys; the same ones each time for an ``rng`` in the same state."""
    if rng is None:
        return [CryptoSigner.generate_ed25519() for _ in range(count)]
    drawn = [Ed25519PrivateKey.from_private_bytes(rng.randbytes(32)) for _ in range(count)]
    return [CryptoSigner(key) for key in drawn]


class Repository:
    """Root is 2 of 3; the other roles have one key unless a test says otherwise."""

    def __init__(
        self,
        models: tuple[str, ...] = ("digits",),
        now: int = NOW,
        rng: random.Random | None = None,
    ) -> None:
        self.now = now
        self.files: dict[str, bytes] = {}
        self._rng = rng
        self.keys: dict[str, Signers] = {role: signers(rng=rng) for role in TOP}
        self.keys["root"] = signers(3, rng)
        self.keys["director"] = signers(rng=rng)
        self.thresholds: dict[str, int] = {"root": 2}
        self.roles: dict[str, Metadata[Any]] = {}
        roles = {role: Role([], 1) for role in TOP}
        self.roles["root"] = Metadata(
            Root(1, expires=self._expiry("root"), roles=roles, consistent_snapshot=True)
        )
        targets = Targets(1, expires=self._expiry("targets"))
        targets.unrecognized_fields[DIRECTOR_EPOCH_FIELD] = 1
        targets.delegations = Delegations({}, {})
        self.roles["targets"] = Metadata(targets)
        self.delegate("director", [])
        for model in models:
            self.add_model(model)
        snapshot = Snapshot(1, expires=self._expiry("snapshot"))
        self.roles["snapshot"] = Metadata(snapshot)
        self.roles["timestamp"] = Metadata(Timestamp(1, expires=self._expiry("timestamp")))
        self.install_keys()
        self.write("root")
        self.factory_root = self.files["1.root.json"]
        self.write("targets")
        for model in models:
            self.write(manifest.role_name(model))
        self.write("snapshot")
        self.write("timestamp")

    # The honest hub

    def add_model(self, model: str) -> None:
        role = manifest.role_name(model)
        self.keys[role] = signers(rng=self._rng)
        self.delegate(role, [f"{model}/*/manifest.json"])
        self.roles[role] = Metadata(Targets(1, expires=self._expiry(role)))

    def delegate(self, role: str, paths: list[str]) -> None:
        delegations = self.roles["targets"].signed.delegations
        threshold = self.thresholds.get(role, 1)
        keys = self.keys[role]
        for signer in keys:
            delegations.keys[signer.public_key.keyid] = signer.public_key
        delegations.roles[role] = DelegatedRole(
            role, [s.public_key.keyid for s in keys], threshold, terminating=True, paths=paths
        )

    def install_keys(self) -> None:
        """Put the public halves of the top roles' present keys into root."""
        root = self.roles["root"].signed
        root.keys = {}
        for role in TOP:
            for signer in self.keys[role]:
                root.keys[signer.public_key.keyid] = signer.public_key
            ids = [signer.public_key.keyid for signer in self.keys[role]]
            root.roles[role] = Role(ids, self.thresholds.get(role, 1))

    def release(self, model: str, version: str, text: bytes = b"") -> str:
        """Sign a manifest and publish; returns its SHA-256."""
        data = text or f"manifest of {model} {version}".encode()
        path = manifest.target_path(model, version)
        role = manifest.role_name(model)
        self.roles[role].signed.targets[path] = TargetFile.from_data(path, data, ["sha256"])
        self.publish(role)
        return hashlib.sha256(data).hexdigest()

    def publish(self, *changed: str) -> dict[str, bytes]:
        """Sign the changed roles anew, then snapshot and timestamp; returns what is retained."""
        for role in (*changed, "snapshot", "timestamp"):
            signed = self.roles[role].signed
            signed.version += 1
            signed.expires = self._expiry(role)
            self.write(role)
        return dict(self.files)

    def rotate_root(
        self,
        *roles: str,
        signing: Signers | None = None,
        old: Signers | None = None,
    ) -> None:
        """Give ``roles`` new keys in a new root, signed by the old and new root keys."""
        old = old or self.keys["root"]
        for role in roles:
            self.keys[role] = signers(len(self.keys[role]))
        self.install_keys()
        root = self.roles["root"].signed
        root.version += 1
        root.expires = self._expiry("root")
        self.write("root", signing or [*old, *self.keys["root"]])

    def rotate_delegated(self, role: str) -> None:
        """Withdraw a release or director key in favour of a new one."""
        paths = self.roles["targets"].signed.delegations.roles[role].paths
        self.keys[role] = signers(len(self.keys[role]))
        self.delegate(role, paths)
        changed = [role] if role in self.roles else []
        self.publish("targets", *changed)

    def directive(self, device: str = "dev-1", **changes: Any) -> bytes:
        goal = Goal(model="digits", version="1.0.0", manifest="ab" * 32, manifest_bytes=100)
        fields: dict[str, Any] = {
            "device": device,
            "epoch": 1,
            "generation": 1,
            "issued": self.now,
            "expires": self.now + 30 * DAY_SECONDS,
            "slots": {"vision": Slot(champion=goal)},
        }
        return self.envelope(directives.encode(Directive(**(fields | changes))))

    def envelope(
        self,
        payload: bytes,
        payload_type: str = directives.PAYLOAD_TYPE,
        keys: Signers | None = None,
    ) -> bytes:
        envelope = Envelope(payload, payload_type, {})
        for signer in self.keys["director"] if keys is None else keys:
            envelope.sign(signer)
        return msgspec.json.encode(envelope.to_dict())

    # Every hand

    def write(self, role: str, signing: Signers | None = None) -> None:
        """Sign ``role`` as it stands and lay it at the broker; updates what names it."""
        metadata = self.roles[role]
        metadata.signed.unrecognized_fields[ISSUED_FIELD] = self.now
        data = self.signed(metadata, self.keys[role] if signing is None else signing)
        version = metadata.signed.version
        if role == "timestamp":
            self.files["timestamp.json"] = data
            return
        self.files[f"{version}.{role}.json"] = data
        if role == "snapshot":
            self.roles["timestamp"].signed.snapshot_meta = MetaFile(version)
        elif role != "root":
            snapshot = self.roles.get("snapshot")
            if snapshot is not None:
                snapshot.signed.meta[f"{role}.json"] = MetaFile(version)

    @staticmethod
    def signed(metadata: Metadata[Any], keys: Signers) -> bytes:
        made = copy.deepcopy(metadata)
        made.signatures.clear()
        for signer in keys:
            made.sign(signer, append=True)
        return made.to_bytes()

    def _expiry(self, role: str) -> dt.datetime:
        return moment(self.now + LIFE_DAYS.get(role, 365) * DAY_SECONDS)
