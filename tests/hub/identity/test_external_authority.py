"""A hub whose certificate authority was issued by the company's own."""

import datetime as dt
import queue
import ssl
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from muster_agent.identity import identity, tls
from muster_agent.link.link import Connected, LinkEvent
from muster_agent.link.mqtt import MqttLink, MqttSettings
from muster_agent.trust.time import Instant
from muster_hub.admin import main
from muster_hub.errors import ConfigError
from muster_hub.identity import parsing, pki
from muster_hub.mqtt.access import BrokerFiles
from muster_hub.mqtt.broker import Broker, own_user
from muster_hub.mqtt.broker_config import BrokerConfig
from muster_hub.settings import config
from muster_hub.settings.database import sqlite_url
from muster_hub.storage import migrate
from muster_hub.storage.store import Store
from muster_protocol.wire import topics
from support.ports import HOST, free_port

DAY = dt.timedelta(days=1)


class Company:
    """A root, and authorities that it issues for several purposes."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP384R1())
        self.root = self._sign("Company root", self.key.public_key(), "Company root")

    def authority(self, name: str, *, crl: bool = True, ca: bool = True, ended: bool = False):
        key = ec.generate_private_key(ec.SECP256R1())
        made = self._sign(name, key.public_key(), "Company root", crl=crl, ca=ca, ended=ended)
        return [made, self.root], key

    def _sign(self, name, public, issuer, *, crl=True, ca=True, ended=False) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        flags = dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
             "encipher_only", "decipher_only"), False,
        )  # fmt: skip
        usage = x509.KeyUsage(digital_signature=True, key_cert_sign=ca, crl_sign=crl, **flags)
        return (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(_name(issuer))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 2 * DAY)
            .not_valid_after(now - DAY if ended else now + 100 * DAY)
            .add_extension(x509.BasicConstraints(ca, None), critical=True)
            .add_extension(usage, critical=True)
            .sign(self.key, hashes.SHA256())
        )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(
        certificate.public_bytes(serialization.Encoding.PEM) for certificate in certificates
    )


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@pytest.fixture
def company() -> Company:
    return Company()


@pytest.fixture
def authority(company, tmp_path) -> pki.Pki:
    chain, key = company.authority("Muster at the company")
    return pki.adopt(tmp_path / "ca", pem(*chain), key_pem(key), time.time())


def machine(directory: Path, authority: pki.Pki, device: str) -> identity.Identity:
    """An enrolled device; it is given the hub's authority only, not the company's root."""
    key = identity.make_key(directory / "key.pem")
    asked = parsing.read_request(identity.request(key, device).encode())
    (directory / "cert.pem").write_bytes(authority.issue_device(asked, device, time.time()).pem)
    (directory / "ca.pem").write_bytes(authority.ca_pem)
    return identity.load(directory)


def lets_in(broker: Broker, who: identity.Identity, ca: Path) -> bool:
    inbox: queue.Queue[LinkEvent] = queue.Queue()
    settings = MqttSettings(HOST, broker.config.port, who.device, who.key, who.cert, ca)
    now = Instant(int(time.time()), "synchronised")
    link = MqttLink(settings, (topics.up(who.device, "presence"), b""), inbox.put, lambda: now)
    link.start()
    try:
        return inbox.get(timeout=60) == Connected()
    finally:
        link.stop()


def test_the_broker_takes_the_hub_s_devices_and_nobody_else_of_the_company(
    company, authority, tmp_path
):
    store = Store(sqlite_url(tmp_path / "hub.db"))
    migrate.upgrade(store)
    files = BrokerFiles(tmp_path / "broker", authority, store)
    files.prepare((HOST,), time.time())
    broker = Broker(
        BrokerConfig(
            directory=tmp_path / "broker", host=HOST, port=free_port(), ca=files.ca,
            certificate=files.certificate, key=files.key, crl=files.crl, run_as=own_user(),
        )
    )  # fmt: skip
    broker.start()
    try:
        own = machine(tmp_path / "cam-1", authority, "cam-1")
        assert lets_in(broker, own, own.ca)
        chain, key = company.authority("Printers")
        other = pki.adopt(tmp_path / "printers", pem(*chain), key_pem(key), time.time())
        stranger = machine(tmp_path / "printer", other, "cam-1")
        assert not lets_in(broker, stranger, own.ca)
    finally:
        broker.stop()
        store.close()


def test_a_device_trusts_a_hub_by_that_authority_and_not_by_the_company_s_root(
    company, authority, tmp_path
):
    chain, key = company.authority("Printers")
    other = pki.adopt(tmp_path / "printers", pem(*chain), key_pem(key), time.time())
    assert _handshake(tls.context(authority.ca_pem.decode()), authority, tmp_path)
    assert not _handshake(tls.context(authority.ca_pem.decode()), other, tmp_path)


def _handshake(client: ssl.SSLContext, server_authority: pki.Pki, directory: Path) -> bool:
    pair = server_authority.issue_server(("localhost",), time.time())
    (directory / "server.pem").write_bytes(pair.certificate_pem)
    (directory / "server.key").write_bytes(pair.key_pem)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(directory / "server.pem", directory / "server.key")
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(to_client, to_server, server_hostname="localhost")
    far = server.wrap_bio(to_server, to_client, server_side=True)
    done = set()
    for _ in range(6):
        for side in (near, far):
            try:
                side.do_handshake()
                done.add(side)
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError:
                return False
    return done == {near, far}


def test_init_takes_an_authority_and_tokens_carry_its_fingerprint(company, tmp_path):
    chain, key = company.authority("Muster at the company")
    (tmp_path / "chain.pem").write_bytes(pem(*chain))
    (tmp_path / "key.pem").write_bytes(key_pem(key))
    with pytest.raises(SystemExit) as ended:
        main.main(["init", "--data", str(tmp_path / "hub"), "--all-keys-here",
                  "--ca-certificate", str(tmp_path / "chain.pem"),
                  "--ca-key", str(tmp_path / "key.pem")])  # fmt: skip
    assert not ended.value.code
    opened = pki.Pki(config.load(tmp_path / "hub").ca)
    assert opened.ca_fingerprint == chain[0].fingerprint(hashes.SHA256()).hex()
    assert opened.ca_pem == pem(chain[0]) == (tmp_path / "hub" / "ca.pem").read_bytes()
    assert opened.chain_pem == pem(*chain)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda company: company.authority("x", crl=False), "revocation lists"),
        (lambda company: company.authority("x", ca=False), "may not sign"),
        (lambda company: company.authority("x", ended=True), "not valid today"),
        (lambda company: (company.authority("x")[0][:1], None), "not that of"),
        (lambda company: (company.authority("x")[0], None), "not that of"),
    ],
)
def test_what_is_no_authority_is_refused_by_name_and_nothing_is_written(
    company, tmp_path, change, named
):
    chain, key = change(company)
    made = key_pem(key or ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(ConfigError, match=named):
        pki.adopt(tmp_path / "ca", pem(*chain), made, time.time())
    assert not (tmp_path / "ca").exists()


def test_a_chain_without_its_root_or_in_another_order_is_refused(company, tmp_path):
    chain, key = company.authority("x")
    for wrong in (chain[:1], [chain[0], Company().root]):
        with pytest.raises(ConfigError, match="the self-signed root last"):
            pki.adopt(tmp_path / "ca", pem(*wrong), key_pem(key), time.time())
