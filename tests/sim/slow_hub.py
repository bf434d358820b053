"""The hub of a slow world: authority, catalogue, engine and broker files are the real ones.

A tick stands for hours: the engine steps until it has nothing left to do, broker files are kept as
the gatekeeper keeps them, and what was decided reaches the broker.
"""

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from msgspec import UNSET, UnsetType
from sqlmodel import Session, col, select

from muster_agent.base.proxy import Proxies
from muster_agent.identity.hub_contact import EnrolError
from muster_agent.trust.time import Instant
from muster_hub.errors import HubError
from muster_hub.fleet import heard
from muster_hub.fleet.heard import Unheard
from muster_hub.identity import enrolment, pki
from muster_hub.identity.pki import Pki
from muster_hub.mqtt.access import CRL_END, BrokerFiles
from muster_hub.mqtt.intake import Intake
from muster_hub.mqtt.renewals import Renewals
from muster_hub.mqtt.takeover_log import TakeoverLog
from muster_hub.reconcile.engine import HOUSEKEEPING_SECONDS, Engine
from muster_hub.reconcile.terms import DirectiveTerms
from muster_hub.registry.published import Bundles
from muster_hub.settings.retention import Telemetry
from muster_hub.signing.catalogue import Catalogue
from muster_hub.signing.directives import DirectiveSigner
from muster_hub.signing.keys import create_keyring
from muster_hub.storage import models
from muster_protocol.wire import contact as wire_contact
from muster_protocol.wire import limits
from muster_protocol.wire.contact import Approved, BrokerAddress, Contact
from sim.catalogue import catalogue, scratch
from sim.hub import BlobStore, HubStore, fresh_store
from support.tuf_repository import NOW

if TYPE_CHECKING:
    from sim.slow_world import SlowWorld

DAY_SECONDS = 86_400.0
STEPS = 2
"""Of the engine in a tick: what came is folded, added up, and deleted when it is old."""
TOKEN_SECONDS = 3600.0
Contacts = Callable[[], Contact | UnsetType]
ByProof = Callable[[Session, Pki, str, str, bytes, float], enrolment.Enrolled]


@dataclass(frozen=True)
class SlowHubDoubles:
    """What a careless hub would have instead; as they are: the real ones."""

    telemetry: Callable[[Telemetry], Telemetry] = lambda kept: kept
    catalogue: type[Catalogue] = Catalogue
    engine: type[Engine] = Engine
    broker_files: type[BrokerFiles] = BrokerFiles
    takeovers: type[TakeoverLog] = TakeoverLog
    by_proof: ByProof = enrolment.renew_by_proof
    store: type[HubStore] = HubStore
    contact: Callable[[Contacts], Contacts] = lambda contacts: contacts
    deaf: Callable[[Session, str, float], Sequence[Unheard]] = heard.of_contact


def address(number: int) -> tuple[str, BrokerAddress]:
    """Where the hub is after so many moves."""
    return f"https://hub-{number}.test", BrokerAddress(f"hub-{number}.test", 8883)


