"""Letting devices in: what a token is good for, lost replies, known devices, revocation."""

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlmodel import select

from muster_hub.errors import Invalid
from muster_hub.identity import enrolment
from muster_hub.storage.models import Audit, Certificate, Device, EnrolToken
from support.hub_kit import API, csr, is_problem, new_key, open_kit


@pytest.fixture
def kit(tmp_path):
    made = open_kit(tmp_path)
    yield made
    made.close()


def serial(answer) -> int:
    return x509.load_pem_x509_certificate(answer.json()["certificate_pem"].encode()).serial_number


def devices(kit):
    with kit.hub.store.read() as session:
        return {row.id: row for row in session.exec(select(Device)).all()}


def test_a_device_with_a_token_gets_a_certificate_and_the_broker_s_address(kit):
    answer = kit.enrol(kit.enrol_token(labels={"site": "berlin"}), facts={"machine": "aarch64"})
    assert answer.status_code == 200
    body = answer.json()
    assert body["device"] == "cam-1"
    assert body["broker"] == {"host": "hub.test", "port": 8883}
    certificate = x509.load_pem_x509_certificate(body["certificate_pem"].encode())
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(body["ca_pem"].encode()))
    assert certificate.subject.rfc4514_string() == "CN=cam-1"
    assert devices(kit)["cam-1"].labels == {"site": "berlin"}
    assert kit.wakes


def test_a_device_says_of_itself_what_its_token_leaves_to_it_and_nothing_else(kit):
    def token():
        return kit.enrol_token(labels={"site": "berlin", "line": "?"})

    assert kit.enrol(token(), labels={"line": "2"}).status_code == 200
    assert devices(kit)["cam-1"].labels == {"site": "berlin", "line": "2"}
    assert kit.enrol(token(), name="cam-2").status_code == 200
    assert devices(kit)["cam-2"].labels == {"site": "berlin"}, "what it doesn't say it doesn't have"
    for labels in ({"site": "paris"}, {"role": "x"}, {"line": "?"}, {"line": "a b"}):
        refused = kit.enrol(token(), name="cam-3", labels=labels)
        assert is_problem(refused, 422, "invalid"), labels
    assert "cam-3" not in devices(kit)


def test_a_device_can_t_say_that_it_is_beyond_what_its_token_s_maker_may_reach(kit):
    hub = kit.hub
    with hub.store.write() as session:
        text = enrolment.make_token(
            session, hub.pki.ca_fingerprint, labels={"site": "?"}, uses=1, expires_seconds=60,
            device=None, now=hub.clock(), selector="site!=paris",
        )  # fmt: skip
    refused = kit.enrol(text, labels={"site": "paris"})
    assert is_problem(refused, 422, "invalid")
    assert kit.enrol(text, labels={"site": "rome"}).status_code == 200


def test_the_token_carries_the_fingerprint_of_the_ca(kit):
    ca = x509.load_pem_x509_certificate(kit.http.get(f"{API}/ca").content)
    fingerprint = kit.enrol_token().split(".")[2]
    assert fingerprint == ca.fingerprint(x509.base.hashes.SHA256()).hex()


def test_a_lost_reply_is_asked_for_again_and_costs_nothing(kit):
    token, key = kit.enrol_token(), new_key()
    first = kit.enrol(token, key)
    again = kit.enrol(token, key)
    assert serial(again) == serial(first)
    assert is_problem(kit.enrol(token, name="cam-2"), 403, "token_refused")


def test_a_token_is_bound_to_the_first_key(kit):
    token = kit.enrol_token()
    kit.enrol(token)
    detail = is_problem(kit.enrol(token), 403, "token_refused")
    assert "used up by another key" in detail


def test_a_batch_token_lets_in_as_many_as_it_says(kit):
    token = kit.enrol_token(uses=3, labels={"line": "2"})
    for number in range(3):
        assert kit.enrol(token, name=f"cam-{number}").status_code == 200
    assert is_problem(kit.enrol(token, name="cam-3"), 403, "token_refused")
    assert {row.labels["line"] for row in devices(kit).values()} == {"2"}


def test_an_expired_token_is_refused_for_retries_too(kit):
    token, key = kit.enrol_token(expires_seconds=60), new_key()
    kit.enrol(token, key)
    kit.clock.now += 120
    assert "expired 1 minutes ago" in is_problem(kit.enrol(token, key), 403, "token_refused")


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "0123456789abcdef.secret.ff", "." * 200])
def test_what_is_no_token_is_refused(kit, token):
    is_problem(kit.enrol(token), 403, "token_refused")
    assert devices(kit) == {}


def test_a_token_with_another_secret_is_refused(kit):
    identifier, _, fingerprint = kit.enrol_token().split(".")
    is_problem(kit.enrol(f"{identifier}.guess.{fingerprint}"), 403, "token_refused")


def test_only_hashes_of_tokens_are_kept(kit):
    secret = kit.enrol_token().split(".")[1]
    data = (kit.hub.config.data / "hub.db").read_bytes()
    wal = kit.hub.config.data / "hub.db-wal"
    assert secret.encode() not in data + (wal.read_bytes() if wal.exists() else b"")


def test_a_device_without_a_name_is_given_one(kit):
    name = kit.enrol(kit.enrol_token(), name="").json()["device"]
    assert name.startswith("dev-")


