"""A device's certificate is renewed in place: over the broker, or by proof of the old key."""

import datetime as dt
import queue
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from muster_agent.identity import identity
from muster_agent.identity.contact import Contacts
from muster_agent.identity.identity import IdentityError
from muster_agent.identity.renewal import (
    ASK_SECONDS,
    SHUT_OUT_ATTEMPTS,
    SPREAD_SECONDS,
    Renewal,
)
from muster_agent.link.link import Connected, Disconnected, LinkEvent, Message
from muster_agent.link.mqtt import MqttLink, MqttSettings
from muster_agent.trust.time import BUILD_TIME, DAY_SECONDS, Instant
from muster_protocol.wire import topics
from muster_protocol.wire.contact import BrokerAddress, Contact, approved
from support.mosquitto import Mosquitto
from support.pki import DAY, Authority

START = dt.datetime.fromtimestamp(BUILD_TIME, dt.UTC)
LIFE_DAYS = 90
NOBODY = "https://127.0.0.1:1"


class Machine:
    """An enrolled device whose identity is in ``directory``; its trusted time is ``day``."""

    def __init__(self, directory: Path, authority: Authority, device: str = "dev-1") -> None:
        self.directory = directory / "identity"
        self.directory.mkdir()
        pair = authority.issue(device, start=START, end=START + LIFE_DAYS * DAY)
        (self.directory / "key.pem").write_bytes(pair.key.read_bytes())
        (self.directory / "cert.pem").write_bytes(pair.cert.read_bytes())
        (self.directory / "ca.pem").write_bytes(authority.cert.read_bytes())
        self.day = 0.0
        self.renewal = self.make()

    def make(self) -> Renewal:
        self.contacts = Contacts(self.directory, hub=NOBODY, broker=BrokerAddress("127.0.0.1", 1))
        return Renewal(self.directory, self.contacts, self.instant, random.Random("renewal"))

    def instant(self) -> Instant:
        return Instant(BUILD_TIME + int(self.day * DAY_SECONDS), "floor")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, start=START - DAY, end=START + 3650 * DAY)


@pytest.fixture
def machine(tmp_path: Path, authority: Authority) -> Machine:
    return Machine(tmp_path, authority)


def serial(machine: Machine) -> int:
    pem = (machine.directory / "cert.pem").read_bytes()
    return x509.load_pem_x509_certificate(pem).serial_number


def test_nothing_is_asked_for_while_most_of_the_validity_is_ahead(machine: Machine) -> None:
    machine.day = 0.59 * LIFE_DAYS
    assert machine.renewal.question(0.0) is None
    assert not (machine.directory / identity.NEXT_KEY).exists()


def test_a_certificate_is_asked_for_well_before_its_end_and_again_each_hour(
    machine: Machine,
) -> None:
    machine.day = 0.71 * LIFE_DAYS
    asked = machine.renewal.question(0.0)
    assert asked is not None
    topic, request = asked
    assert topic == topics.up("dev-1", "csr")
    csr = x509.load_pem_x509_csr(request)
    assert csr.is_signature_valid
    assert machine.renewal.question(ASK_SECONDS * 0.7) is None
    again = machine.renewal.question(ASK_SECONDS * 1.3)
    assert again is not None
    later = x509.load_pem_x509_csr(again[1])
    assert later.public_key() == csr.public_key(), "a lost answer costs no new key"


def answer(machine: Machine, authority: Authority, name: str = "dev-1") -> bytes:
    machine.day = 0.71 * LIFE_DAYS
    asked = machine.renewal.question(0.0)
    assert asked is not None
    return authority.sign_csr(asked[1].decode(), name).encode()


def test_what_the_broker_accepted_becomes_the_identity(
    machine: Machine, authority: Authority
) -> None:
    before = serial(machine)
    machine.renewal.answered(answer(machine, authority))
    assert machine.renewal.ready
    assert serial(machine) == before, "not before the broker has seen it"
    key, cert = machine.renewal.begin()
    assert (key.name, cert.name) == (identity.NEXT_KEY, identity.NEXT_CERT)
    assert not machine.renewal.ready
    machine.renewal.connected()
    assert serial(machine) != before
    assert {path.name for path in machine.directory.iterdir()} == {"key.pem", "cert.pem", "ca.pem"}
    assert machine.renewal.question(1e9) is None, "fresh for long"
    assert machine.renewal.begin() == (machine.renewal.who.key, machine.renewal.who.cert)


def believe(machine: Machine, *authorities: Authority) -> None:
    """Signed directives name these; the first issues what is issued now."""
    ders = [each.certificate.public_bytes(serialization.Encoding.DER) for each in authorities]
    wanted = Contact(authorities=tuple(ders))
    machine.contacts.follow(wanted, approved(wanted))


def test_when_another_authority_issues_now_a_fresh_certificate_is_renewed_soon_and_once(
    tmp_path: Path, machine: Machine, authority: Authority
) -> None:
    assert machine.renewal.question(0.0) is None
    second = Authority(tmp_path, "second", start=START - DAY, end=START + 3650 * DAY)
    believe(machine, second, authority)
    machine.renewal.question(0.0)  # Finds out, and draws when to ask: not all devices at once.
    asked = machine.renewal.question(SPREAD_SECONDS)
    assert asked is not None
    machine.renewal.answered(second.sign_csr(asked[1].decode(), "dev-1").encode())
    assert machine.renewal.ready
    machine.renewal.begin()
    machine.renewal.connected()
    assert machine.renewal.question(1e9) is None
    believe(machine, second)
    assert machine.renewal.question(2e9) is None, "it has one of the authority that is left"


