"""A device of a slow world: its identity, whom it trusts and where it seeks the hub are the real
ones; what it counts is a number a window. It connects for a moment, hours or days apart.
"""

import random
import shutil
from collections import deque
from typing import TYPE_CHECKING

from muster_agent.base.proxy import DIRECT
from muster_agent.identity import contact, identity
from muster_agent.identity.contact import Contacts
from muster_agent.identity.renewal import DUE_SHARE, SHUT_OUT_ATTEMPTS, Renewal
from muster_agent.trust.store import TrustStore
from muster_agent.trust.time import ClockReading, Instant
from muster_agent.trust.trusted import TrustRefused
from muster_protocol.signals import summary_wire
from muster_protocol.signals.summary import Summary, Tally
from muster_protocol.wire import messages, topics
from muster_protocol.wire.contact import FIELD, BrokerAddress
from muster_protocol.wire.errors import MusterError
from muster_protocol.wire.messages import Batch, Facts, Report, Row, Stamp, TrustReport
from sim.catalogue import scratch
from sim.slow_hub import DAY_SECONDS, Reach, address, distrusted, root_of
from support.tuf_repository import NOW

if TYPE_CHECKING:
    from sim.slow_world import SlowWorld

WINDOW_SECONDS = 300.0
WINDOW_ROWS_MAX = 40
BACKLOG_MAX = 30
"""Windows that wait at most; the oldest go."""
ATTEMPTS = SHUT_OUT_ATTEMPTS + 2
ATTEMPT_SECONDS = 60.0
RENEWABLE_SHARE = DUE_SHARE[1] + 0.05
"""Of its validity, after which every device has asked for another certificate: a clock that goes
by what the hub has signed is some days late."""
CHANCES = 3


