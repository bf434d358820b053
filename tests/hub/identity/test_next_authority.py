"""A second authority beside the first: who is issued what, and how the first one ends."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from sqlmodel import select

from muster_hub.errors import ConfigError, Conflict
from muster_hub.identity import enrolment, parsing, pki
from muster_hub.identity.pki import NEXT, Authority, Pki
from muster_hub.mqtt.access import BrokerFiles
from muster_hub.storage.models import Certificate, Device
from support.hub_kit import Kit, csr, is_problem, new_key, open_kit
from support.renewing import ask

DAY = 86_400.0


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    made = open_kit(tmp_path)
    yield made
    made.close()


def begin(kit: Kit) -> Authority:
    """As after a restart of a hub whose authority is being replaced."""
    waiting = pki.begin(kit.hub.config.ca, lambda place: pki.create(place, "second", kit.clock()))
    kit.hub.pki = Pki(kit.hub.config.ca)
    return waiting


def believes(kit: Kit, device: str, *authorities: Authority) -> None:
    with kit.hub.store.write() as session:
        trust = {"authorities": [each.ca_fingerprint for each in authorities]}
        session.get(Device, device).report = {"trust": trust}


def renew(kit: Kit, device: str = "cam-1") -> bytes:
    with kit.hub.store.write() as session:
        request = csr(new_key(), device)
        return enrolment.renew(session, kit.hub.pki, device, request, kit.clock()).encode()


def test_whoever_enrols_meanwhile_gets_a_certificate_of_the_authority_in_the_token(
    kit: Kit,
) -> None:
    first = kit.hub.pki
    begin(kit)
    token = kit.enrol_token()
    answer = kit.enrol(token).json()
    assert token.endswith(first.ca_fingerprint)
    assert first.issued(answer["certificate_pem"].encode())
    assert answer["ca_pem"].encode() == first.ca_pem


def test_a_device_that_believes_the_next_authority_is_renewed_by_it_at_once_and_others_are_not(
    kit: Kit,
) -> None:
    first = kit.hub.pki
    for name in ("cam-1", "cam-2", "cam-3"):
        kit.enrol(kit.enrol_token(), name=name)
    second = begin(kit)
    believes(kit, "cam-1", second, first)
    believes(kit, "cam-2", first)
    assert second.issued(renew(kit, "cam-1"))
    for name in ("cam-2", "cam-3"):
        with pytest.raises(Conflict, match="good for long"):
            renew(kit, name)
    kit.clock.now += 300 * DAY
    assert first.issued(renew(kit, "cam-2"))
    kit.clock.now -= 299 * DAY
    with pytest.raises(Conflict, match="good for long"):
        renew(kit, "cam-1")


def test_a_key_in_hardware_gets_another_certificate_from_the_next_authority(kit: Kit) -> None:
    key = new_key()
    kit.enrol(kit.enrol_token(), key)
    second = begin(kit)
    believes(kit, "cam-1", second)
    with kit.hub.store.write() as session:
        request = csr(key, "cam-1")
        given = [enrolment.renew(session, kit.hub.pki, "cam-1", request, kit.clock())
                 for _ in range(3)]  # fmt: skip
    assert second.issued(given[0].encode())
    assert len(set(given)) == 1, "asking again costs no certificate"


def test_a_broker_believes_both_and_knows_of_both_who_is_revoked(kit: Kit) -> None:
    first = kit.hub.pki
    kit.enrol(kit.enrol_token())
    second = begin(kit)
    with kit.hub.store.write() as session:
        enrolment.revoke(session, "cam-1", kit.clock())
        (serial,) = session.exec(select(Certificate.serial)).all()
    files = BrokerFiles(kit.hub.config.broker_directory, kit.hub.pki, kit.hub.store)
    files.prepare(("hub.test",), kit.clock())
    assert files.ca.read_bytes() == first.ca_pem + second.ca_pem
    parts = files.crl.read_text().split("-----END X509 CRL-----\n")[:-1]
    lists = [x509.load_pem_x509_crl(f"{part}-----END X509 CRL-----\n".encode()) for part in parts]
    for authority, listed in zip((first, second), lists, strict=True):
        certificate = x509.load_pem_x509_certificate(authority.ca_pem)
        assert listed.is_signature_valid(certificate.public_key())
        assert listed.get_revoked_certificate_by_serial_number(int(serial, 16)) is not None
    assert first.issued(files.certificate.read_bytes()), "those who never heard of another"


def test_once_promoted_the_next_authority_issues_everything_and_the_first_one_s_key_is_gone(
    kit: Kit,
) -> None:
    first, second = kit.hub.pki, begin(kit)
    kit.hub.pki = pki.promote(kit.hub.config.ca)
    assert kit.hub.pki.next is None
    assert kit.hub.pki.ca_fingerprint == second.ca_fingerprint
    assert {path.name for path in kit.hub.config.ca.iterdir()} == {"ca.pem", "ca.key"}
    assert not first.issued(kit.enrol(kit.enrol_token()).json()["certificate_pem"].encode())


@pytest.mark.parametrize("moved", [["ca.key"], ["ca.key", "chain.pem"]])
def test_a_promotion_that_the_power_interrupted_is_finished_at_the_next_start(
    kit: Kit, moved: list[str]
) -> None:
    second, place = begin(kit), kit.hub.config.ca
    shutil.copy(place / NEXT / "ca.pem", place / NEXT / "chain.pem")
    for name in moved:
        (place / NEXT / name).rename(place / name)
    again = Pki(place)
    assert again.ca_fingerprint == second.ca_fingerprint
    assert again.chain_pem == second.ca_pem
    assert again.next is None


def test_an_authority_that_the_power_interrupted_in_the_making_is_made_anew(kit: Kit) -> None:
    place = kit.hub.config.ca

    def fails(building: Path) -> None:
        building.mkdir()
        (building / "ca.key").write_text("half a k")
        raise OSError("the power")

    with pytest.raises(OSError, match="the power"):
        pki.begin(place, fails)
    assert Pki(place).next is None
    second = begin(kit)
    assert begin(kit).ca_fingerprint == second.ca_fingerprint, "one that waits is kept"


def test_a_chain_of_the_authority_before_counts_no_more(kit: Kit) -> None:
    place = kit.hub.config.ca
    shutil.copy(place / "ca.pem", place / "chain.pem")
    second = begin(kit)
    assert pki.promote(place).chain_pem == second.ca_pem


def test_without_an_authority_that_waits_nothing_is_promoted(kit: Kit) -> None:
    with pytest.raises(ConfigError, match="no authority that waits"):
        pki.promote(kit.hub.config.ca)


def test_a_device_that_missed_the_end_of_its_authority_proves_itself_by_its_old_certificate(
    kit: Kit,
) -> None:
    key = new_key()
    old = kit.enrol(kit.enrol_token(), key).json()["certificate_pem"]
    forger = pki.create(kit.hub.config.data / "stolen", "first", kit.clock())
    begin(kit)
    kit.hub.pki = pki.promote(kit.hub.config.ca)
    answer = ask(kit, old, key)
    assert answer.status_code == 200, answer.text
    assert kit.hub.pki.issued(answer.json()["certificate_pem"].encode())
    request = parsing.read_request(csr(key, "cam-1").encode())
    forged = forger.issue_device(request, "cam-1", kit.clock()).pem.decode()
    is_problem(ask(kit, forged, key), 422, "invalid")
