"""A certificate authority, a real broker on free ports and plain MQTT clients for the tests."""

import datetime as dt
import ipaddress
import queue
import socket
import ssl
import threading
from pathlib import Path

import paho.mqtt.client as paho
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from muster_hub.mqtt.broker import own_user
from muster_hub.mqtt.broker_config import BrokerConfig
from support.ports import HOST, free_port
from support.waiting import PATIENCE_SECONDS, eventually


class Authority:
    """A certificate authority in a folder; ``issue`` writes ``<name>.pem`` and ``<name>.key``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self.ca = directory / "ca.pem"
        certificate = self._builder(self._name, self._key.public_key())
        certificate = certificate.add_extension(x509.BasicConstraints(True, 0), critical=True)
        self.ca.write_bytes(_pem(certificate.sign(self._key, hashes.SHA256())))

    def issue(self, name: str) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._builder(subject, key.public_key()).add_extension(
            x509.SubjectAlternativeName(
                [
                    x509.DNSName("localhost"),
                    x509.IPAddress(ipaddress.ip_address(HOST)),
                ]
            ),
            critical=False,
        )
        certificate, path = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        certificate.write_bytes(_pem(builder.sign(self._key, hashes.SHA256())))
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return certificate, path

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey
    ) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=1))
        )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def broker_config(
    authority: Authority, directory: Path, port: int | None = None, memory: int | None = None
) -> BrokerConfig:
    certificate, key = authority.issue("broker")
    return BrokerConfig(
        directory=directory,
        host=HOST,
        port=port or free_port(),
        ca=authority.ca,
        certificate=certificate,
        key=key,
        run_as=own_user(),
        memory_bytes_max=memory,
    )


class Glutton:
    """A device that subscribes to a filter, takes any number at once, and never reads."""

    def __init__(self, authority: Authority, port: int, device: str, wanted: str) -> None:
        certificate, key = authority.issue(device)
        context = ssl.create_default_context(cafile=authority.ca)
        context.load_cert_chain(certificate, key)
        connection = socket.create_connection((HOST, port))
        self._socket = context.wrap_socket(connection, server_hostname=HOST)
        receive_maximum = b"\x03\x21\xff\xff"
        body = b"\0\4MQTT\5\2\0\x3c" + receive_maximum + _text(device)
        self._socket.sendall(bytes([0x10, len(body)]) + body)
        assert self._packet() == 0x20, "let in"
        body = b"\0\1\0" + _text(wanted) + b"\1"
        self._socket.sendall(bytes([0x82, len(body)]) + body)
        assert self._packet() == 0x90, "granted, as Mosquitto does"

    def _packet(self) -> int:
        """Read one short packet; its type."""
        kind, length = self._socket.recv(1) + self._socket.recv(1)
        while length:
            length -= len(self._socket.recv(length))
        return kind

    def close(self) -> None:
        self._socket.close()


def _text(value: str) -> bytes:
    return len(value).to_bytes(2, "big") + value.encode()


class DeviceClient:
    """A device as the broker sees it: certificate, client id of its choice, MQTT 5."""

    def __init__(
        self, authority: Authority, port: int, device: str, *, client_id: str | None = None
    ) -> None:
        certificate, key = authority.issue(device)
        self.received: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self.acked: queue.Queue[str] = queue.Queue()
        self.connected = threading.Event()
        self.disconnected = threading.Event()
        context = ssl.create_default_context(cafile=authority.ca)
        context.load_cert_chain(certificate, key)
        self._paho = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id or device,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
        )
        self._paho.tls_set_context(context)
        self._paho.on_connect = lambda *_: self.connected.set()
        self._paho.on_disconnect = lambda *_: self.disconnected.set()
        self._paho.on_message = lambda _c, _u, m: self.received.put((m.topic, m.payload))
        self._paho.on_publish = lambda _c, _u, _m, reason, _p: self.acked.put(str(reason))
        self._paho.on_subscribe = lambda *_: self.acked.put("subscribed")
        self._paho.connect(HOST, port)
        self._paho.loop_start()
        # Whom the broker refuses it disconnects, in TLS 1.3 only after the handshake.
        assert eventually(lambda: self.connected.is_set() or self.disconnected.is_set())
        assert self.connected.is_set()

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> str:
        """Publish and return the broker's reason code in words."""
        self._paho.publish(topic, payload, qos=1, retain=retain)
        return self.acked.get(timeout=60)

    def send(self, topic: str, payload: bytes) -> None:
        """Publish without waiting for the broker."""
        self._paho.publish(topic, payload, qos=1)

    def subscribe(self, topic: str) -> None:
        self._paho.subscribe(topic, qos=1)
        assert self.acked.get(timeout=60) == "subscribed"

    def next(self, timeout: float = PATIENCE_SECONDS) -> tuple[str, bytes]:
        return self.received.get(timeout=timeout)

    def close(self) -> None:
        self._paho.disconnect()
        self._paho.loop_stop()
