"""A device whose key lies on a PKCS#11 token: it enrols, connects, proves and renews with it."""

import datetime as dt
import queue
import random
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from muster_agent.identity import identity, tls
from muster_agent.identity.contact import Contacts
from muster_agent.identity.enroll import EnrolError, EnrolmentRequest, enroll
from muster_agent.identity.hardware_key import HardwareKeyError, check_uri, open_key
from muster_agent.identity.proof import prover
from muster_agent.identity.renewal import Renewal
from muster_agent.link.link import Connected, LinkEvent
from muster_agent.link.mqtt import MqttLink, MqttSettings
from muster_agent.trust.time import BUILD_TIME, DAY_SECONDS, ClockReading, Instant
from muster_hub.identity.proof import proved_slots
from muster_protocol.wire import topics
from muster_protocol.wire.contact import BrokerAddress
from support import softhsm
from support.enrol_hub import EnrolHub
from support.mosquitto import Mosquitto
from support.pki import DAY, Authority
from support.tuf_repository import Repository
from wire_samples import MESSAGES

START = dt.datetime.fromtimestamp(BUILD_TIME, dt.UTC)
ROOT = Repository().factory_root


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, start=START - DAY, end=START + 90 * DAY)


@pytest.fixture
def hub(tmp_path: Path, authority: Authority) -> Iterator[EnrolHub]:
    with EnrolHub(tmp_path, authority, ROOT) as running:
        yield running


@pytest.fixture
def uri() -> str:
    token = softhsm.token()
    return token.device_uri(token.new_key(softhsm.DEVICE))


@pytest.fixture
def device(tmp_path: Path, hub: EnrolHub, uri: str) -> Path:
    """The directory of a device that enrolled with a key on the token."""
    join(hub, tmp_path, uri)
    return tmp_path / "device"


def join(hub: EnrolHub, directory: Path, uri: str) -> None:
    (directory / "root.json").write_bytes(ROOT)
    request = EnrolmentRequest(
        directory / "device", hub.url, hub.token, root_file=directory / "root.json", key_uri=uri
    )
    enroll(request, ClockReading(60.0, "unknown"))


def test_enrolment_writes_the_key_s_name_and_no_key(device: Path, hub: EnrolHub) -> None:
    names = {path.name for path in (device / "identity").iterdir()}
    assert names == {"key.uri", "cert.pem", "ca.pem"}
    assert (device / "identity" / "key.uri").stat().st_mode & 0o777 == 0o600
    who = identity.load(device / "identity")
    assert who.device == "dev-1"
    csr = x509.load_pem_x509_csr(hub.requests[0]["csr_pem"].encode())
    assert csr.is_signature_valid
    assert not any(b"PRIVATE" in path.read_bytes() for path in device.rglob("*") if path.is_file())


def test_it_connects_to_a_real_broker_over_mutual_tls(
    tmp_path: Path, device: Path, authority: Authority
) -> None:
    who = identity.load(device / "identity")
    inbox: queue.Queue[LinkEvent] = queue.Queue()
    with Mosquitto(tmp_path, authority) as broker:
        settings = MqttSettings("127.0.0.1", broker.port, who.device, who.key, who.cert, who.ca)
        now = Instant(BUILD_TIME, "floor")
        link = MqttLink(settings, (topics.up("dev-1", "presence"), b""), inbox.put, lambda: now)
        link.start()
        try:
            assert inbox.get(timeout=60) == Connected()
        finally:
            link.stop()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_versions_of_tls_sign_with_it(
    device: Path, authority: Authority, version: ssl.TLSVersion
) -> None:
    who = identity.load(device / "identity")
    client = tls.context(who.ca, key=who.key, cert=who.cert)
    client.minimum_version = client.maximum_version = version
    pair = authority.issue("server", hosts=("localhost",))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pair.cert, pair.key)
    server.load_verify_locations(who.ca)
    server.verify_mode = ssl.CERT_REQUIRED
    server.verify_flags |= ssl.VerifyFlags(0x20_0000)  # the authority's days are not today
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(to_client, to_server, server_hostname="localhost")
    far = server.wrap_bio(to_server, to_client, server_side=True)
    done: set[str] = set()
    for _ in range(10):
        for name, side in (("near", near), ("far", far)):
            try:
                side.do_handshake()
                done.add(name)
            except ssl.SSLWantReadError:
                continue
    assert done == {"near", "far"}
    shown = far.getpeercert(binary_form=True)
    assert shown == ssl.PEM_cert_to_DER_cert(who.cert.read_text())


