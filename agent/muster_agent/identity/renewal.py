"""Keeping the device's certificate fresh: when to ask, what to believe, when to switch.

A new key and certificate are laid beside the old ones as ``.new``; the link tries them in one
connection, and only what the broker let in becomes the identity. Until then, and whenever that
fails, the old identity stays. The hub's answer comes over the broker, or over HTTPS against a proof
of the old key when the broker no longer lets this device in.
"""

import logging
import random
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from muster_agent.base.proxy import DIRECT, Proxies
from muster_agent.identity import identity, tls
from muster_agent.identity.contact import Contacts
from muster_agent.identity.hub_contact import EnrolError, HubContact
from muster_agent.identity.identity import Identity, IdentityError
from muster_agent.storage.files import write_durably
from muster_agent.trust.time import Instant
from muster_protocol.wire import topics
from muster_protocol.wire.errors import MusterError
from muster_protocol.wire.renewal import PEM_BYTES_MAX, proof_of

DUE_SHARE = (0.60, 0.70)
"""Of its validity, after which a certificate is renewed: at a share drawn for each device."""
ASK_SECONDS = 3600.0
"""Between two questions; jittered by a quarter."""
SPREAD_SECONDS = 10.0
"""Within which the devices that hear of a new authority ask for its certificates."""
SHUT_OUT_ATTEMPTS = 4
"""Connections refused in a row before the hub is asked over HTTPS: the clock may not know that the
certificate has expired."""

_log = logging.getLogger(__name__)


class AsksHub(Protocol):
    """The hub's HTTPS at one address, as far as a renewal needs it."""

    def renew(self, ca_pem: str, certificate_pem: str, csr_pem: str, signature: bytes) -> str:
        """A new certificate against a proof of the old key; raises EnrolError."""
        ...