class SlowHub:
    def __init__(self, world: "SlowWorld", kept: Telemetry) -> None:
        self.world, self.doubles = world, world.doubles.hub
        self.running = True
        self.up_since = 0.0
        self.place, self.live = 0, {0}
        """Where the hub is, and at which of its addresses somebody answers."""
        self.directory = scratch() / "slow-hub"
        shutil.rmtree(self.directory, ignore_errors=True)
        self.store = fresh_store(self.doubles.store)
        self.pki = pki.create(self.directory / "ca", "Muster hub first", self.now())
        keyring = create_keyring(self.directory / "keys", None)
        self.catalogue = self.doubles.catalogue(self.directory / "tuf", keyring)
        self.catalogue.create(self.now())
        self.release = catalogue().releases[0]
        with self.store.write() as session:
            made = self.release
            session.add(models.Model(name=made.model, created=self.now()))
            session.add(
                models.Version(
                    model=made.model, version=made.version, manifest_sha256=made.sha256,
                    manifest=made.manifest, status="published", size_bytes=1, created=self.now(),
                    created_by="operator",
                )
            )  # fmt: skip
        self.intake = Intake(self.store, lambda _seconds: True)
        bundles = Bundles(self.store, BlobStore())
        self.takeovers = self.doubles.takeovers(self.store, self.now)
        self.engine = self.doubles.engine(
            self.store,
            self.catalogue,
            DirectiveSigner(self.catalogue.director),
            bundles,
            DirectiveTerms(
                window_seconds=300.0,
                valid_seconds=int(30 * DAY_SECONDS),
                chunks_url="https://hub.test/api/v1/chunks",
                token=lambda device, _expires: device,
                contact=self.doubles.contact(self._contact),
            ),
            telemetry=self.doubles.telemetry(kept),
            expiries=self.catalogue.expiries,
            now=self.now,
            monotonic=lambda: self.world.clock.now,
        )
        self.retained: dict[str, bytes] = {}
        self.mail: dict[str, list[bytes]] = {}
        """Not retained, for a device that is connected."""
        self.files: dict[str, bytes] = {}
        self.restart()

    def now(self) -> float:
        return NOW + self.world.clock.now

    def restart(self) -> None:
        """As a hub starts: it reads its authorities, and prepares its broker."""
        self.pki = Pki(self.directory / "ca")
        self.broker = self.doubles.broker_files(self.directory / "broker", self.pki, self.store)
        self.broker.prepare((address(self.place)[1].host,), self.now())
        self.renewals = Renewals(self.store, self.pki, lambda: None, self.now)
        self.engine.changed()

    def tick(self, steps: int = STEPS) -> None:
        """What the hub does between two looks at it."""
        if not self.running:
            return
        self.broker.renew_server(self.now())
        self.broker.refresh_crl(self.now())
        self.engine.step()
        self.files = self.catalogue.files_to_publish()
        self.publish()
        if steps > 1:
            after = HOUSEKEEPING_SECONDS + 1.0
            self.world.clock.after(after, lambda: self.tick(steps - 1))
        else:
            self.world.ledger.check()

    def publish(self) -> None:
        """What was decided is at the broker."""
        with self.store.write() as session:
            rows = session.exec(
                select(models.OutboxMessage)
                .where(col(models.OutboxMessage.published_at).is_(None))
                .order_by(col(models.OutboxMessage.id))
            ).all()
            for row in rows:
                row.published_at = self.now()
                session.add(row)
                if row.retain:
                    self.retained[row.topic] = row.payload
                else:
                    self.mail.setdefault(row.topic, []).append(row.payload)

    def take(self, topic: str, payload: bytes) -> None:
        """What a device said."""
        taken = self.intake.take([(topic, payload)], self.now())
        for asked in taken.renewals if taken is not None else ():
            self.renewals(asked.device, asked.csr_pem)
        self.publish()

    def _contact(self) -> Contact | UnsetType:
        """As ``Hub.contact`` has it for directives."""
        approved = self.catalogue.contact
        known = (authority.certificate_der for authority in self.pki.authorities)
        found = None if approved is None else wire_contact.bring(approved, known)
        return UNSET if found is None else found

    # What a broker does

    def refuses(self, where: BrokerAddress, certificate_pem: bytes) -> str:
        """Why the broker at an address lets nobody in with this certificate; empty: it does."""
        if where not in {address(number)[1] for number in self.live}:
            return "nobody answers"
        shown = x509.load_pem_x509_certificate(certificate_pem)
        if not signed_by(shown, x509.load_pem_x509_certificates(self.broker.ca.read_bytes())):
            return "unknown authority"
        if self.now() >= shown.not_valid_after_utc.timestamp():
            return "certificate expired"
        for part in self.broker.crl.read_bytes().split(CRL_END)[:-1]:
            listed = x509.load_pem_x509_crl(part + CRL_END)
            ends = listed.next_update_utc
            if ends is None or self.now() >= ends.timestamp():
                return "revocation list expired"
            if listed.get_revoked_certificate_by_serial_number(shown.serial_number) is not None:
                return "certificate revoked"
        return ""

    def server(self) -> x509.Certificate:
        """What broker and API show."""
        return x509.load_pem_x509_certificate(self.broker.certificate.read_bytes())

    # What people do

    def token(self, device: str) -> str:
        with self.store.write() as session:
            return enrolment.make_token(
                session, self.pki.ca_fingerprint, labels={}, uses=1,
                expires_seconds=TOKEN_SECONDS, device=device, now=self.now(),
            )  # fmt: skip

    def enrol(self, device: str, csr_pem: str, at: float) -> bytes:
        """Give a device a first certificate, as of a time that may have been."""
        token = self.token(device)
        with self.store.write() as session:
            made = enrolment.enrol(session, self.pki, token, csr_pem, {}, at)
        self.engine.changed()
        return made.certificate_pem.encode()

    def move(self) -> None:
        """The hub will be elsewhere, and for a while is at both places."""
        self.place += 1
        self.live.add(self.place)
        url, broker = address(self.place)
        before = address(self.place - 1)

        def change(had: Approved) -> Approved:
            hubs, brokers = had.hubs or (before[0],), had.brokers or (before[1],)
            most = limits.CONTACT_ADDRESSES_MAX
            return msgspec.structs.replace(
                had, hubs=(url, *hubs)[:most], brokers=(broker, *brokers)[:most]
            )

        self.catalogue.set_contact(change, self.now())
        self.restart()

    def deaf(self) -> Sequence[Unheard]:
        """Who has not heard of where the hub is."""
        approved = self.catalogue.contact
        with self.store.read() as session:
            digest = "" if approved is None else approved.digest
            return self.doubles.deaf(session, digest, self.now())

    def strangers(self) -> Sequence[Unheard]:
        """Who does not believe the next authority."""
        assert self.pki.next is not None
        with self.store.read() as session:
            return heard.of_authority(session, self.pki.next.ca_fingerprint, self.now())

    def begin_authority(self, number: int) -> None:
        pki.begin(
            self.directory / "ca",
            lambda place: pki.create(place, f"Muster hub {number}", self.now()),
        )
        self.restart()
        assert self.pki.next is not None
        both = self.pki.next.ca_fingerprint, self.pki.ca_fingerprint
        self._believe(both)

    def finish_authority(self) -> None:
        assert self.pki.next is not None
        self._believe((self.pki.next.ca_fingerprint,))
        pki.promote(self.directory / "ca")
        self.restart()

    def _believe(self, fingerprints: tuple[str, ...]) -> None:
        self.catalogue.set_contact(
            lambda had: msgspec.structs.replace(had, authorities=fingerprints), self.now()
        )


