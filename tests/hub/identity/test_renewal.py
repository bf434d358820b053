"""Certificates renewed: over the broker by its word, over HTTP by proof of the old key."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from sqlmodel import select

from muster_hub.identity import enrolment
from muster_hub.mqtt.inbound import Malformed, Renews, read
from muster_hub.mqtt.renewals import Renewals
from muster_hub.storage.models import Audit, Certificate, Device, OutboxMessage
from muster_protocol.wire import topics
from muster_protocol.wire.renewal import PEM_BYTES_MAX
from support.hub_kit import API, Kit, csr, is_problem, new_key, open_kit
from support.renewing import ask

DAY = 86_400.0


@pytest.fixture
def kit(tmp_path):
    made = open_kit(tmp_path)
    yield made
    made.close()


@pytest.fixture
def key():
    return new_key()


@pytest.fixture
def old(kit: Kit, key: ec.EllipticCurvePrivateKey) -> str:
    """The certificate of the enrolled cam-1, in PEM."""
    return kit.enrol(kit.enrol_token(), key).json()["certificate_pem"]


def serial(pem: str) -> int:
    return x509.load_pem_x509_certificate(pem.encode()).serial_number


@pytest.mark.parametrize("days", [200, 364, 366, 800])
def test_the_holder_of_the_old_key_gets_a_new_certificate_even_after_its_end(
    kit: Kit, key, old: str, days: int
) -> None:
    kit.clock.now += days * DAY
    new = new_key()
    answer = ask(kit, old, key, new=new)
    assert answer.status_code == 200, answer.text
    made = answer.json()
    assert made["device"] == "cam-1"
    assert serial(made["certificate_pem"]) != serial(old)
    again = ask(kit, old, key, new=new)
    assert serial(again.json()["certificate_pem"]) == serial(made["certificate_pem"]), "lost reply"
    with kit.hub.store.read() as session:
        actions = session.exec(select(Audit.action).where(Audit.subject == "cam-1")).all()
        assert session.get(Device, "cam-1").certificate_expires > kit.clock() + 300 * DAY
    assert list(actions).count("device.renew") == 1


def test_a_key_in_hardware_stays_and_gets_a_later_certificate(kit: Kit, key, old: str) -> None:
    kit.clock.now += 250 * DAY
    answer = ask(kit, old, key, new=key)
    assert answer.status_code == 200, answer.text
    later = answer.json()["certificate_pem"]
    assert serial(later) != serial(old)
    again = ask(kit, old, key, new=key)
    assert serial(again.json()["certificate_pem"]) == serial(later), "a lost reply"


def test_a_fresh_certificate_is_not_renewed(kit: Kit, key, old: str) -> None:
    kit.clock.now += 30 * DAY
    assert "not renewed yet" in is_problem(ask(kit, old, key), 409, "conflict")


def test_a_thief_of_the_certificate_alone_proves_nothing(kit: Kit, key, old: str) -> None:
    kit.clock.now += 400 * DAY
    is_problem(ask(kit, old, new_key()), 403, "renewal_refused")
    other = csr(new_key(), "cam-1")
    is_problem(ask(kit, old, key, signed=other), 403, "renewal_refused")


def test_a_revoked_device_is_never_renewed(kit: Kit, key, old: str) -> None:
    kit.http.post(f"{API}/devices/cam-1/revoke", headers=kit.as_("operator"))
    kit.clock.now += 400 * DAY
    assert "is revoked" in is_problem(ask(kit, old, key), 403, "renewal_refused")


def test_a_device_is_renewed_in_its_own_name_only(kit: Kit, key, old: str) -> None:
    kit.clock.now += 400 * DAY
    assert "in the name of 'cam-2'" in is_problem(ask(kit, old, key, name="cam-2"), 422, "invalid")
    assert ask(kit, old, key, name="").status_code == 200


def test_what_is_no_device_certificate_of_this_hub_is_refused(kit: Kit, key, old: str) -> None:
    is_problem(ask(kit, old[:-60], key), 422, "invalid")
    is_problem(ask(kit, "junk", key), 422, "invalid")
    ca = kit.hub.pki.ca_pem.decode()
    is_problem(ask(kit, ca, key), 403, "renewal_refused")


def test_no_device_can_collect_certificates(kit: Kit, key, old: str) -> None:
    kit.clock.now += 366 * DAY
    with kit.hub.store.write() as session:
        for number in range(enrolment.RENEWALS_PER_DAY):
            session.add(
                Certificate(
                    serial=f"{number:x}", device="cam-1", key_fingerprint=f"{number:x}",
                    pem="", issued=kit.clock() - number - 1, expires=kit.clock() + number,
                )
            )  # fmt: skip
    assert "within a day" in is_problem(ask(kit, old, key), 409, "conflict")


def test_a_request_over_the_broker_is_answered_to_that_device_alone(kit: Kit, old: str) -> None:
    kit.clock.now += 300 * DAY
    woken = []
    renewals = Renewals(kit.hub.store, kit.hub.pki, lambda: woken.append(1), kit.clock)
    asked = read(topics.up("cam-1", "csr"), csr(new_key(), "cam-1").encode(), kit.clock())
    assert isinstance(asked, Renews)
    renewals(asked.device, asked.csr_pem)
    with kit.hub.store.read() as session:
        (message,) = session.exec(select(OutboxMessage)).all()
    assert (message.topic, message.retain) == (topics.down("cam-1", "cert"), False)
    assert serial(message.payload.decode()) != serial(old)
    assert woken == [1]


@pytest.mark.parametrize("state", [{"revoked": True}, {"approved": False}])
def test_a_device_that_is_out_but_still_connected_gets_no_certificate_over_the_broker(
    kit: Kit, old: str, state: dict[str, bool]
) -> None:
    kit.clock.now += 300 * DAY
    with kit.hub.store.write() as session:
        session.get(Device, "cam-1").sqlmodel_update(state)
    renewals = Renewals(kit.hub.store, kit.hub.pki, lambda: pytest.fail("answered"), kit.clock)
    renewals("cam-1", csr(new_key(), "cam-1"))
    with kit.hub.store.read() as session:
        assert session.exec(select(OutboxMessage)).all() == []
        assert len(session.exec(select(Certificate)).all()) == 1


def test_a_request_that_is_none_is_dropped(kit: Kit, old: str) -> None:
    renewals = Renewals(kit.hub.store, kit.hub.pki, lambda: pytest.fail("answered"), kit.clock)
    renewals("cam-1", "junk")
    renewals("nobody", csr(new_key(), "nobody"))
    renewals("cam-1", csr(new_key(), "cam-2"))
    for junk in (b"\xff\xfe", b"x" * (PEM_BYTES_MAX + 1)):
        assert isinstance(read(topics.up("cam-1", "csr"), junk, 0.0), Malformed)
