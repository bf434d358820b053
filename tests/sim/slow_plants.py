"""Bugs of slow things planted on purpose: what a careless agent or hub would do instead."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import msgspec
from cryptography import x509
from msgspec import UNSET, UnsetType
from sqlalchemy import text
from sqlmodel import Session

from muster_agent.identity.renewal import Renewal
from muster_hub.errors import Invalid
from muster_hub.fleet.heard import Unheard
from muster_hub.identity import enrolment
from muster_hub.identity.parsing import read_request, read_shown
from muster_hub.identity.pki import Pki
from muster_hub.mqtt.access import BrokerFiles
from muster_hub.mqtt.takeover_log import TakeoverLog
from muster_hub.settings.retention import Telemetry
from muster_hub.signing.catalogue import Catalogue
from muster_hub.storage.files import write_durably
from muster_hub.storage.models import Certificate
from muster_protocol.wire.contact import Contact
from sim.hub import HubStore
from sim.slow_hub import Contacts, SlowHubDoubles
from sim.slow_world import SlowDoubles


class NeverAsks(Renewal):
    """A certificate is used until it has ended."""

    def question(self, now: float) -> tuple[str, bytes] | None:
        return None


class NeverSignsAnew(Catalogue):
    """What was signed once is good for ever."""

    def refresh(self, now: float) -> bool:
        return False


class AddsAgain(HubStore):
    """That a window is in its hour and day is forgotten now and then."""

    @contextmanager
    def write(self) -> Iterator[Session]:
        with super().write() as session:
            session.connection().execute(_FORGET)
            yield session


_FORGET = text("UPDATE summary_window SET rolled = false WHERE id % 17 = 0")


class SeesNoTakeover(TakeoverLog):
    def __call__(self, line: str) -> None:
        """The broker's log is not read."""


class BelievesNextAlone(BrokerFiles):
    """A second authority replaces the first one at the broker at once."""

    def _write_ca(self) -> None:
        super()._write_ca()
        if self._pki.next is not None:
            write_durably(self.ca, self._pki.next.chain_pem)


def refuses_expired(
    session: Session, pki: Pki, certificate_pem: str, csr_pem: str, signature: bytes, now: float
) -> enrolment.Enrolled:
    """Who comes back too late stays out."""
    if (
        now
        >= x509.load_pem_x509_certificate(certificate_pem.encode()).not_valid_after_utc.timestamp()
    ):
        raise Invalid("the certificate has expired")
    return enrolment.renew_by_proof(session, pki, certificate_pem, csr_pem, signature, now)


def renews_revoked(
    session: Session, pki: Pki, certificate_pem: str, csr_pem: str, signature: bytes, now: float
) -> enrolment.Enrolled:
    """That a certificate was withdrawn is not looked at."""
    shown = read_shown(certificate_pem.encode())
    row = session.get(Certificate, shown.serial)
    if row is None or row.revoked is None:
        return enrolment.renew_by_proof(session, pki, certificate_pem, csr_pem, signature, now)
    made = pki.issue_device(read_request(csr_pem.encode()), row.device, now)
    return enrolment.Enrolled(row.device, made.pem.decode())


def tells_nobody(_contacts: Contacts) -> Contacts:
    """Directives say nothing of where the hub is."""

    def nowhere() -> Contact | UnsetType:
        return UNSET

    return nowhere


def all_have_heard(_session: Session, _digest: str, _now: float) -> Sequence[Unheard]:
    return []


def _kept(**fields: Any) -> SlowDoubles:
    def shorter(kept: Telemetry) -> Telemetry:
        return msgspec.structs.replace(
            kept, **{name: getattr(kept, name) + days for name, days in fields.items()}
        )

    return _hub(telemetry=shorter)


def _hub(**fields: Any) -> SlowDoubles:
    return SlowDoubles(hub=replace(SlowHubDoubles(), **fields))


SLOW_PLANTS = {
    "renewal never asked": SlowDoubles(renewal=NeverAsks),
    "retention one day short": _kept(raw_days=-1),
    "retention one day long": _kept(hour_days=1),
    "metadata not signed anew": _hub(catalogue=NeverSignsAnew),
    "a window added again": _hub(store=AddsAgain),
    "expired for ever": _hub(by_proof=refuses_expired),
    "a revoked card renewed": _hub(by_proof=renews_revoked),
    "takeovers not seen": _hub(takeovers=SeesNoTakeover),
    "nobody told of a move": _hub(contact=tells_nobody),
    "the deaf not listed": _hub(deaf=all_have_heard),
    "the first authority forgotten": _hub(broker_files=BelievesNextAlone),
}
"""By name; each is found by one of the promises."""
