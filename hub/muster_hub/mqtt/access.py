"""Who may reach the broker: its server certificate, and the list of revoked device certificates.

Mosquitto reads a new list only at SIGHUP and keeps live connections; a missing or broken list lets
everyone in and an expired one locks everyone out. So the list is written whole, renewed long
before it expires, and the connection of a device that was just revoked is taken over and ended.
"""

import logging
import random
import threading
from collections.abc import Callable
from pathlib import Path

from cryptography import x509

from muster_hub.heartbeats import Heartbeats
from muster_hub.identity import enrolment
from muster_hub.identity.pki import SERVER_RENEW_SECONDS, Pki
from muster_hub.mqtt.broker_config import CA_FILE, CERTIFICATE_FILE, CRL_FILE, KEY_FILE
from muster_hub.mqtt.client import BrokerAddress, HubClient
from muster_hub.storage.files import write_durably
from muster_hub.storage.store import Store

CRL_RENEW_SECONDS = 86_400.0
CANARY = "_revoked"
"""Revoked from the start: whoever lets it in has not read the list."""
CRL_END = b"-----END X509 CRL-----\n"
CHECK_SECONDS = 30.0
KICK_SECONDS = 5.0

_log = logging.getLogger(__name__)
_random = random.SystemRandom()


class BrokerFiles:
    """The managed broker's certificate, key and revocation list in its directory."""

    def __init__(self, directory: Path, pki: Pki, store: Store) -> None:
        self._pki = pki
        self._store = store
        self.ca = directory / CA_FILE
        self.certificate = directory / CERTIFICATE_FILE
        self.key = directory / KEY_FILE
        self.crl = directory / CRL_FILE
        self._listed: frozenset[str] | None = None
        self._canary: tuple[str, float] | None = None
        self._written = 0.0
        self._names: tuple[str, ...] = ()

    def prepare(self, names: tuple[str, ...], now: float) -> None:
        """Write what the managed broker needs before it starts."""
        self._write_ca()
        self._names = names
        self.renew_server(now)
        self.refresh_crl(now)

    def renew_server(self, now: float) -> bool:
        """Give the managed broker a new certificate when its own nears its end; whether it did."""
        if not self._names or self._still_good(self._names, now):
            return False
        pair = self._pki.issue_server(self._names, now)
        write_durably(self.key, pair.key_pem, mode=0o600)
        write_durably(self.certificate, pair.certificate_pem)
        return True

    def prepare_external(self, now: float) -> tuple[Path, Path]:
        """Write the revocation list for an external broker; returns a certificate and key on it,
        which tell whether the broker heeds it.
        """
        self._write_ca()
        certificate, key = self.ca.with_name("revoked.pem"), self.ca.with_name("revoked.key")
        serial = self._canary_serial(certificate, key, now)
        self._canary = (serial, now)
        self.refresh_crl(now)
        return certificate, key

    def _canary_serial(self, certificate: Path, key: Path, now: float) -> str:
        """Made once, so that the list need not change at each start."""
        try:
            held = x509.load_pem_x509_certificate(certificate.read_bytes())
            held.verify_directly_issued_by(x509.load_pem_x509_certificate(self._pki.ca_pem))
            left = held.not_valid_after_utc.timestamp() - now
        except Exception:
            left = 0.0
        if left < SERVER_RENEW_SECONDS or not key.exists():
            pair = self._pki.issue_client(CANARY, now)
            write_durably(key, pair.key_pem, mode=0o600)
            write_durably(certificate, pair.certificate_pem)
            held = x509.load_pem_x509_certificate(pair.certificate_pem)
        return f"{held.serial_number:x}"

    def _write_ca(self) -> None:
        self.ca.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_durably(self.ca, self._pki.trusted_pem)

    def refresh_crl(self, now: float) -> frozenset[str] | None:
        """Write the list when it changed or grows old; devices newly on it, None if unwritten."""
        with self._store.read() as session:
            rows = enrolment.revoked_certificates(session, now)
        serials = frozenset(serial for serial, _, _ in rows)
        fresh = 0 <= now - self._written < CRL_RENEW_SECONDS
        if serials == self._listed and fresh:
            return None
        revoked = [(serial, when) for serial, when, _ in rows]
        revoked += [self._canary] if self._canary is not None else []
        pem = self._pki.crls(revoked, now)
        for part in pem.split(CRL_END)[:-1]:
            x509.load_pem_x509_crl(part + CRL_END)
        write_durably(self.crl, pem)
        before = self._listed if self._listed is not None else serials
        self._listed, self._written = serials, now
        return frozenset(device for serial, _, device in rows if serial not in before)

    def _still_good(self, names: tuple[str, ...], now: float) -> bool:
        """Whether the certificate on disk is of this authority, for these names and not ending."""
        try:
            held = x509.load_pem_x509_certificate(self.certificate.read_bytes())
            held.verify_directly_issued_by(x509.load_pem_x509_certificate(self._pki.ca_pem))
            listed = held.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except Exception:
            return False
        ending = held.not_valid_after_utc.timestamp() - now < SERVER_RENEW_SECONDS
        return (
            self.key.exists()
            and not ending
            and {str(certificate.value) for certificate in listed} == set(names)
        )


class Gatekeeper:
    """Keeps the revocation list in force, and the hub's own certificates fresh, while started."""

    def __init__(
        self,
        files: BrokerFiles,
        address: BrokerAddress,
        *,
        reload: Callable[[], None],
        now: Callable[[], float],
        heartbeats: Heartbeats | None = None,
    ) -> None:
        self._files = files
        self._address = address
        self._reload = reload
        self._now = now
        self.chores: list[Callable[[], None]] = []
        """Done at every check."""
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._part = (heartbeats or Heartbeats()).part("gatekeeper", 10 * CHECK_SECONDS)
        run = self._part.watching(self._run)
        self._thread = threading.Thread(target=run, name="gatekeeper", daemon=True)

    def start(self) -> None:
        """Begin to put revoked devices out, on a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        self._wake.set()
        self._thread.join()

    def wake(self) -> None:
        """A certificate may have been revoked. Never blocks."""
        self._wake.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._check()
                for chore in self.chores:
                    chore()
            except Exception as error:
                _log.exception("certificates or their revocation could not be brought up to date")
                self._part.retrying(error)
            else:
                self._part.beat()
            self._wake.wait(CHECK_SECONDS * _random.uniform(0.8, 1.2))
            self._wake.clear()

    def _check(self) -> None:
        renewed = self._files.renew_server(self._now())
        revoked = self._files.refresh_crl(self._now())
        if renewed or revoked is not None:
            self._reload()
        for device in sorted(revoked or ()):
            kick(self._address, device)


def kick(address: BrokerAddress, device: str) -> bool:
    """End a device's connection by taking over its client id; whether the broker let us."""
    client = HubClient(address, device)
    client.start()
    try:
        return client.wait_connected(KICK_SECONDS)
    finally:
        client.stop()
