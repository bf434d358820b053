"""What the routes work with: the opened hub, its parts built from one configuration."""

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.x509 import load_pem_x509_certificate
from msgspec import UNSET, UnsetType

from muster_hub.access import capability
from muster_hub.audit import log
from muster_hub.errors import ConfigError
from muster_hub.heartbeats import Heartbeats
from muster_hub.identity.pki import SERVER_RENEW_SECONDS, Pki
from muster_hub.registry.check import WorkerCheck
from muster_hub.registry.release import PART as RELEASE_CHECK
from muster_hub.registry.release import Releases
from muster_hub.settings.config import HubConfig
from muster_hub.signing import model_signature
from muster_hub.signing.catalogue import Catalogue
from muster_hub.signing.catalogue_files import CatalogueFiles
from muster_hub.signing.directives import DirectiveSigner
from muster_hub.signing.keys import Keyring
from muster_hub.storage import disk, home, migrate
from muster_hub.storage.blobs import Blobs, Folder
from muster_hub.storage.bucket import Bucket
from muster_hub.storage.disk import Room
from muster_hub.storage.files import make_private_directory, write_durably
from muster_hub.storage.sealing import Sealing
from muster_hub.storage.store import Store
from muster_protocol.wire import contact
from muster_protocol.wire.contact import Contact

CAPABILITY_KEY = "capability.key"
CAPABILITY_KEY_BYTES = 32