def test_reports_are_proved_with_it(device: Path) -> None:
    report = MESSAGES["report"]
    signed = prover("dev-1", device / "identity")(report)
    certificate = (device / "identity" / "cert.pem").read_text()
    plain = msgspec.to_builtins(msgspec.structs.replace(report, proof=signed))
    assert proved_slots("dev-1", plain, [certificate])


def test_renewal_keeps_the_key_and_changes_the_certificate(
    device: Path, authority: Authority
) -> None:
    place = device / "identity"
    later = Instant(BUILD_TIME + 80 * DAY_SECONDS, "floor")
    contacts = Contacts(place, hub="https://127.0.0.1:1", broker=BrokerAddress("127.0.0.1", 1))
    renewal = Renewal(place, contacts, lambda: later, random.Random("hsm"))
    asked = renewal.question(0.0)
    assert asked is not None
    before = (place / "cert.pem").read_bytes()
    renewal.answered(authority.sign_csr(asked[1].decode(), "dev-1").encode())
    assert renewal.ready
    assert [path.name for path in renewal.begin()] == ["key.uri", "cert.pem.new"]
    renewal.connected()
    assert (place / "cert.pem").read_bytes() != before
    assert {path.name for path in place.iterdir()} == {"key.uri", "cert.pem", "ca.pem"}
    assert identity.load(place).device == "dev-1"


def test_its_signatures_are_what_cryptography_verifies(uri: str) -> None:
    key = open_key(uri)
    for size in (0, 1, 100, 100_000):
        data = bytes(size)
        key.public_key().verify(key.sign(data), data, ec.ECDSA(hashes.SHA256()))


def wrong_pin(uri: str) -> str:
    token = softhsm.token()
    return token.device_uri(token.new_key(softhsm.SHUT), softhsm.SHUT, "0000")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (wrong_pin, "was not found"),
        (lambda uri: uri.replace(softhsm.DEVICE, "nowhere"), "was not found"),
        (lambda uri: uri.replace("pkcs11:", "gopher:"), "names no key"),
    ],
)
def test_a_key_that_can_not_be_used_is_one_line_without_its_pin_and_changes_nothing(
    tmp_path: Path, hub: EnrolHub, uri: str, change: Callable[[str], str], named: str
) -> None:
    with pytest.raises(EnrolError, match=named) as caught:
        join(hub, tmp_path, change(uri))
    assert "\n" not in str(caught.value)
    assert "4711" not in str(caught.value)
    assert "0000" not in str(caught.value)
    assert not (tmp_path / "device" / "identity").exists()
    assert not hub.requests
    join(hub, tmp_path, uri)


def test_a_device_with_a_key_file_does_not_change_to_hardware_in_place(
    tmp_path: Path, hub: EnrolHub, uri: str
) -> None:
    identity.make_key(tmp_path / "device" / "identity" / "key.pem")
    with pytest.raises(EnrolError, match="from an empty directory"):
        join(hub, tmp_path, uri)


def test_a_token_gone_later_is_told_when_the_identity_is_read(device: Path) -> None:
    path = device / "identity" / "key.uri"
    path.write_text(path.read_text().replace(softhsm.DEVICE, "pulled-out"))
    with pytest.raises(identity.IdentityError, match="pulled-out"):
        identity.load(device / "identity")
    with pytest.raises(tls.TlsError, match="pulled-out"):
        tls.context(device / "identity" / "ca.pem", key=path, cert=device / "identity" / "cert.pem")


@pytest.mark.parametrize(
    "uri", ["", "pkcs11:", "key.pem", "pkcs11:a\nb", "pkcs11:" + "x" * 2000, "handle:1"]
)
def test_what_names_no_key_is_refused(uri: str) -> None:
    with pytest.raises(HardwareKeyError):
        check_uri(uri)
