"""The hub's settings: ``<data>/hub.toml``, every key optional, unknown keys refused."""

import ipaddress
import tomllib
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from muster_hub.errors import ConfigError
from muster_hub.settings.alerts import Alerts
from muster_hub.settings.database import sqlite_url
from muster_hub.settings.drift import DriftSettings
from muster_hub.settings.loop import LoopTerms
from muster_hub.settings.retention import Telemetry
from muster_hub.settings.roles import Role
from muster_hub.settings.traces import TraceSettings
from muster_protocol.wire import limits
from muster_protocol.wire.addresses import joined

Port = Annotated[int, Meta(ge=1, le=65535)]
FILE = "hub.toml"


class Http(Struct, frozen=True, forbid_unknown_fields=True):
    """Where the API listens, and the URL under which devices and operators reach it."""

    host: str = "127.0.0.1"
    port: Port = 8443
    url: str = ""
    """Default: ``https://<first of names>:<port>``."""
    upload_bytes_max: Annotated[int, Meta(gt=0, le=limits.BUNDLE_BYTES_MAX)] = 512 * limits.MIB
    reads_per_second: Annotated[float, Meta(gt=0)] = 100.0
    """For each token; four seconds' worth may come at once. Likewise below."""
    writes_per_second: Annotated[float, Meta(gt=0)] = 20.0
    strangers_per_second: Annotated[float, Meta(gt=0)] = 20.0
    """For each address: requests without a token, and refused ones."""
    metrics_networks: tuple[str, ...] = ()
    """Networks, such as ``10.1.0.0/16``, from which ``/metrics`` is answered without a token."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses and networks whose ``X-Forwarded-For`` is believed; without them, nobody's."""


class BrokerSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The MQTT broker: a child process, or an external one when ``url`` is set."""

    host: str = "127.0.0.1"
    port: Port = 8883
    url: str = ""
    """``mqtts://host:port`` of an external broker; empty: the hub runs Mosquitto itself."""
    public_host: str = ""
    """The host name devices are told; default: that of ``url``, or the first of ``names``."""
    public_port: Port | None = None
    """The port devices are told; default: that of ``url``, or ``port``."""
    reload: tuple[str, ...] = ()
    """Command that has an external broker read ``broker/crl.pem`` again."""


class StorageSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Where manifests and chunks are kept."""

    url: Annotated[str, Meta(pattern=r"^(s3://[^/?#]+(/[^?#]*)?)?\Z")] = ""
    """``s3://bucket/prefix``; empty: ``<data>/blobs``."""
    endpoint: Annotated[str, Meta(pattern=r"^(https?://[!-~]+)?\Z")] = ""
    """Of a bucket that isn't AWS's."""
    public_url: Annotated[str, Meta(pattern=r"^(https?://[!-~]+)?\Z", max_length=512)] = ""
    """Where devices get what is in the bucket, each chunk by its hash, before they ask the hub."""
    cache_bytes: Annotated[int, Meta(ge=0, le=64 * 1024 * limits.MIB)] = 256 * limits.MIB
    """Of memory, for what was read from the bucket lately."""


class DirectiveSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """What every directive says besides its slots."""

    window_seconds: Annotated[
        float, Meta(ge=limits.WINDOW_SECONDS_MIN, le=limits.WINDOW_SECONDS_MAX)
    ] = 300.0
    valid_seconds: Annotated[int, Meta(ge=3600)] = 30 * 86_400
    keep_crash_input: bool = False
    """Devices keep, on their own disk, the last input of a model that crashed."""


class CheckSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds on the sandboxed check of a pushed version."""

    wall_seconds: Annotated[float, Meta(gt=0, le=3600)] = 120.0
    isolation: Literal["auto", "required"] = "auto"
    """``required``: check no version where the kernel can't isolate the process that loads it."""
    model_public: tuple[str, ...] = ()
    """Public keys, as files relative to the hub's directory. Then every version must come with a
    ``model.sig`` by one of them."""


class Governance(Struct, frozen=True, forbid_unknown_fields=True):
    """How many people a change needs."""

    two_people: bool = False
    """What one asks for another approves: signing a version, starting a rollout, its waves."""


class Oidc(Struct, frozen=True, forbid_unknown_fields=True):
    """Whose logins are believed; an empty ``issuer`` believes nobody's."""

    issuer: str = ""
    """Exactly as the issuer's own discovery document has it."""
    audience: str = "muster"
    """What a token must be made for."""
    client_id: str = "muster"
    """Under which `muster login` and the console are known to the issuer."""
    client_secret_file: str = ""
    """The client's secret, where the issuer gave it one: a file, relative to the hub's directory.
    """
    scopes: tuple[str, ...] = ("openid", "email", "profile")
    """What the console asks the issuer for; some give groups under a scope of their own."""
    name_claim: str = "email"
    groups_claim: str = "groups"
    groups: dict[str, Role] = {}
    """The role of a group's members, who need no entry of their own. The first that fits."""


class HubConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``hub.toml`` with its defaults, and where the hub's files lie."""

    data: Path = Path()
    """Set by ``load``; not a key of the file."""
    names: Annotated[tuple[str, ...], Meta(min_length=1, max_length=32)] = (
        "localhost",
        "127.0.0.1",
    )
    """Host names and addresses in the hub's server certificates."""
    database: str = ""
    """``postgresql://…``; empty: ``<data>/hub.db``."""
    http: Http = Http()
    broker: BrokerSettings = BrokerSettings()
    storage: StorageSettings = StorageSettings()
    directives: DirectiveSettings = DirectiveSettings()
    check: CheckSettings = CheckSettings()
    governance: Governance = Governance()
    oidc: Oidc = Oidc()
    alerts: Alerts = Alerts()
    drift: DriftSettings = DriftSettings()
    loops: Annotated[tuple[LoopTerms, ...], Meta(max_length=64)] = ()
    """For which models drift leads to retraining, as ``[[loops]]`` entries; see loop.md."""
    telemetry: Telemetry = Telemetry()
    traces: TraceSettings = TraceSettings()

    @property
    def database_url(self) -> str:
        """SQLAlchemy's URL of the database."""
        return self.database or sqlite_url(self.data / "hub.db")

    @property
    def url(self) -> str:
        """Where devices and operators reach the API."""
        return self.http.url.rstrip("/") or f"https://{joined(self.names[0], self.http.port)}"

    @property
    def broker_public(self) -> tuple[str, int]:
        """Host and port that an enrolling device is told."""
        external = urlsplit(self.broker.url)
        host = self.broker.public_host or external.hostname or self.names[0]
        return host, self.broker.public_port or external.port or self.broker.port

    @property
    def tuf(self) -> Path:
        """The published catalogue."""
        return self.data / "tuf"

    @property
    def keys(self) -> Path:
        """The online keys."""
        return self.data / "keys"

    @property
    def ca(self) -> Path:
        """The certificate authority."""
        return self.data / "keys" / "ca"

    @property
    def blobs(self) -> Path:
        """Manifests and chunks, by hash."""
        return self.data / "blobs"

    @property
    def broker_directory(self) -> Path:
        """What the managed broker reads and writes."""
        return self.data / "broker"


def load(data: Path) -> HubConfig:
    """Read ``<data>/hub.toml``; raises ConfigError naming the file and the key at fault."""
    path = data / FILE
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(
            f"{path} is missing: run `muster-hub init --data {data}` first, "
            "or name the hub's directory with --data"
        ) from None
    settings: dict[str, object] = {}
    try:
        settings = tomllib.loads(text.decode())
        config = msgspec.convert(settings, HubConfig)
        _check_storage(config.storage)
        _check_networks(config.http.trusted_proxies)
    except ValueError as error:  # of reading, of the TOML, of a setting
        says = "'data' is where the file lies, not a setting" if "data" in settings else error
        raise ConfigError(f"{path}: {says}") from None
    return msgspec.structs.replace(config, data=data.resolve())


def _check_storage(storage: StorageSettings) -> None:
    """Raise ValueError for what has no bucket to be of."""
    if not storage.url and (storage.endpoint or storage.public_url):
        raise ValueError("storage: endpoint and public_url are those of a bucket: set storage.url")


def _check_networks(networks: tuple[str, ...]) -> None:
    """Raise ValueError naming the first that is none."""
    for text in networks:
        try:
            ipaddress.ip_network(text)
        except ValueError as error:
            raise ValueError(f"http.trusted_proxies: {error}") from None


def template(names: tuple[str, ...], http: Http, broker: BrokerSettings, database: str) -> str:
    """The text of a new hub.toml."""
    listed = ", ".join(_quote(name) for name in names)
    return f"""\
# Muster hub. Every key is optional; docs/hub.md lists them all.

# Host names and addresses in the server certificates of the API and the broker.
names = [{listed}]

# A PostgreSQL URL (postgresql://user@host/name); empty means hub.db in this directory.
database = {_quote(database)}

[http]
host = {_quote(http.host)}
port = {http.port}

[broker]
host = {_quote(broker.host)}
port = {broker.port}
# mqtts://host:port of a broker you run yourself; empty means the hub runs Mosquitto.
url = {_quote(broker.url)}

[directives]
window_seconds = {DirectiveSettings().window_seconds}
"""


def _quote(text: str) -> str:
    return msgspec.json.encode(text).decode()