class SlowDevice:
    def __init__(self, world: "SlowWorld", name: str, *, place: str, synchronised: bool) -> None:
        self.world, self.name, self.place = world, name, place
        self.rng = random.Random(f"{world.seed}/{name}/{place}")
        self.synchronised = synchronised
        self.directory = scratch() / "slow-devices" / f"{name}-{place}"
        shutil.rmtree(self.directory, ignore_errors=True)
        self.off_until = 0.0
        self.sequence = 0
        self.waiting: deque[tuple[float, int]] = deque(maxlen=BACKLOG_MAX)
        """Start of each window, and rows in it."""
        self.chances = 0
        """Visits in which its certificate could be renewed, since it was."""
        self.heard_since = 0
        """Visits at which it could hear of the last move."""
        self.shut_out = 0
        """Visits in a row at which it was not let in."""
        self.refused = ""
        """Why it was not let in when it last tried; empty: it was."""
        self.epoch = self.rng.randbytes(8)

    def enrol(self, at: float) -> None:
        """With a certificate as of ``at`` (seconds since 1970): it may have aged already."""
        hub, place = self.world.hub, self.directory / "identity"
        shutil.rmtree(place, ignore_errors=True)
        key = identity.make_key(place / identity.KEY_FILE)
        pem = hub.enrol(self.name, identity.request(key, self.name), at)
        (place / identity.CERT_FILE).write_bytes(pem)
        (place / identity.CA_FILE).write_bytes(hub.pki.ca_pem)
        url, broker = address(hub.place)
        contact.enrolled_first(place)
        shutil.rmtree(self.directory / "trust", ignore_errors=True)
        root_of(hub, self.directory / "trust")
        self._enrolled = url, broker
        self.start()

    def clone(self, place: str) -> "SlowDevice":
        """Another machine with a copy of this one's card."""
        made = SlowDevice(self.world, self.name, place=place, synchronised=self.synchronised)
        shutil.copytree(self.directory, made.directory)
        made._enrolled = self._enrolled
        made.start()
        return made

    def start(self) -> None:
        place = self.directory / "identity"
        url, broker = self._enrolled
        self.trust = TrustStore(self.directory / "trust")
        self.contacts = Contacts(place, hub=url, broker=broker)
        world = self.world
        self.renewal = world.doubles.renewal(
            place, self.contacts, self.instant, self.rng, DIRECT,
            lambda url, now, proxies: Reach(world, url, now, proxies),
        )  # fmt: skip
        self.chances = 0

    def reading(self) -> ClockReading:
        now = NOW + self.world.clock.now
        return ClockReading(now, "synchronised") if self.synchronised else ClockReading(0, "floor")

    def instant(self) -> Instant:
        return self.trust.now(self.reading())

    @property
    def reachable(self) -> bool:
        """Whether any address that it knows is one where somebody answers."""
        live = {address(number)[1] for number in self.world.hub.live}
        return any(where in live for where in self.contacts.brokers())

    def visit(self) -> bool:
        """Connect, tell and hear; whether it was let in. After a refusal it tries again."""
        for attempt in range(ATTEMPTS):
            self.refused = self._connect()
            if not self.refused:
                self.renewal.connected()
                self._converse()
                if not self.renewal.ready:
                    return True
            else:
                moment = self.world.clock.now + attempt * ATTEMPT_SECONDS
                self.renewal.failed(self.refused, moment)
        return not self.refused

    def _connect(self) -> str:
        """Show the certificate to one broker after the other; why none let it in."""
        hub, found = self.world.hub, "no address"
        _, certificate = self.renewal.begin()
        for where in self.contacts.brokers():
            found = hub.refuses(where, certificate.read_bytes())
            if found == "nobody answers":
                continue
            authorities = self.renewal.who.ca.read_bytes()
            return found or distrusted(hub.server(), authorities, self.instant())
        return found

    def _converse(self) -> None:
        hub, world = self.world.hub, self.world
        self._refresh()
        self._hear(hub.retained.get(topics.down(self.name, "directive")))
        if not hub.running:
            return
        self._send()
        asked = self.renewal.question(world.clock.now)
        if asked is not None:
            hub.take(*asked)
        for pem in hub.mail.pop(self.renewal.topic, []):
            self.renewal.answered(pem)

    def _refresh(self) -> None:
        try:
            self.trust.refresh(self.world.hub.files, frozenset(), self.reading())
        except TrustRefused as refused:
            self.world.trace.add(self.name, f"metadata refused: {refused}"[:160])

    def _hear(self, envelope: bytes | None) -> None:
        trusted = self.trust.trusted()
        if envelope is None or trusted is None:
            return
        try:
            said = trusted.verify_directive(envelope)
        except MusterError as refused:
            self.world.trace.add(self.name, f"directive refused: {refused}"[:160])
        else:
            self.contacts.follow(said.contact, trusted.contact)

    def count(self) -> None:
        """A window closes, now."""
        start = NOW + self.world.clock.now - WINDOW_SECONDS
        self.waiting.append((start, self.rng.randint(1, WINDOW_ROWS_MAX)))

    def _send(self) -> None:
        hub, trusted = self.world.hub, self.trust.trusted()
        rows = []
        for start, n in self.waiting:
            self.sequence += 1
            rows.append(Row(self.sequence, self._window(start, n)))
            self.world.ledger.add(self.name, start, n)
        self.waiting.clear()
        if rows:
            batch = Batch(1, self.epoch, self._stamp(hub.now()), rows)
            hub.take(topics.up(self.name, "telemetry"), messages.encode(batch))
        report = Report(
            at=self._stamp(hub.now()),
            facts=Facts(agent_version="1.0.0", understands=(FIELD,)),
            trust=TrustReport(
                versions=self.trust.versions(),
                expires={} if trusted is None else trusted.expires,
                contact=self.contacts.digest,
                authorities=self.contacts.authorities,
            ),
            certificate_expires=self.renewal.who.expires,
        )
        hub.take(topics.up(self.name, "report"), messages.encode(report))

    def _window(self, start: float, n: int) -> bytes:
        made = self.world.hub.release
        return summary_wire.encode(
            Summary(
                made.model, made.version, made.sha256, self._stamp(start),
                self._stamp(start + WINDOW_SECONDS), counts=Tally(inferences=n),
            )
        )  # fmt: skip

    def _stamp(self, at: float) -> Stamp:
        return Stamp(self.epoch, at - NOW + 1e9, at, "synchronised")

    def renewable(self) -> bool:
        """Whether its certificate is so old that a device asks for another one."""
        who = self.renewal.who
        age = NOW + self.world.clock.now - who.issued
        return age >= RENEWABLE_SHARE * (who.expires - who.issued)

    def days_left(self) -> float:
        return (self.renewal.who.expires - NOW - self.world.clock.now) / DAY_SECONDS


__all__ = ["BrokerAddress", "Renewal", "SlowDevice"]
