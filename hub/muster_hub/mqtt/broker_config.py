"""What the managed Mosquitto is told: configuration, access rules, the hub's own password. Pure.

Two listeners. Devices come over TLS with a client certificate whose common name is user name and
client id at once, so that a certificate can neither write another device's topics nor take over
its connection. The hub itself comes over a Unix socket in the broker's own directory with a
password made anew at every start; it may take any client id, which is how it ends a connection.
"""

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path

from muster_protocol.wire import limits, topics

HUB_USER = "_hub"
"""No device id may start with an underscore, so no certificate can claim this name."""
PROBE_USER = "_hub-probe"
INGESTS_MAX = 8
"""Processes that take in what devices say; each connects under a name of its own."""
INGEST_USERS = ("_hub-ingest", *(f"_hub-ingest-{number}" for number in range(2, INGESTS_MAX + 1)))
HUB_USERS = (HUB_USER, "_hub-publish", *INGEST_USERS, PROBE_USER)
"""At a broker that takes a certificate's name for user and client id, each connection has one."""

CA_FILE, CERTIFICATE_FILE, KEY_FILE, CRL_FILE = "ca.pem", "server.pem", "server.key", "crl.pem"
"""In the broker's directory."""

PACKET_BYTES_MAX = limits.TUF_METADATA_BYTES_MAX + 4 * limits.KIB
QUEUED_MESSAGES_MAX = 100_000
QUEUED_BYTES_MAX = 128 * limits.MIB
"""Per client. At Mosquitto's default of 1,000 messages the hub lost 37,000 of 40,000."""
IN_FLIGHT_MESSAGES_MAX = 1_000
AUTOSAVE_SECONDS = 300
SESSION_EXPIRY = "14d"
PASSWORD_ITERATIONS = 101
"""Mosquitto's own default; the password is 32 random bytes, so stretching adds nothing."""


@dataclass(frozen=True, kw_only=True)
class BrokerConfig:
    """Where the broker listens and what it shows; paths are absolute."""

    directory: Path
    host: str
    port: int
    ca: Path
    certificate: Path
    key: Path
    crl: Path | None = None
    run_as: str | None = None
    """User to stay when started as root; Mosquitto would otherwise leave for its own user."""
    memory_bytes_max: int | None = None
    """A device that subscribes to everything and reads nothing costs the broker all it retains,
    whatever the other limits say; beyond this such a device is cut off, not the broker."""

    @property
    def admin_socket(self) -> Path:
        """Where the hub itself reaches the broker, past the devices' listener."""
        return self.directory / "admin.sock"


def config_text(config: BrokerConfig) -> str:
    """``mosquitto.conf``; raises ValueError for a path that the file format can't hold."""
    directory = _path(config.directory)
    lines = [
        "per_listener_settings false",
        "allow_anonymous false",
        f"acl_file {directory}/acl",
        f"password_file {directory}/passwords",
        "log_dest stderr",
        "log_type error",
        "log_type warning",
        "log_type notice",
        "connection_messages true",
        "log_timestamp_format %Y-%m-%dT%H:%M:%S",
        "persistence true",
        f"persistence_location {directory}/",
        f"autosave_interval {AUTOSAVE_SECONDS}",
        f"persistent_client_expiration {SESSION_EXPIRY}",
        f"max_queued_messages {QUEUED_MESSAGES_MAX}",
        f"max_queued_bytes {QUEUED_BYTES_MAX}",
        f"max_inflight_messages {IN_FLIGHT_MESSAGES_MAX}",
        f"max_packet_size {PACKET_BYTES_MAX}",
        f"message_size_limit {limits.TUF_METADATA_BYTES_MAX}",
        "max_keepalive 600",
        "set_tcp_nodelay true",
    ]
    if config.memory_bytes_max is not None:
        lines.append(f"memory_limit {config.memory_bytes_max}")
    if config.run_as is not None:
        lines.append(f"user {config.run_as}")
    lines += [
        "",
        f"listener {config.port} {config.host}",
        f"cafile {_path(config.ca)}",
        f"certfile {_path(config.certificate)}",
        f"keyfile {_path(config.key)}",
        "tls_version tlsv1.2",
        "require_certificate true",
        "use_identity_as_username true",
        "use_username_as_clientid true",
    ]
    if config.crl is not None:
        lines.append(f"crlfile {_path(config.crl)}")
    lines += ["", f"listener 0 {_path(config.admin_socket)}", ""]
    return "\n".join(lines)


def acl_text() -> str:
    """The access rules: the hub everything of ours, a device its own topics and what is shared."""
    lines = []
    for user in HUB_USERS:
        lines += [f"user {user}", f"topic readwrite {topics.ROOT}/#", ""]
    lines += [f"pattern write {topics.ROOT}/up/%u/{leaf}" for leaf in topics.UP_LEAVES]
    lines += [f"pattern read {topics.ROOT}/down/%u/{leaf}" for leaf in topics.DOWN_LEAVES]
    lines += [f"pattern read {topics.ROOT}/tuf/+", f"pattern read {topics.ROOT}/chunk/+", ""]
    return "\n".join(lines)


def password_text(user: str, password: str, salt: bytes) -> str:
    """One line of Mosquitto's password file: PBKDF2-HMAC-SHA512, its hash type 7."""
    key = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, PASSWORD_ITERATIONS, 64)
    parts = (str(PASSWORD_ITERATIONS), _base64(salt), _base64(key))
    return f"{user}:$7${'$'.join(parts)}\n"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _path(path: Path) -> str:
    text = str(path)
    if "\n" in text or text != text.strip():
        raise ValueError(f"the broker's configuration can't hold the path {text!r}")
    return text
