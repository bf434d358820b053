"""Enrolment: from a token to an identity, a factory root and a configuration.

The token carries the fingerprint of the hub's CA, so the first contact needs no prior trust; the
factory root comes from the installer or is checked against its hash, never from the hub alone.
Nothing is written before everything has been checked, except the key: a reply that gets lost is
asked for again with the same key.
"""

import hmac
import http.client
import ssl
import urllib.parse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root

from muster_agent import config, identity, tls
from muster_agent.files import make_directory, write_durably
from muster_agent.trusted_time import Instant, Reading, trusted_now
from muster_protocol import limits
from muster_protocol.chunks import sha256_hex
from muster_protocol.errors import MusterError, ProtocolError
from muster_protocol.topics import check_device_id, check_sha256

API = "/api/v1"
TIMEOUT_SECONDS = 30.0
REPLY_BYTES_MAX = limits.TUF_METADATA_BYTES_MAX
TOKEN_CHARS_MAX = 512
HTTPS_PORT = 443


class EnrolError(MusterError):
    """Enrolment did not happen; one line says what was wrong and what to do."""


class NotTaken(EnrolError):
    """The hub has not taken this device's key, so one made for the attempt is removed again."""


@dataclass(frozen=True)
class Request:
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


@dataclass(frozen=True, slots=True)
class Enrolment:
    device: str
    broker_host: str
    broker_port: int
    expires: int
    """Of the certificate, seconds since 1970."""


class _Broker(msgspec.Struct):
    host: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]


class _Reply(msgspec.Struct):
    device: str
    certificate_pem: str
    ca_pem: str
    broker: _Broker


class _Problem(msgspec.Struct):
    detail: str = ""
    title: str = ""


def enroll(request: Request, reading: Reading) -> Enrolment:
    """Enrol this device; asking again with the same token is harmless. Raises EnrolError."""
    fingerprint = _fingerprint_of(request.token)
    if request.device is not None:
        _checked(check_device_id, request.device)
    now = trusted_now(reading)
    hub = _Hub(request.hub_url, now)
    installed = _installed_root(request)
    ca_pem = hub.authority(fingerprint)
    root = installed or hub.factory_root(ca_pem, str(request.root_sha256))
    key_path = request.directory / "identity" / identity.KEY_FILE
    made = not key_path.exists()
    try:
        key = identity.make_key(key_path) if made else identity.read_key(key_path)
        reply = hub.enroll(ca_pem, request, identity.request(key, request.device))
        expires = _check_reply(reply, key, fingerprint, request)
        given: dict[str, str | int | float] = {
            "device": reply.device,
            "hub.url": hub.url,
            "broker.host": reply.broker.host,
            "broker.port": reply.broker.port,
        }
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


class _Hub:
    """The hub's HTTPS, bounded in size and time."""

    def __init__(self, url: str, now: Instant) -> None:
        self.url = url.rstrip("/")
        self._now = now
        parts = urllib.parse.urlsplit(self.url)
        try:
            port = parts.port
        except ValueError:
            port = 0
        if parts.scheme != "https" or not parts.hostname or port == 0 or parts.path:
            raise EnrolError(f"hub address {url!r}: use https://host or https://host:port")
        self._host = parts.hostname
        self._port = port or HTTPS_PORT

    def authority(self, fingerprint: str) -> str:
        """The hub's CA, fetched from a peer nobody vouches for and checked by fingerprint."""
        blind = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        blind.check_hostname = False
        blind.verify_mode = ssl.CERT_NONE
        pem = self._ask("GET", "/ca", blind, verified=False)
        try:
            certificate = identity.read_certificate(pem, f"the CA that {self.url} offers")
        except identity.IdentityError as error:
            raise EnrolError(str(error)) from None
        if not _is(certificate, fingerprint):
            raise EnrolError(
                f"{self.url} is not the hub that issued this token: its CA has fingerprint "
                f"{_fingerprint(certificate)[:16]}…, the token says {fingerprint[:16]}…; "
                "check the address, or someone is in between"
            )
        return pem.decode()

    def factory_root(self, ca_pem: str, sha256: str) -> bytes:
        """The factory root from the hub, believed for its hash only."""
        root = self._ask("GET", "/root", tls.context(ca_pem))
        if not hmac.compare_digest(sha256_hex(root), sha256):
            raise EnrolError(
                f"{self.url} hands out another factory root (SHA-256 {sha256_hex(root)[:16]}…) "
                f"than --root-sha256 names ({sha256[:16]}…): don't enrol here before you know why"
            )
        return _checked_root(root, f"the root of {self.url}")

    def enroll(self, ca_pem: str, request: Request, csr_pem: str) -> _Reply:
        body = {"token": request.token, "csr_pem": csr_pem, "facts": request.facts}
        data = self._ask("POST", "/enroll", tls.context(ca_pem), msgspec.json.encode(body))
        try:
            return msgspec.json.decode(data, type=_Reply)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise EnrolError(f"{self.url} gave an answer that makes no sense: {error}") from None

    def _ask(
        self,
        method: str,
        path: str,
        context: ssl.SSLContext,
        body: bytes | None = None,
        *,
        verified: bool = True,
    ) -> bytes:
        connection = http.client.HTTPSConnection(
            self._host, self._port, timeout=TIMEOUT_SECONDS, context=context
        )
        try:
            self._connect(connection, context, verified=verified)
            headers = {"Accept": "*/*", "Content-Type": "application/json"}
            connection.request(method, API + path, body, headers)
            response = connection.getresponse()
            data = response.read(REPLY_BYTES_MAX + 1)
        except (OSError, http.client.HTTPException) as error:
            raise EnrolError(
                f"{self.url} did not answer {method} {API}{path}: {_why(error)}; try again, "
                "nothing is lost"
            ) from None
        finally:
            connection.close()
        if len(data) > REPLY_BYTES_MAX:
            raise EnrolError(
                f"{self.url}{API}{path} answers with more than {REPLY_BYTES_MAX} bytes"
            )
        if response.status >= 300:
            refused = NotTaken if 400 <= response.status < 500 else EnrolError
            raise refused(
                f"{self.url} refused {method} {API}{path}: {_reason(data, response.status)}"
            )
        return data

    def _connect(
        self, connection: http.client.HTTPSConnection, context: ssl.SSLContext, *, verified: bool
    ) -> None:
        try:
            connection.connect()
            if verified:
                tls.check_peer(connection.sock, context, self._now, f"the hub {self.url}")
        except tls.TlsError as error:
            raise NotTaken(str(error)) from None
        except ssl.SSLError as error:
            raise NotTaken(tls.explain(error, self.url)) from None
        except OSError as error:
            raise NotTaken(f"can't reach the hub at {self.url}: {_why(error)}") from None


