"""Enrolment: from a token to an identity, a factory root and a configuration.

The token carries the fingerprint of the hub's CA, so the first contact needs no prior trust; the
factory root comes from the installer or is checked against its hash, never from the hub alone.
Nothing is written before everything has been checked, except the key: a reply that gets lost is
asked for again with the same key.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from muster_agent.base import config, proxy
from muster_agent.base.proxy import Proxies
from muster_agent.base.settings import ProxySettings
from muster_agent.identity import contact, identity
from muster_agent.identity.hardware_key import HardwareKeyError
from muster_agent.identity.hub_contact import (
    EnrolError,
    HubContact,
    HubReply,
    NotTaken,
    checked_root,
    has_fingerprint,
)
from muster_agent.storage.files import make_directory, write_durably
from muster_agent.trust.time import ClockReading, trusted_now
from muster_protocol.wire.chunks import sha256_hex
from muster_protocol.wire.contact import BrokerAddress
from muster_protocol.wire.errors import ProtocolError
from muster_protocol.wire.topics import check_device_id, check_sha256

__all__ = ["EnrolError", "Enrolment", "EnrolmentRequest", "enroll", "read_labels"]

TOKEN_CHARS_MAX = 512
LABELS_BYTES_MAX = 16 * 1024
"""More than as many labels take as a device may have."""
PROBE = "enrolling"
PROBE_BYTES = 64 * 1024
"""More than certificates, factory root and settings take together."""


@dataclass(frozen=True)
class EnrolmentRequest:
    """``directory`` is the agent's. One of ``root_file`` and ``root_sha256`` is needed, unless the
    installer has put the factory root in place already.
    """

    directory: Path
    hub_url: str
    token: str
    device: str | None = None
    root_file: Path | None = None
    root_sha256: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    """What this device says of itself; the token must leave that to it."""
    key_uri: str | None = None
    """Of a key in hardware, made there by the installer; None: a key file is made here."""
    proxy: ProxySettings | None = None
    """On the way to the hub; None: what agent.toml says, if there is one, else the environment."""
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What a device has once the hub has let it in."""

    device: str
    broker_host: str
    broker_port: int
    expires: int
    """Of the certificate, seconds since 1970."""


def enroll(request: EnrolmentRequest, reading: ClockReading) -> Enrolment:
    """Enrol this device; asking again with the same token is harmless. Raises EnrolError."""
    fingerprint = _fingerprint_of(request.token)
    if request.device is not None:
        _checked(check_device_id, request.device)
    now = trusted_now(reading)
    hub = HubContact(request.hub_url, now, _proxies(request))
    installed = _installed_root(request)
    ca_pem = hub.authority(fingerprint)
    root = installed or hub.factory_root(ca_pem, str(request.root_sha256))
    if request.key_uri is not None:
        _use_hardware(request.directory / "identity", request.key_uri)
    key_path = identity.key_path(request.directory / "identity")
    made = not key_path.exists()
    try:
        device = _ready_to_write(request)
        key = identity.make_key(key_path) if made else identity.read_key(key_path)
        asked = identity.request(key, device)
        reply = hub.enroll(ca_pem, request.token, asked, request.facts, request.labels)
        expires = _check_reply(reply, key, fingerprint, request)
        given: dict[str, config.Value] = {
            "device": reply.device,
            "hub.url": hub.url,
            "broker.host": reply.broker.host,
            "broker.port": reply.broker.port,
        }
        if request.proxy is not None:
            set_here = msgspec.structs.asdict(request.proxy).items()
            given |= {f"proxy.{name}": value for name, value in set_here if value}
        _write(request.directory, reply, root, given)
    except (identity.IdentityError, config.ConfigError) as error:
        raise EnrolError(str(error)) from None
    except NotTaken:
        if made:
            key_path.unlink(missing_ok=True)
        raise
    except OSError as error:
        raise EnrolError(f"can't write {request.directory}: {error.strerror or error}") from None
    return Enrolment(reply.device, reply.broker.host, reply.broker.port, expires)


def _proxies(request: EnrolmentRequest) -> Proxies:
    """Raises EnrolError for a proxy that is none, or is not the one of agent.toml."""
    settings = request.directory / config.FILE
    try:
        held = config.load(request.directory).settings.proxy if settings.exists() else None
    except config.ConfigError as error:
        raise EnrolError(str(error)) from None
    asked = request.proxy
    if asked is not None and (wrong := proxy.check(asked)) is not None:
        raise EnrolError(f"--proxy: {wrong[0]}: {wrong[1]}")
    if held is not None and asked is not None and held != asked:
        raise EnrolError(
            f"{settings} names another proxy than --proxy, or none: change [proxy] there, and "
            "enrol without --proxy"
        )
    return proxy.chosen(asked or held or ProxySettings(), request.directory, request.environment)


def read_labels(path: Path) -> dict[str, str]:
    """Labels from a file of ``key=value`` lines, ``#`` before a comment; raises EnrolError.

    What a label may be is for the hub to say.
    """
    with path.open("rb") as file:
        data = file.read(LABELS_BYTES_MAX + 1)
    if len(data) > LABELS_BYTES_MAX:
        raise EnrolError(f"{path} is larger than {LABELS_BYTES_MAX} bytes: is it the right file?")
    try:
        lines = data.decode().splitlines()
    except UnicodeDecodeError:
        raise EnrolError(f"{path} is no text in UTF-8") from None
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        key, equals, value = (part.strip() for part in line.partition("#")[0].partition("="))
        if not (key or equals):
            continue
        if not (key and value):
            raise EnrolError(f"{path}, line {number}: a label has the form key=value")
        if key in found:
            raise EnrolError(f"{path}, line {number}: {key} is there twice")
        found[key] = value
    return found