class Renewal:
    """Driven by the link's thread. Times are monotonic seconds, ``instant`` is trusted time."""

    def __init__(
        self,
        directory: Path,
        contacts: Contacts,
        instant: Callable[[], Instant],
        rng: random.Random,
        proxies: Proxies = DIRECT,
        reach: Callable[[str, Instant, Proxies], AsksHub] = HubContact,
    ) -> None:
        """``directory`` is the identity's; ``reach`` makes contact with the hub at a URL. Raises
        IdentityError.
        """
        self._reach = reach
        self._proxies = proxies
        self._directory = directory
        self._contacts = contacts
        self._instant = instant
        self._rng = rng
        self._share = rng.uniform(*DUE_SHARE)
        self._ask_at = float("-inf")
        self._https_at = float("-inf")
        self._refused = 0
        self._ready = False
        self._trying = False
        self._judged: tuple[object, ...] = ()
        self._superseded = False
        self.who: Identity = identity.load(directory)

    @property
    def topic(self) -> str:
        """Where the answer comes."""
        return topics.down(self.who.device, "cert")

    def begin(self) -> tuple[Path, Path]:
        """A connection begins: the key and certificate to show in it."""
        self._trying, self._ready = self._ready, False
        if self._trying:
            return self._next_key(), self._directory / identity.NEXT_CERT
        return self.who.key, self.who.cert

    @property
    def ready(self) -> bool:
        """A new identity waits to be tried: end the connection."""
        return self._ready

    def question(self, now: float) -> tuple[str, bytes] | None:
        """Topic and request to publish, when it is time to ask."""
        self._judge(now)
        if self._ready or now < self._ask_at or not (self._superseded or self._due()):
            return None
        try:
            request = self._request()
        except (OSError, IdentityError) as error:
            _log.warning("can't prepare a new identity: %s", error)
            request = ""
        self._ask_at = now + ASK_SECONDS * self._rng.uniform(0.75, 1.25)
        return (topics.up(self.who.device, "csr"), request.encode()) if request else None

    def answered(self, pem: bytes) -> None:
        """A certificate came. One that is not for our new key, from our CA, is ignored."""
        try:
            self._take(pem)
        except (OSError, MusterError) as error:
            _log.warning("ignored a certificate: %s", error)

    def connected(self) -> None:
        """The broker let us in; a new identity that it accepted is the identity from now on."""
        self._refused = 0
        if not self._trying:
            return
        self._trying = False
        try:
            identity.promote(self._directory)
            self.who = identity.load(self._directory)
            self._judged = ()
        except (OSError, IdentityError) as error:
            _log.warning("can't put the new identity in place: %s", error)
        else:
            _log.info("the certificate was renewed")

    def failed(self, reason: str, now: float) -> None:
        """A connection did not come about: go back to the old identity, or ask over HTTPS."""
        if self._trying:
            _log.warning("the new certificate was not accepted, the old one stays: %s", reason)
            self._trying = False
            (self._directory / identity.NEXT_CERT).unlink(missing_ok=True)
            return
        self._refused += 1
        shut_out = self._refused >= SHUT_OUT_ATTEMPTS or self._instant().past(self.who.expires)
        if shut_out and now >= self._https_at:
            self._https_at = now + ASK_SECONDS * self._rng.uniform(0.75, 1.25)
            self._by_https()

    def _due(self) -> bool:
        """Whether this device's share of the certificate's validity is certainly behind us."""
        life = self.who.expires - self.who.issued
        return self._instant().past(int(self.who.issued + self._share * life))

    def _judge(self, now: float) -> None:
        """Find out, when either has changed, whether another authority than ours issues now."""
        state = (self._contacts.authorities, self.who.expires, self.who.issued)
        if state == self._judged:
            return
        self._judged = state
        try:
            held = identity.read_certificate(self.who.cert.read_bytes(), str(self.who.cert))
            newest = x509.load_pem_x509_certificates(self.who.ca.read_bytes())[0]
        except (OSError, ValueError, IdentityError) as error:
            _log.warning("can't tell who issues certificates: %s", error)
            return
        before, self._superseded = self._superseded, not _issued_by(held, newest)
        if self._superseded and not before:
            self._ask_at = now + self._rng.uniform(0, SPREAD_SECONDS)

    def _request(self) -> str:
        """A request for the new key, made once and kept until it is used; a key in hardware stays,
        and asks for another certificate.
        """
        path = self._next_key()
        key = identity.read_key(path) if path.exists() else identity.make_key(path)
        return identity.request(key, self.who.device)

    def _next_key(self) -> Path:
        hardware = identity.in_hardware(self._directory)
        return self.who.key if hardware else self._directory / identity.NEXT_KEY

    def _by_https(self) -> None:
        """Ask the hub at one address after the other, until one answers with a certificate."""
        for url in self._contacts.hubs():
            try:
                request = self._request()
                old = identity.read_key(self.who.key)
                signature = old.sign(proof_of(request))
                hub = self._reach(url, self._instant(), self._proxies)
                certificate = hub.renew(
                    self.who.ca.read_text(), self.who.cert.read_text(), request, signature
                )
                self._take(certificate.encode())
            except EnrolError as error:
                _log.info("not renewed over HTTPS: %s", error)
            except (OSError, MusterError) as error:
                _log.warning("not renewed over HTTPS: %s", error)
            else:
                return

    def _take(self, pem: bytes) -> None:
        """Check a certificate and lay it beside the old one, to be tried next."""
        if len(pem) > PEM_BYTES_MAX:
            raise IdentityError(f"the new certificate has {len(pem)} bytes")
        what = "the new certificate"
        certificate = identity.read_certificate(pem, what)
        authorities = x509.load_pem_x509_certificates(self.who.ca.read_bytes())
        if not any(_issued_by(certificate, authority) for authority in authorities):
            raise IdentityError(f"{what} is not issued by the hub's CA")
        path = self._next_key()
        if not path.exists() or not identity.certifies(certificate, identity.read_key(path)):
            raise IdentityError(f"{what} is for another key than the one asked for")
        if identity.common_name(certificate, what) != self.who.device:
            raise IdentityError(f"{what} names another device")
        tls.check_validity(certificate, self._instant(), what)
        write_durably(self._directory / identity.NEXT_CERT, pem)
        self._ready = True


def _issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
