"""Where this device finds its hub: what signed directives have told it, before its enrolment.

``identity/contact.json`` holds what was taken last, ``identity/ca.pem`` the authorities it named.
Both are replaced whole; if the power fails between them, the directive in force is obeyed again at
the next start. What was told replaces what was told before, so that nothing grows.
"""

import logging
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from msgspec import UnsetType

from muster_agent.identity import identity
from muster_agent.storage.files import unlink_durably, write_durably
from muster_protocol.wire.contact import Approved, BrokerAddress, Contact, approved

FILE = "contact.json"

_log = logging.getLogger(__name__)


class Contacts:
    """Written by the supervisor's thread, read by the link's: each answer is a whole one."""

    def __init__(self, directory: Path, *, hub: str, broker: BrokerAddress) -> None:
        """``directory`` is the identity's; ``hub`` and ``broker`` are those of agent.toml."""
        self._directory = directory
        self._enrolled = hub, broker
        self._held = _read(directory / FILE)
        self._trouble = ""
        self.authorities = _fingerprints(directory / identity.CA_FILE)
        """Whose certificates are believed: SHA-256 of theirs; the first issues now."""

    @property
    def digest(self) -> str:
        """Of what was taken last; empty: nothing was."""
        return "" if self._held is None else approved(self._held).digest

    def hubs(self) -> tuple[str, ...]:
        """URLs of the hub in the order in which they are tried."""
        first = () if self._held is None else self._held.hubs
        return tuple(dict.fromkeys((*first, self._enrolled[0])))

    def brokers(self) -> tuple[BrokerAddress, ...]:
        """Brokers in the order in which they are tried."""
        first = () if self._held is None else self._held.brokers
        return tuple(dict.fromkeys((*first, self._enrolled[1])))

    def follow(self, wanted: Contact | UnsetType, signed: Approved | None) -> None:
        """Take what a directive tells when targets name the same; else what is held stays.

        Never raises: what can't be written is logged, and tried again with the next directive.
        """
        if isinstance(wanted, UnsetType) or signed is None or approved(wanted) != signed:
            return
        if signed.digest == self.digest:
            return
        try:
            self._take(wanted)
        except (OSError, ValueError) as error:
            if self._trouble != (trouble := str(error)):
                _log.error("can't follow the hub to %s: %s", signed, error)
            self._trouble = trouble
        else:
            self._trouble = ""
            _log.warning("from now on the hub is sought at: %s", signed)

    def _take(self, wanted: Contact) -> None:
        authorities = [x509.load_der_x509_certificate(der) for der in wanted.authorities]
        if authorities:
            pem = b"".join(each.public_bytes(serialization.Encoding.PEM) for each in authorities)
            write_durably(self._directory / identity.CA_FILE, pem)
        write_durably(self._directory / FILE, msgspec.json.encode(wanted))
        self._held = wanted
        self.authorities = _fingerprints(self._directory / identity.CA_FILE)


def enrolled_again(directory: Path, hub: str, broker: BrokerAddress) -> None:
    """Where the hub has just let this device in goes before what agent.toml says from earlier."""
    contact = Contact(hubs=(hub,), brokers=(broker,))
    write_durably(directory / FILE, msgspec.json.encode(contact))


def enrolled_first(directory: Path) -> None:
    """Nothing is known of the hub but what agent.toml says."""
    unlink_durably(directory / FILE)


def _read(path: Path) -> Contact | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Contact)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        _log.warning("%s is ignored: %s", path, error)
        return None


def _fingerprints(path: Path) -> tuple[str, ...]:
    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError):
        return ()
    return tuple(each.fingerprint(hashes.SHA256()).hex() for each in found)