def _fingerprint_of(token: str) -> str:
    """The CA fingerprint in a token ``<id>.<secret>.<SHA-256 of the CA's DER>``."""
    parts = token.strip().split(".")
    if len(token) > TOKEN_CHARS_MAX or len(parts) != 3 or not all(parts):
        raise EnrolError(
            "that is not an enrolment token: it has three parts joined by dots; copy it whole"
        )
    return _checked(check_sha256, parts[2], "the token is damaged, copy it whole: ")


def _checked(check: Any, value: str, prefix: str = "") -> str:
    try:
        return str(check(value))
    except ProtocolError as error:
        raise EnrolError(f"{prefix}{error}") from None


def _installed_root(request: Request) -> bytes | None:
    """The factory root from the installer; None when the hub's is to be checked by hash."""
    path = request.directory / "trust" / "root.json"
    given = None
    if request.root_file is not None:
        try:
            given = request.root_file.read_bytes()
        except OSError as error:
            raise EnrolError(f"--root {request.root_file}: {error.strerror}") from None
    held = path.read_bytes() if path.exists() else None
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
    return _checked_root(root, str(request.root_file or path))


def _checked_root(root: bytes, what: str) -> bytes:
    try:
        if len(root) > limits.TUF_METADATA_BYTES_MAX:
            raise EnrolError(f"{what} is longer than a TUF root may be")
        parsed = Metadata[Root].from_bytes(root)
        parsed.verify_delegate(Root.type, parsed)
    except (RepositoryError, ValueError, TypeError) as error:
        raise EnrolError(f"{what} is not a TUF root: {error}") from None
    return root


def _check_reply(
    reply: _Reply,
    key: Any,
    fingerprint: str,
    request: Request,
) -> int:
    """Check that the answer is for us, by the CA of the token; returns the expiry."""
    what = f"the certificate from {request.hub_url}"
    certificate = identity.read_certificate(reply.certificate_pem.encode(), what)
    try:
        authorities = x509.load_pem_x509_certificates(reply.ca_pem.encode())
    except ValueError as error:
        raise EnrolError(f"{what} came with a CA that can't be read: {error}") from None
    issuer = next((one for one in authorities if _is(one, fingerprint)), None)
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


def _write(
    directory: Path, reply: _Reply, root: bytes, given: dict[str, str | int | float]
) -> None:
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
    if not settings.exists():
        config.write(directory, given)


def _fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()


def _is(certificate: x509.Certificate, fingerprint: str) -> bool:
    return hmac.compare_digest(_fingerprint(certificate), fingerprint)


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _reason(data: bytes, status: int) -> str:
    """One line from a problem document, or the bare status."""
    try:
        problem = msgspec.json.decode(data, type=_Problem)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        problem = _Problem()
    said = " ".join((problem.detail or problem.title).split())[:300]
    return said or f"HTTP {status}"
