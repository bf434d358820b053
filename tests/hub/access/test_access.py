"""Revocation reaches a running broker: the live connection ends and no new one is made."""

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sqlmodel import select

from muster_hub.identity import parsing, pki
from muster_hub.mqtt.access import CRL_RENEW_SECONDS, BrokerFiles, Gatekeeper
from muster_hub.mqtt.broker import Broker, own_user
from muster_hub.mqtt.broker_config import BrokerConfig
from muster_hub.storage import models
from muster_hub.storage.store import Store
from support.broker_kit import DeviceClient
from support.hub_store import open_store
from support.ports import HOST, free_port
from support.waiting import eventually


class Gate:
    """The hub's own authority, a store and a broker that asks both who may enter."""

    def __init__(self, directory: Path, store: Store) -> None:
        self.directory = directory
        self.store = store
        self.pki = pki.create(directory / "ca", "test", time.time())
        self.files = BrokerFiles(directory / "broker", self.pki, store)
        self.files.prepare(("localhost", HOST), time.time())
        self.broker = Broker(
            BrokerConfig(
                directory=directory / "broker",
                host=HOST,
                port=free_port(),
                ca=self.files.ca,
                certificate=self.files.certificate,
                key=self.files.key,
                crl=self.files.crl,
                run_as=own_user(),
            )
        )
        self.broker.start()
        self.keeper = Gatekeeper(
            self.files, self.broker.address, reload=self.broker.reload, now=time.time
        )
        self.keeper.start()

    @property
    def ca(self) -> Path:
        return self.files.ca

    def issue(self, device: str) -> tuple[Path, Path]:
        """Enrol a device; the same certificate again for one that is enrolled."""
        certificate, key_file = self.directory / f"{device}.pem", self.directory / f"{device}.key"
        if certificate.exists():
            return certificate, key_file
        key = ec.generate_private_key(ec.SECP256R1())
        csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        request = parsing.read_request(
            csr.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        )
        issued = self.pki.issue_device(request, device, time.time())
        certificate.write_bytes(issued.pem)
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        with self.store.write() as session:
            session.add(
                models.Certificate(
                    serial=issued.serial,
                    device=device,
                    key_fingerprint=issued.key_fingerprint,
                    pem=issued.pem.decode(),
                    issued=time.time(),
                    expires=issued.expires,
                )
            )
        return certificate, key_file

    def revoke(self, device: str) -> None:
        with self.store.write() as session:
            rows = session.exec(
                select(models.Certificate).where(models.Certificate.device == device)
            )
            for row in rows:
                row.revoked = time.time()
        self.keeper.wake()


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    store = open_store(tmp_path, "dev-1", "dev-2")
    gate = Gate(tmp_path, store)
    yield gate
    gate.keeper.stop()
    gate.broker.stop()
    store.close()


def connect(gate: Gate, device: str) -> DeviceClient:
    return DeviceClient(gate, gate.broker.config.port, device)  # type: ignore[arg-type]  # issues as an Authority does


def test_a_revoked_device_is_put_out_and_stays_out(gate: Gate):
    thief, good = connect(gate, "dev-1"), connect(gate, "dev-2")
    try:
        gate.revoke("dev-1")
        assert thief.disconnected.wait(60)
        with pytest.raises((OSError, AssertionError)):
            connect(gate, "dev-1")
        again = connect(gate, "dev-2")
        again.close()
    finally:
        thief.close()
        good.close()


def shown(gate: Gate) -> bytes:
    """The certificate with which the broker meets a device."""
    context = ssl.create_default_context(cafile=gate.ca)
    context.load_cert_chain(*gate.issue("dev-2"))
    with (
        socket.create_connection((HOST, gate.broker.config.port), timeout=60) as plain,
        context.wrap_socket(plain, server_hostname=HOST) as secured,
    ):
        return secured.getpeercert(binary_form=True) or b""


def test_a_broker_that_runs_for_long_is_given_a_new_certificate_and_keeps_its_connections(
    gate: Gate,
):
    """In a year without a restart its first one would end, and no device could connect."""
    device, first = connect(gate, "dev-1"), shown(gate)
    try:
        almost_over = gate.pki.issue_server(("localhost", HOST), time.time() - 310 * 86_400)
        gate.files.certificate.write_bytes(almost_over.certificate_pem)
        gate.files.key.write_bytes(almost_over.key_pem)
        gate.keeper.wake()
        assert eventually(lambda: shown(gate) != first)
        fresh = x509.load_der_x509_certificate(shown(gate))
        assert fresh.not_valid_after_utc.timestamp() > time.time() + 300 * 86_400
        assert device.publish("muster/v1/up/dev-1/report", b"x") != "Not authorized"
        assert not device.disconnected.is_set()
    finally:
        device.close()


def test_chores_are_done_at_every_check(gate: Gate):
    done = threading.Event()
    gate.keeper.chores.append(done.set)
    gate.keeper.wake()
    assert done.wait(60)


def test_the_list_is_rewritten_only_when_it_changed_or_grows_old(gate: Gate):
    gate.issue("dev-1")
    now = time.time()
    assert gate.files.refresh_crl(now) is None
    before = gate.files.crl.read_bytes()
    assert gate.files.refresh_crl(now + CRL_RENEW_SECONDS + 1) == frozenset()
    assert gate.files.crl.read_bytes() != before


def test_a_good_server_certificate_is_kept_and_one_for_other_names_replaced(gate: Gate):
    held = gate.files.certificate.read_bytes()
    gate.files.prepare(("localhost", HOST), time.time())
    assert gate.files.certificate.read_bytes() == held
    gate.files.prepare(("hub.example",), time.time())
    assert gate.files.certificate.read_bytes() != held
