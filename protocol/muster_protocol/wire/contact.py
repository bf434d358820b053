"""Where a device finds its hub, and whose certificates it believes there, beyond its enrolment.

A directive brings it, and a device takes it only when the signed targets name the same: a thief of
the hub's own keys can sign directives, but send no device to another hub. Pure.
"""

import hashlib
from collections.abc import Iterable
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from muster_protocol.wire import bounds, limits
from muster_protocol.wire.addresses import joined

FIELD = "contact"
"""As ``understands`` names the field of a directive."""

HubUrl = Annotated[str, Meta(max_length=limits.LINE_CHARS_MAX, pattern=r"^https://[!-~]+\Z")]
Fingerprint = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
"""SHA-256 of a certificate in DER."""


class BrokerAddress(Struct, frozen=True, forbid_unknown_fields=True):
    """Where a broker listens for devices."""

    host: Annotated[str, Meta(min_length=1, max_length=255, pattern=bounds.LINE_PATTERN)]
    port: Annotated[int, Meta(ge=1, le=65535)]

    def __str__(self) -> str:
        return joined(self.host, self.port)


Hubs = Annotated[tuple[HubUrl, ...], Meta(max_length=limits.CONTACT_ADDRESSES_MAX)]
Brokers = Annotated[tuple[BrokerAddress, ...], Meta(max_length=limits.CONTACT_ADDRESSES_MAX)]


class Contact(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a directive says. Where a part is empty, what the device was enrolled with stays."""

    hubs: Hubs = ()
    """In the order in which they are to be tried; those of the enrolment come last."""
    brokers: Brokers = ()
    """Likewise."""
    authorities: Annotated[
        tuple[Annotated[bytes, Meta(max_length=limits.AUTHORITY_BYTES_MAX)], ...],
        Meta(max_length=limits.AUTHORITIES_MAX),
    ] = ()
    """Certificates in DER, all of them believed; the first issues what is issued now."""


class Approved(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The same as targets name it, short enough to be read by whoever signs them."""

    hubs: Hubs = ()
    brokers: Brokers = ()
    authorities: Annotated[tuple[Fingerprint, ...], Meta(max_length=limits.AUTHORITIES_MAX)] = ()

    @property
    def digest(self) -> str:
        """SHA-256 in hexadecimal: what a device that has taken it says in its reports."""
        return hashlib.sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()

    def __str__(self) -> str:
        parts = {
            "hub": self.hubs,
            "broker": map(str, self.brokers),
            "authority": (fingerprint[:16] for fingerprint in self.authorities),
        }
        words = ((name, ", then ".join(listed)) for name, listed in parts.items())
        return "; ".join(f"{name} {listed}" for name, listed in words if listed) or "as enrolled"


def approved(contact: Contact) -> Approved:
    """What targets must name for a device to take ``contact``."""
    prints = tuple(hashlib.sha256(der).hexdigest() for der in contact.authorities)
    return Approved(contact.hubs, contact.brokers, prints)


def bring(approved: Approved, known: Iterable[bytes]) -> Contact | None:
    """The contact that targets name, with its certificates out of ``known`` (DER); None where one
    of them isn't there."""
    by_print = {hashlib.sha256(der).hexdigest(): der for der in known}
    if not by_print.keys() >= set(approved.authorities):
        return None
    found = tuple(by_print[fingerprint] for fingerprint in approved.authorities)
    return Contact(approved.hubs, approved.brokers, found)


def read(value: object) -> Approved | None:
    """The field of targets, which anything may be; None when it is missing or makes no sense."""
    try:
        return msgspec.convert(value, Approved)
    except msgspec.ValidationError:
        return None