class Reach:
    """The hub's HTTPS as a device reaches it; implements ``renewal.AsksHub``."""

    def __init__(self, world: "SlowWorld", url: str, now: Instant, _proxies: Proxies) -> None:
        self._world, self._url, self._now = world, url, now

    def renew(self, ca_pem: str, certificate_pem: str, csr_pem: str, signature: bytes) -> str:
        hub = self._world.hub
        if not hub.running or self._url not in {address(number)[0] for number in hub.live}:
            raise EnrolError(f"can't reach the hub at {self._url}")
        if why := distrusted(hub.server(), ca_pem.encode(), self._now):
            raise EnrolError(f"{self._url}: {why}")
        try:
            with hub.store.write() as session:
                return hub.doubles.by_proof(
                    session, hub.pki, certificate_pem, csr_pem, signature, hub.now()
                ).certificate_pem
        except HubError as error:
            raise EnrolError(f"{self._url} refused: {error}") from None


def distrusted(server: x509.Certificate, ca_pem: bytes, now: Instant) -> str:
    """Why a device does not believe a server; empty: it does."""
    if not signed_by(server, x509.load_pem_x509_certificates(ca_pem)):
        return "the hub is of another authority"
    if now.past(int(server.not_valid_after_utc.timestamp())):
        return "the hub's certificate has expired"
    return ""


def signed_by(certificate: x509.Certificate, authorities: Iterable[x509.Certificate]) -> bool:
    return any(_issued(certificate, each) for each in authorities)


def _issued(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def root_of(hub: SlowHub, directory: Path) -> None:
    """Put the factory root where an installer does."""
    directory.mkdir(parents=True)
    (directory / "root.json").write_bytes(hub.catalogue.factory_root())