def test_a_token_for_one_device_is_good_for_no_other(kit):
    token = kit.enrol_token(device="cam-7")
    assert "cam-7" in is_problem(kit.enrol(token, name="cam-8"), 422, "invalid")
    assert kit.enrol(token, name="").json()["device"] == "cam-7"


def test_a_known_device_gets_no_new_key_from_a_batch_token(kit):
    token = kit.enrol_token(uses=5)
    kit.enrol(token)
    detail = is_problem(kit.enrol(token), 409, "conflict")
    assert "enroll-token --device cam-1" in detail


def test_a_known_device_gets_a_new_key_from_a_token_made_for_it(kit):
    first = kit.enrol(kit.enrol_token())
    second = kit.enrol(kit.enrol_token(device="cam-1"))
    assert second.status_code == 200
    with kit.hub.store.read() as session:
        revoked = enrolment.revoked_certificates(session, kit.clock())
    assert [int(number, 16) for number, _, _ in revoked] == [serial(first)]
    with kit.hub.store.read() as session:
        actions = session.exec(select(Audit.action).where(Audit.subject == "cam-1")).all()
    assert list(actions) == ["device.enrol", "device.enrol-again"]
    assert serial(second) != serial(first)


def test_a_revoked_device_never_comes_back_by_itself(kit):
    token, key = kit.enrol_token(uses=5), new_key()
    kit.enrol(token, key)
    answer = kit.http.post(f"{API}/devices/cam-1/revoke", headers=kit.as_("operator"))
    assert answer.json()["revoked"]
    is_problem(kit.enrol(token, key), 409, "conflict")
    is_problem(kit.enrol(token), 409, "conflict")
    is_problem(kit.enrol(kit.enrol_token(device="cam-1")), 409, "conflict")
    assert devices(kit)["cam-1"].revoked
    with kit.hub.store.read() as session:
        assert len(enrolment.revoked_certificates(session, kit.clock())) == 1


def test_revoking_takes_every_certificate_until_it_would_have_expired(kit):
    kit.enrol(kit.enrol_token())
    kit.http.post(f"{API}/devices/cam-1/revoke", headers=kit.as_("operator"))
    with kit.hub.store.read() as session:
        rows = session.exec(select(Certificate)).all()
        assert all(row.revoked is not None for row in rows)
        assert enrolment.revoked_certificates(session, kit.clock() + 400 * 86_400) == []


def test_a_refused_enrolment_changes_nothing(kit):
    token = kit.enrol_token()
    body = {"token": token, "csr_pem": "holiday photo"}
    is_problem(kit.http.post(f"{API}/enroll", json=body), 422, "invalid")
    is_problem(kit.enrol(token, name="../../etc"), 422, "invalid")
    is_problem(kit.enrol(token, name="_hub"), 422, "invalid")
    assert devices(kit) == {}
    with kit.hub.store.read() as session:
        assert session.exec(select(EnrolToken)).one().uses_left == 1


def test_enrolment_is_audited_without_its_secret(kit):
    token = kit.enrol_token()
    kit.enrol(token)
    with kit.hub.store.read() as session:
        rows = session.exec(select(Audit).order_by(Audit.id)).all()
    assert [row.action for row in rows] == ["hub.init", "enrol-token.make", "device.enrol"]
    assert token.split(".")[1] not in str([row.model_dump() for row in rows])


@pytest.mark.parametrize(
    "ask",
    [
        {"uses": 0},
        {"uses": 2, "device": "cam-1"},
        {"labels": {"no spaces": "x"}},
        {"labels": {"site": ""}},
        {"labels": {str(number): "x" for number in range(40)}},
        {"expires_seconds": 0},
        {"device": "not/an/id"},
        {"surprise": 1},
    ],
)
def test_a_token_that_makes_no_sense_is_not_made(kit, ask):
    answer = kit.http.post(f"{API}/enroll-tokens", json=ask, headers=kit.as_("operator"))
    is_problem(answer, 422, "invalid")


def test_only_operators_make_tokens(kit):
    for role in ("viewer", "releaser"):
        answer = kit.http.post(f"{API}/enroll-tokens", json={}, headers=kit.as_(role))
        is_problem(answer, 403, "forbidden")


@settings(max_examples=60, deadline=None)
@given(labels=st.dictionaries(st.text(max_size=70), st.text(max_size=70), max_size=40))
def test_labels_are_accepted_exactly_when_a_selector_can_name_them(labels):
    try:
        enrolment.check_labels(labels)
    except Invalid:
        return
    for word in [*labels, *labels.values()]:
        assert word.isascii()
        assert word[0].isalnum()
        assert word[-1].isalnum()


@pytest.fixture(scope="module")
def lasting(tmp_path_factory):
    made = open_kit(tmp_path_factory.mktemp("lasting"))
    yield made
    made.close()


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=300))
def test_no_text_offered_as_a_token_does_anything_but_be_refused(lasting, text):
    hub = lasting.hub
    request = csr(new_key(), "cam-1")
    with pytest.raises(enrolment.EnrolmentTokenRefused), hub.store.write() as session:
        enrolment.enrol(session, hub.pki, text, request, {}, hub.clock())
