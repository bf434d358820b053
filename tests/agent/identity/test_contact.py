"""Where a device seeks its hub: as it was enrolled, or as signed directives have sent it since."""

import logging
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from msgspec import UNSET

from muster_agent.identity import contact as kept
from muster_agent.identity.contact import Contacts
from muster_protocol.wire.contact import Approved, BrokerAddress, Contact, approved
from support.pki import Authority

HUB, BROKER = "https://hub.example:8443", BrokerAddress("hub.example", 8883)
NEXT_HUB, NEXT_BROKER = "https://next.example", BrokerAddress("next.example", 8884)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "first")


@pytest.fixture
def place(tmp_path: Path, authority: Authority) -> Path:
    directory = tmp_path / "identity"
    directory.mkdir()
    (directory / "ca.pem").write_bytes(authority.cert.read_bytes())
    return directory


def contacts(place: Path) -> Contacts:
    return Contacts(place, hub=HUB, broker=BROKER)


def der(authority: Authority) -> bytes:
    return authority.certificate.public_bytes(serialization.Encoding.DER)


@pytest.fixture
def sent(tmp_path: Path, authority: Authority) -> Contact:
    """To another place, with a second authority beside the first."""
    second = Authority(tmp_path, "second")
    return Contact((NEXT_HUB,), (NEXT_BROKER,), (der(second), der(authority)))


def follow(place: Path, wanted: Contact) -> Contacts:
    made = contacts(place)
    made.follow(wanted, approved(wanted))
    return made


def test_a_device_that_was_sent_nowhere_seeks_the_hub_of_its_enrolment(
    place: Path, authority: Authority
) -> None:
    made = contacts(place)
    assert (made.hubs(), made.brokers(), made.digest) == ((HUB,), (BROKER,), "")
    assert made.authorities == (authority.fingerprint(),)


def test_what_directive_and_targets_agree_on_comes_first_and_the_enrolment_last(
    place: Path, sent: Contact
) -> None:
    made = follow(place, sent)
    assert made.hubs() == (NEXT_HUB, HUB)
    assert made.brokers() == (NEXT_BROKER, BROKER)
    assert made.authorities == approved(sent).authorities
    assert (place / "ca.pem").read_text().count("BEGIN CERTIFICATE") == 2
    assert made.digest == approved(sent).digest


def test_it_is_remembered_over_a_restart(place: Path, sent: Contact) -> None:
    follow(place, sent)
    again = contacts(place)
    assert (again.brokers(), again.digest) == ((NEXT_BROKER, BROKER), approved(sent).digest)


def test_a_directive_alone_sends_a_device_nowhere_and_targets_alone_neither(
    place: Path, sent: Contact
) -> None:
    made = contacts(place)
    for wanted, signed in (
        (sent, None),
        (UNSET, approved(sent)),
        (sent, Approved()),
        (Contact((NEXT_HUB,), (NEXT_BROKER,), sent.authorities[:1]), approved(sent)),
        (Contact(), approved(sent)),
    ):
        made.follow(wanted, signed)
        assert made.brokers() == (BROKER,)
        assert len(made.authorities) == 1


def test_a_part_that_says_nothing_leaves_what_the_enrolment_said(
    place: Path, sent: Contact, authority: Authority
) -> None:
    made = follow(place, Contact(brokers=(NEXT_BROKER,)))
    assert (made.hubs(), made.brokers()) == ((HUB,), (NEXT_BROKER, BROKER))
    assert made.authorities == (authority.fingerprint(),)


def test_what_comes_next_replaces_what_came_before_so_that_nothing_grows(
    place: Path, sent: Contact
) -> None:
    for port in range(1, 40):
        made = follow(place, Contact(brokers=(BrokerAddress("next.example", port),)))
    assert made.brokers() == (BrokerAddress("next.example", 39), BROKER)


def test_the_old_authority_is_given_up_when_only_the_new_one_is_named(
    place: Path, sent: Contact
) -> None:
    follow(place, sent)
    made = follow(place, Contact(sent.hubs, sent.brokers, sent.authorities[:1]))
    assert made.authorities == approved(sent).authorities[:1]


def test_after_a_power_cut_between_its_two_files_it_is_followed_again(
    place: Path, sent: Contact
) -> None:
    follow(place, sent)
    (place / kept.FILE).unlink()  # The authorities were written, what names them was not.
    again = contacts(place)
    assert again.digest == ""
    again.follow(sent, approved(sent))
    assert again.brokers() == (NEXT_BROKER, BROKER)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"hubs": 7}', b"\xff" * 9])
def test_a_damaged_file_is_as_good_as_none(place: Path, sent: Contact, data: bytes) -> None:
    (place / kept.FILE).write_bytes(data)
    assert contacts(place).brokers() == (BROKER,)
    assert follow(place, sent).brokers() == (NEXT_BROKER, BROKER)


def test_a_certificate_that_is_none_changes_nothing_and_is_told_once(
    place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = contacts(place)
    wanted = Contact((NEXT_HUB,), (), (b"no certificate",))
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            made.follow(wanted, approved(wanted))
    assert made.hubs() == (HUB,)
    assert len(caplog.records) == 1


def test_what_can_not_be_written_is_not_followed_and_is_once_it_can(
    place: Path, sent: Contact
) -> None:
    file = place / kept.FILE
    file.mkdir()  # Whatever stands in the way: a directory is no file to replace, even for root.
    (file / "x").touch()
    made = contacts(place)
    made.follow(sent, approved(sent))
    assert made.brokers() == (BROKER,)
    (file / "x").unlink()
    file.rmdir()
    made.follow(sent, approved(sent))
    assert made.brokers() == (NEXT_BROKER, BROKER)
    assert stat.S_ISREG(file.stat().st_mode)


def test_a_device_that_is_enrolled_again_seeks_the_hub_that_let_it_in(
    place: Path, sent: Contact
) -> None:
    follow(place, sent)
    kept.enrolled_again(place, "https://third.example", BrokerAddress("third.example", 1))
    made = contacts(place)
    assert made.hubs() == ("https://third.example", HUB)
    assert made.brokers()[0] == BrokerAddress("third.example", 1)