def test_an_authority_that_is_not_believed_yet_issues_nothing_for_this_device(
    tmp_path: Path, machine: Machine
) -> None:
    before = serial(machine)
    second = Authority(tmp_path, "second", start=START - DAY, end=START + 3650 * DAY)
    machine.renewal.answered(answer(machine, second))
    assert not machine.renewal.ready
    assert serial(machine) == before


def test_what_the_broker_refused_is_dropped_and_the_old_identity_stays(
    machine: Machine, authority: Authority
) -> None:
    before = serial(machine)
    machine.renewal.answered(answer(machine, authority))
    machine.renewal.begin()
    machine.renewal.failed("refused", 1.0)
    assert serial(machine) == before
    assert machine.renewal.begin()[0].name == "key.pem"
    assert identity.load(machine.directory).device == "dev-1"


def test_a_certificate_that_is_not_for_this_device_is_ignored(
    tmp_path: Path, machine: Machine, authority: Authority
) -> None:
    other_place = tmp_path / "other"
    other_place.mkdir()
    stranger = Authority(other_place, start=START, end=START + 3650 * DAY)
    own = answer(machine, authority)
    other_key = authority.issue("dev-1", file="other").cert.read_bytes()
    for wrong in (
        answer_of(machine, stranger), answer_of(machine, authority, "dev-2"), other_key,
        b"", b"junk", own[:-40], own * 20,
    ):  # fmt: skip
        machine.renewal.answered(wrong)
        assert not machine.renewal.ready
    machine.renewal.answered(own)
    assert machine.renewal.ready


def answer_of(machine: Machine, authority: Authority, name: str = "dev-1") -> bytes:
    key = identity.read_key(machine.directory / identity.NEXT_KEY)
    return authority.sign_csr(identity.request(key, name), name).encode()


def test_a_certificate_nobody_asked_for_is_ignored(machine: Machine, authority: Authority) -> None:
    machine.renewal.answered(authority.issue("dev-1", file="other").cert.read_bytes())
    assert not machine.renewal.ready


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_a_power_cut_during_the_promotion_leaves_one_whole_identity(
    machine: Machine, authority: Authority, renames: int
) -> None:
    before = serial(machine)
    machine.renewal.answered(answer(machine, authority))
    steps = [("key.pem.new", "key.pem"), ("cert.pem.new", "cert.pem")]
    for source, target in steps[:renames]:
        (machine.directory / source).rename(machine.directory / target)
    who = identity.load(machine.directory)
    assert who.device == "dev-1"
    assert (serial(machine) == before) == (renames == 0)


def test_a_key_without_its_certificate_is_named(machine: Machine) -> None:
    identity.make_key(machine.directory / "key.pem")
    with pytest.raises(IdentityError, match="enrol this device again"):
        identity.load(machine.directory)


def test_the_hub_is_asked_over_https_only_after_the_broker_refused_several_times(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    for attempt in range(SHUT_OUT_ATTEMPTS - 1):
        machine.renewal.failed("hung up", float(attempt))
    assert "HTTPS" not in caplog.text
    machine.renewal.failed("hung up", 10.0)
    assert caplog.text.count("not renewed over HTTPS") == 1
    machine.renewal.failed("hung up", 11.0)
    assert caplog.text.count("not renewed over HTTPS") == 1


def wait_for(inbox: "queue.Queue[LinkEvent]", wanted: type[LinkEvent]) -> LinkEvent:
    deadline = time.monotonic() + 60
    while True:
        event = inbox.get(timeout=max(deadline - time.monotonic(), 0.01))
        if isinstance(event, wanted):
            return event


@pytest.mark.system
def test_a_live_link_changes_to_the_renewed_certificate(
    tmp_path: Path, machine: Machine, authority: Authority
) -> None:
    machine.day = 0.71 * LIFE_DAYS
    before = serial(machine)

    def link(name: str, key: Path, cert: Path, renewal: Renewal | None, hear: Callable) -> MqttLink:
        settings = MqttSettings("127.0.0.1", broker.port, name, key, cert, authority.cert)
        will = (topics.up(name, "presence"), b"")
        return MqttLink(settings, will, hear, machine.instant, renewal)

    with Mosquitto(tmp_path, authority) as broker:
        heard: queue.Queue[LinkEvent] = queue.Queue()
        questions: queue.Queue[LinkEvent] = queue.Queue()
        pair = authority.issue("hub")
        hub = link("hub", pair.key, pair.cert, None, questions.put)
        hub.start()
        wait_for(questions, Connected)
        hub.subscribe(topics.up("dev-1", "csr"), "muster/v1/hub/settled")
        assert hub.publish("muster/v1/hub/settled", b"")
        wait_for(questions, Message)
        who = machine.renewal.who
        device = link("dev-1", who.key, who.cert, machine.renewal, heard.put)
        device.start()
        try:
            wait_for(heard, Connected)
            request = wait_for(questions, Message).payload.decode()
            pem = authority.sign_csr(request, "dev-1").encode()
            assert hub.publish(topics.down("dev-1", "cert"), pem)
            assert "renewed certificate" in wait_for(heard, Disconnected).reason
            wait_for(heard, Connected)
        finally:
            device.stop()
            hub.stop()
    assert serial(machine) != before
    assert identity.load(machine.directory).device == "dev-1"