def _use_hardware(directory: Path, uri: str) -> None:
    if (directory / identity.KEY_FILE).exists():
        raise EnrolError(
            f"{directory / identity.KEY_FILE} exists: to use a key in hardware, enrol from an "
            "empty directory"
        )
    try:
        identity.use_hardware(directory, uri)
    except HardwareKeyError as error:
        raise EnrolError(f"--key-uri: {error}") from None
    except OSError as error:
        raise EnrolError(f"can't write {directory}: {error.strerror or error}") from None


def _fingerprint_of(token: str) -> str:
    """The CA fingerprint in a token ``<id>.<secret>.<SHA-256 of the CA's DER>``."""
    parts = token.strip().split(".")
    if len(token) > TOKEN_CHARS_MAX or len(parts) != 3 or not all(parts):
        raise EnrolError(
            "that is not an enrolment token: it has three parts joined by dots; copy it whole"
        )
    return _checked(check_sha256, parts[2], "the token is damaged, copy it whole: ")


def _checked(check: Callable[[str], str], value: str, prefix: str = "") -> str:
    try:
        return check(value)
    except ProtocolError as error:
        raise EnrolError(f"{prefix}{error}") from None


def _installed_root(request: EnrolmentRequest) -> bytes | None:
    """The factory root from the installer; None when the hub's is to be checked by hash."""
    path = request.directory / "trust" / "root.json"
    try:
        given = request.root_file.read_bytes() if request.root_file is not None else None
        held = path.read_bytes() if path.exists() else None
    except OSError as error:
        raise EnrolError(f"{error.filename}: {error.strerror}") from None
    root = held if given is None else given
    if held is not None and held != root:
        raise EnrolError(
            f"{path} is another factory root than --root {request.root_file}: a factory root is "
            "never replaced; a device for another hub starts from an empty directory"
        )
    if root is None:
        if request.root_sha256 is None:
            raise EnrolError(
                "no factory root: give --root FILE or --root-sha256 HASH from the installer or "
                "the release engineer; it must not come from the hub's word alone"
            )
        _checked(check_sha256, request.root_sha256, "--root-sha256: ")
        return None
    if request.root_sha256 is not None and sha256_hex(root) != request.root_sha256:
        raise EnrolError(f"{request.root_file or path} does not have the hash --root-sha256 names")
    return checked_root(root, str(request.root_file or path))


def _check_reply(
    reply: HubReply,
    key: identity.Key,
    fingerprint: str,
    request: EnrolmentRequest,
) -> int:
    """Check that the answer is for us, by the CA of the token; returns the expiry."""
    what = f"the certificate from {request.hub_url}"
    certificate = identity.read_certificate(reply.certificate_pem.encode(), what)
    try:
        authorities = x509.load_pem_x509_certificates(reply.ca_pem.encode())
    except ValueError as error:
        raise EnrolError(f"{what} came with a CA that can't be read: {error}") from None
    issuer = next(
        (authority for authority in authorities if has_fingerprint(authority, fingerprint)), None
    )
    if issuer is None:
        raise EnrolError(f"{what} came with other CAs than the token's")
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise EnrolError(f"{what} is not issued by the hub's CA: {error}") from None
    if not identity.certifies(certificate, key):
        raise EnrolError(f"{what} is for another key than this device's")
    if identity.common_name(certificate, what) != reply.device:
        raise EnrolError(f"{what} names another device than the answer, {reply.device}")
    if request.device is not None and request.device != reply.device:
        raise EnrolError(f"the hub calls this device {reply.device}, not {request.device}")
    return int(certificate.not_valid_after_utc.timestamp())


def _ready_to_write(request: EnrolmentRequest) -> str | None:
    """Find out what would stand in the way before the token is spent; the name to ask for.

    Raises EnrolError, ConfigError, OSError.
    """
    device = request.device
    settings = request.directory / config.FILE
    if settings.exists():
        held = config.load(request.directory)
        if device is not None and held.device != device:
            raise EnrolError(
                f"{settings} is for {held.device}, not {device}: remove it, or use another "
                "directory"
            )
        device = held.device
    for folder in (request.directory, request.directory / "identity", request.directory / "trust"):
        make_directory(folder, mode=0o700)
        probe = folder / PROBE
        write_durably(probe, bytes(PROBE_BYTES))
        probe.unlink()
    return device


def _write(directory: Path, reply: HubReply, root: bytes, given: dict[str, config.Value]) -> None:
    """Put everything in place; agent.toml, which makes the device enrolled, comes last."""
    settings = directory / config.FILE
    if settings.exists():
        held = config.load(directory)
        if held.device != reply.device:
            raise EnrolError(
                f"{settings} is for {held.device}, the hub says {reply.device}: remove it, or use "
                "another directory"
            )
    for name in ("identity", "trust"):
        make_directory(directory / name, mode=0o700)
    write_durably(directory / "trust" / "root.json", root)
    write_durably(directory / "identity" / identity.CA_FILE, reply.ca_pem.encode())
    write_durably(directory / "identity" / identity.CERT_FILE, reply.certificate_pem.encode())
    if settings.exists():
        address = BrokerAddress(reply.broker.host, reply.broker.port)
        contact.enrolled_again(directory / "identity", str(given["hub.url"]), address)
    else:
        contact.enrolled_first(directory / "identity")
        config.write(directory, given)
