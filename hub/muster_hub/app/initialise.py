"""Making a new hub: keys, authority, catalogue, database and the first operator's profile."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
from securesystemslib.signer import SSlibKey

from muster_hub.access.governance import make_token
from muster_hub.api.hub import create_capability_key
from muster_hub.audit import log
from muster_hub.errors import ConfigError
from muster_hub.identity import pki
from muster_hub.settings import config
from muster_hub.settings.config import BrokerSettings, Http, HubConfig
from muster_hub.signing.catalogue import Catalogue
from muster_hub.signing.keys import KeyGroup, Role, create_keyring
from muster_hub.storage import migrate
from muster_hub.storage.files import is_free, whole_directory, write_durably
from muster_hub.storage.sealing import Sealing
from muster_hub.storage.store import Store

OPERATOR_FILE = "operator.toml"
CA_FILE = "ca.pem"


@dataclass(frozen=True)
class NewHub:
    """What a new hub shall be. ``offline_public`` None makes every key on this machine."""

    names: tuple[str, ...]
    http: Http
    broker: BrokerSettings
    database: str = ""
    offline_public: Mapping[Role, SSlibKey | KeyGroup] | None = None
    authority: tuple[bytes, bytes] | None = None
    """Chain and key, in PEM, of a certificate authority from elsewhere; None: one is made."""


def initialise(data: Path, wanted: NewHub) -> HubConfig:
    """Make a hub in ``data``, which must be missing or empty.

    It is there whole or not at all: an interrupted init leaves no half a hub. Raises ConfigError.
    """
    data = data.resolve()
    if not is_free(data):
        raise ConfigError(f"{data} is not empty: a hub is made in a new directory")
    try:
        with whole_directory(data, last=config.FILE) as building:
            _build(building, wanted)
    except OSError as error:
        raise ConfigError(f"{data}: {error.strerror or error}") from None
    return config.load(data)


def _build(directory: Path, wanted: NewHub) -> None:
    now = time.time()
    keyring = create_keyring(directory / "keys", wanted.offline_public)
    create_capability_key(directory / "keys")
    place = directory / "keys" / "ca"
    authority = (
        pki.create(place, f"Muster hub {wanted.names[0]}", now)
        if wanted.authority is None
        else pki.adopt(place, *wanted.authority, now)
    )
    write_durably(directory / CA_FILE, authority.ca_pem)
    Catalogue(directory / "tuf", keyring).create(now)
    text = config.template(wanted.names, wanted.http, wanted.broker, wanted.database)
    write_durably(directory / config.FILE, text.encode())
    settings = config.load(directory)
    token = _database(settings, now)
    profile = {
        "hub": settings.url,
        "token": token,
        "ca": CA_FILE,
        # For copies of this file: beside them there is no other.
        "ca_pem": authority.ca_pem.decode(),
    }
    lines = [f"{key} = {msgspec.json.encode(value).decode()}\n" for key, value in profile.items()]
    write_durably(directory / OPERATOR_FILE, "".join(lines).encode(), mode=0o600)


def _database(settings: HubConfig, now: float) -> str:
    """Make the tables; returns the first operator's token."""
    sealing = Sealing(settings.keys)
    store = Store(settings.database_url, sealing)
    try:
        migrate.upgrade(store)
        with store.write() as session:
            token = make_token(session, "first-admin", "admin", now)
            log.append(session, actor="hub", action="hub.init", subject=settings.url, now=now)
        log.begin_keyed(store, sealing, now)
    finally:
        store.close()
    return token