@dataclass
class Hub:
    """An opened hub. ``changed`` wakes whoever acts on the database: engine, publisher, CRL."""

    config: HubConfig
    clock: Callable[[], float]
    store: Store
    pki: Pki
    keyring: Keyring
    catalogue: Catalogue
    directives: DirectiveSigner
    blobs: Blobs
    releases: Releases
    capability_key: bytes
    sealing: Sealing
    room: Callable[[], Room]
    heartbeats: Heartbeats = field(default_factory=Heartbeats)
    stopping: threading.Event = field(default_factory=threading.Event)
    process: str = ""
    """Names this process among several of the hub; empty where it is the only one."""
    _checks: bool = False
    _listeners: list[Callable[[], None]] = field(default_factory=list)
    _health: dict[str, Callable[[], dict[str, Any]]] = field(default_factory=dict)

    @classmethod
    def open(cls, config: HubConfig, clock: Callable[[], float]) -> "Hub":
        """Open what ``init`` made, with the database brought up to date. Raises ConfigError."""
        pki = Pki(config.ca)
        keyring = Keyring(config.keys)
        catalogue = Catalogue(config.tuf, keyring)
        sealing = Sealing(config.keys)
        store = Store(config.database_url, sealing)
        migrate.upgrade(store)
        if root := CatalogueFiles(config.tuf).digest("1.root.json"):  # what tells hubs apart
            home.claim(store, root)
        log.begin_keyed(store, sealing, clock())
        bucket = _bucket(config)
        blobs = _blobs(config, bucket)
        listeners: list[Callable[[], None]] = []
        room, heartbeats = disk.room_of(config.data), Heartbeats()
        releases = Releases(
            store,
            blobs,
            catalogue,
            WorkerCheck(config.check.wall_seconds, config.check.isolation),
            clock=clock,
            released=lambda: _call(listeners),
            two_people=config.governance.two_people,
            room=room,
            heartbeats=heartbeats,
            model_keys=tuple(_model_key(config.data / name) for name in config.check.model_public),
        )
        hub = cls(
            config=config,
            clock=clock,
            store=store,
            pki=pki,
            keyring=keyring,
            catalogue=catalogue,
            directives=DirectiveSigner(catalogue.director),
            blobs=blobs,
            releases=releases,
            capability_key=_capability_key(config.keys),
            sealing=sealing,
            room=room,
            heartbeats=heartbeats,
            _listeners=listeners,
        )
        if bucket is not None:
            hub._health["storage"] = lambda: {"ok": not bucket.trouble, "detail": bucket.trouble}
        return hub

    def start(self, *, checks: bool = True) -> None:
        """Begin to work in the background: release checks, where versions are pushed to."""
        self._checks = checks
        if checks:
            self.releases.start()
        else:
            self.heartbeats.forget(RELEASE_CHECK)

    def stop(self) -> None:
        """End event streams and the release check under way, then close the database."""
        self.stopping.set()
        if self._checks:
            self.releases.stop()
        self.store.close()

    def on_change(self, listener: Callable[[], None]) -> None:
        """Have ``listener`` called, from any thread, after every change; it must not block."""
        self._listeners.append(listener)

    def changed(self) -> None:
        """Wake whoever waits for changes: engine and event streams."""
        _call(self._listeners)

    def add_health(self, name: str, probe: Callable[[], dict[str, Any]]) -> None:
        """Show a part under ``GET /health``; ``probe`` answers ``{"ok": bool, …}`` at once."""
        self._health[name] = probe

    def health(self) -> dict[str, dict[str, Any]]:
        """How each part stands: what it says of itself, and whether it was heard of at all."""
        room = self.room()
        parts: dict[str, dict[str, Any]] = {
            name: {"ok": item.ok, "state": item.state, "detail": item.detail}
            for name, item in self.heartbeats.standings().items()
        }
        for name, probe in self._health.items():
            beat, said = parts.get(name, {}), probe()
            parts[name] = beat | said | {"ok": beat.get("ok", True) and said["ok"]}
            if beat.get("detail"):
                parts[name]["detail"] = beat["detail"]
        parts["disk"] = {"ok": room.state == "ok", "state": room.state, "detail": str(room)}
        return parts

    def chunk_token(self, device: str, expires: int) -> str:
        """A device's capability to fetch chunks over HTTP, for ``directive.Source.token``."""
        return capability.mint(self.capability_key, device, expires)

    def contact(self) -> Contact | UnsetType:
        """Where devices are sent, for directives; nowhere while targets don't say so, or name an
        authority that this hub doesn't have, or has only since it was started.
        """
        approved = self.catalogue.contact
        known = (authority.certificate_der for authority in self.pki.authorities)
        found = None if approved is None else contact.bring(approved, known)
        return UNSET if found is None else found

    def oidc_secret(self) -> str:
        """The hub's own secret at the issuer; empty where it has none. Raises ConfigError."""
        name = self.config.oidc.client_secret_file
        if not name:
            return ""
        try:
            return (self.config.data / name).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"oidc.client_secret_file: {error}") from None

    def server_certificate(self) -> tuple[Path, Path]:
        """Files with a fresh certificate and key (0600) for the API's listener."""
        pair = self.pki.issue_server(self.config.names, self.clock())
        directory = make_private_directory(self.config.keys / "http" / self.process)
        certificate, key = directory / "cert.pem", directory / "key.pem"
        write_durably(key, pair.key_pem, mode=0o600)
        write_durably(certificate, pair.certificate_pem)
        return certificate, key

    def server_certificate_ending(self) -> bool:
        """Whether the API's certificate on disk nears its end."""
        path = self.config.keys / "http" / self.process / "cert.pem"
        held = load_pem_x509_certificate(path.read_bytes())
        return held.not_valid_after_utc.timestamp() - self.clock() < SERVER_RENEW_SECONDS


def _model_key(path: Path) -> EllipticCurvePublicKey:
    try:
        return model_signature.read_public(path.read_bytes(), str(path))
    except OSError as error:
        raise ConfigError(f"[check] model_public: {path}: {error.strerror}") from None


def create_capability_key(keys: Path) -> None:
    """Make the key that signs devices' capabilities to fetch chunks."""
    write_durably(keys / CAPABILITY_KEY, secrets.token_bytes(CAPABILITY_KEY_BYTES), mode=0o600)


def _capability_key(keys: Path) -> bytes:
    """The key of chunk capabilities. A lost one is made anew: devices get new tokens soon."""
    path = keys / CAPABILITY_KEY
    if not path.exists():
        create_capability_key(keys)
    return path.read_bytes()


def _call(listeners: list[Callable[[], None]]) -> None:
    for listener in listeners:
        listener()


def _bucket(config: HubConfig) -> Bucket | None:
    if not config.storage.url:
        return None
    storage = config.storage
    return Bucket(storage.url, endpoint=storage.endpoint, cache_bytes=storage.cache_bytes)


def _blobs(config: HubConfig, bucket: Bucket | None) -> Blobs:
    """In the bucket; what the folder has from before there was one is read there still."""
    folder = Folder(config.blobs)
    return Blobs(folder) if bucket is None else Blobs(bucket, before=folder)
