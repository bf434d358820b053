"""A device's first contact with a hub: HTTPS before there is an identity.

The hub is known by its CA's fingerprint alone, and every answer is bounded in size and time.
"""

import base64
import hmac
import http.client
import ssl
import urllib.parse
from typing import Annotated, Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root

from muster_agent.base.proxy import DIRECT, Proxies
from muster_agent.identity import identity, tls
from muster_agent.identity.https import HttpsConnection
from muster_agent.trust.time import Instant
from muster_protocol.wire import limits
from muster_protocol.wire.chunks import sha256_hex
from muster_protocol.wire.errors import MusterError

API = "/api/v1"
TIMEOUT_SECONDS = 30.0
REPLY_BYTES_MAX = limits.TUF_METADATA_BYTES_MAX
HTTPS_PORT = 443


class EnrolError(MusterError):
    """Enrolment did not happen; one line says what was wrong and what to do."""


class NotTaken(EnrolError):
    """The hub has not taken this device's key, so one made for the attempt is removed again."""


class _Broker(msgspec.Struct):
    host: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]


class HubReply(msgspec.Struct):
    """The hub's answer to an enrolment or a renewal."""

    device: str
    certificate_pem: str
    ca_pem: str
    broker: _Broker


class _Problem(msgspec.Struct):
    detail: str = ""
    title: str = ""


class HubContact:
    """The hub's HTTPS, bounded in size and time."""

    def __init__(self, url: str, now: Instant, proxies: Proxies = DIRECT) -> None:
        """Raises EnrolError for what is no address of a hub."""
        self.url = url.rstrip("/")
        self._now = now
        self._proxies = proxies
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
        if not has_fingerprint(certificate, fingerprint):
            raise EnrolError(
                f"{self.url} is not the hub that issued this token: its CA has fingerprint "
                f"{_fingerprint(certificate)[:16]}…, the token says {fingerprint[:16]}…; "
                "check the address, or someone is in between"
            )
        # Nothing else of the answer: whoever is in between may have put their own CA beside it.
        return certificate.public_bytes(serialization.Encoding.PEM).decode()

    def factory_root(self, ca_pem: str, sha256: str) -> bytes:
        """The factory root from the hub, believed for its hash only."""
        root = self._ask("GET", "/root", tls.context(ca_pem))
        if not hmac.compare_digest(sha256_hex(root), sha256):
            raise EnrolError(
                f"{self.url} hands out another factory root (SHA-256 {sha256_hex(root)[:16]}…) "
                f"than --root-sha256 names ({sha256[:16]}…): don't enrol here before you know why"
            )
        return checked_root(root, f"the root of {self.url}")

    def enroll(
        self,
        ca_pem: str,
        token: str,
        csr_pem: str,
        facts: dict[str, Any],
        labels: dict[str, str],
    ) -> HubReply:
        """Exchange a token and a request for a certificate; raises EnrolError, NotTaken."""
        body: dict[str, Any] = {"token": token, "csr_pem": csr_pem, "facts": facts}
        if labels:  # An older hub doesn't know them.
            body["labels"] = labels
        data = self._ask("POST", "/enroll", tls.context(ca_pem), msgspec.json.encode(body))
        try:
            return msgspec.json.decode(data, type=HubReply)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise EnrolError(f"{self.url} gave an answer that makes no sense: {error}") from None

    def renew(self, ca_pem: str, certificate_pem: str, csr_pem: str, signature: bytes) -> str:
        """A new certificate against a proof of the old key; raises EnrolError."""
        body = {
            "certificate_pem": certificate_pem,
            "csr_pem": csr_pem,
            "signature": base64.b64encode(signature).decode(),
        }
        data = self._ask("POST", "/renew", tls.context(ca_pem), msgspec.json.encode(body))
        try:
            return msgspec.json.decode(data, type=HubReply).certificate_pem
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
        connection = HttpsConnection(
            self._host,
            self._port,
            context,
            self._proxies,
            (lambda: self._now) if verified else None,
            what=f"the hub {self.url}",
            connect_seconds=TIMEOUT_SECONDS,
            read_seconds=TIMEOUT_SECONDS,
        )
        try:
            self._connect(connection)
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

    def _connect(self, connection: HttpsConnection) -> None:
        try:
            connection.connect()
        except tls.TlsError as error:
            raise NotTaken(str(error)) from None
        except OSError as error:
            raise NotTaken(f"can't reach the hub at {self.url}: {_why(error)}") from None


def checked_root(root: bytes, what: str) -> bytes:
    """A factory root that is well formed and signed by itself; raises EnrolError."""
    try:
        if len(root) > limits.TUF_METADATA_BYTES_MAX:
            raise EnrolError(f"{what} is longer than a TUF root may be")
        parsed = Metadata[Root].from_bytes(root)
        parsed.verify_delegate(Root.type, parsed)
    except (RepositoryError, ValueError, TypeError) as error:
        raise EnrolError(f"{what} is not a TUF root: {error}") from None
    return root


def _fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()


def has_fingerprint(certificate: x509.Certificate, fingerprint: str) -> bool:
    """Whether a certificate is the one that a token names, compared in constant time."""
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
