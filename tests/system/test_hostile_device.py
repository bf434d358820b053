"""Three devices on a real hub and broker, one of them hostile: the other two are served at once."""

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from muster_protocol.signals import summary_wire
from muster_protocol.signals.summary import Summary, Tally
from muster_protocol.wire import messages, topics
from muster_protocol.wire.messages import Ack
from support.broker_kit import DeviceClient
from support.hub_kit import csr, new_key
from support.hub_store import batch, stamp, summary
from support.schema import encoded
from support.served import Served
from support.waiting import eventually

pytestmark = pytest.mark.system
HOSTILE, HONEST = "cam-1", ("cam-2", "cam-3")
PATIENCE_SECONDS = 60.0
SERVED_SECONDS = 1.0
ROUNDS = 11


class Enrolled:
    """Devices enrolled at a hub: what ``DeviceClient`` needs of whoever issues certificates."""

    def __init__(self, served: Served, directory: Path) -> None:
        self.ca = served.ca
        self._served, self._directory = served, directory
        self._token = served.ask("/enroll-tokens", {"uses": 3})["token"]

    def issue(self, device: str) -> tuple[Path, Path]:
        key = new_key()
        asked = {"token": self._token, "csr_pem": csr(key, device)}
        answer = self._served.ask("/enroll", asked)
        certificate, private = self._directory / f"{device}.pem", self._directory / f"{device}.key"
        certificate.write_text(answer["certificate_pem"])
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return certificate, private


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path / "hub")
    served.ready()
    yield served
    for process in served.processes:
        process.terminate()
        process.communicate(timeout=60)


@pytest.fixture
def devices(served: Served, tmp_path: Path) -> Iterator[dict[str, DeviceClient]]:
    enrolled = Enrolled(served, tmp_path)
    made = {
        name: DeviceClient(enrolled, served.broker, name)  # type: ignore[arg-type]  # issues as one
        for name in (HOSTILE, *HONEST)
    }
    for name, client in made.items():
        client.subscribe(topics.down(name, "ack"))
    yield made
    for client in made.values():
        client.close()


def row(sequence: object, payload: bytes = b"") -> bytes:
    return encoded([1, bytes(12), [b"boot", 1.0, 0.0, "floor"], [[sequence, payload]]])


def hostile_messages() -> list[tuple[topics.UpLeaf, bytes]]:
    """Each of the kinds that once ended ingest or the engine, for everybody and for good."""
    most = Tally(*[2**53] * len(Tally().values()))
    wide = Summary("digits", "1", "ab" * 32, stamp(0.0), stamp(5.0), counts=most)
    report = {"at": [b"b", 1.0, 0.0, "floor"], "facts": {"agent_version": "1"}}
    grant = {"nonce": bytes(12), "slot": "v", "manifest": "ab" * 32, "generation": 2**63}
    request = bytearray(csr(new_key(), HOSTILE).encode())
    request[120] ^= 1
    windows = {n: summary_wire.encode(wide, merged=True) for n in range(1, 65)}
    return [
        ("telemetry", row(2**63)),
        ("event", row(1, encoded({"kind": "note", "at": report["at"], "generation": 2**63}))),
        ("grant", encoded(grant)),
        ("telemetry", encoded([1, bytes(12), [b"b", float("nan"), 0.0, "floor"], [[1, b""]]])),
        ("report", encoded(report | {"refusal": "a\0b", "generation": 2**64 - 1})),
        ("csr", bytes(request)),
        ("csr", b"-----BEGIN CERTIFICATE REQUEST-----\n" + bytes(64)),
        ("telemetry", batch(windows)),
    ]


def served_within(client: DeviceClient, device: str, sequence: int) -> float:
    """Seconds until a device's row is acknowledged from the database."""
    began = time.monotonic()
    client.send(topics.up(device, "telemetry"), batch({sequence: summary()}))
    while True:
        _, payload = client.next(timeout=PATIENCE_SECONDS)
        if messages.decode(payload, Ack).sequence == sequence:
            return time.monotonic() - began


def hostile_alerts(served: Served) -> list[str]:
    found = served.ask("/alerts?state=open")["items"]
    return [item["device"] for item in found if item["kind"] == "set_aside"]


def test_one_devices_worst_messages_cost_the_others_nothing_and_are_told_under_its_name(
    served: Served, devices: dict[str, DeviceClient], record_property
):
    attack = hostile_messages()
    waits = []
    for turn in range(1, ROUNDS):
        for leaf, payload in attack:
            devices[HOSTILE].send(topics.up(HOSTILE, leaf), payload)
        waits += [served_within(devices[name], name, turn) for name in HONEST]
    median = statistics.median(waits)
    record_property("tried", f"{len(attack) * len(waits) // 2} hostile messages; others were "
                    f"acknowledged within {median * 1000:.0f} ms (median)")  # fmt: skip
    assert median < SERVED_SECONDS
    assert eventually(lambda: hostile_alerts(served) == [HOSTILE]), "an alert is open"
    health = served.health()
    assert health["parts"]["ingest"]["senders"].keys() == {HOSTILE}
    assert health["parts"]["ingest"]["ok"], health
    assert all(part["ok"] for name, part in health["parts"].items() if name.startswith("engine"))
    device = served.ask(f"/devices/{HOSTILE}")
    assert device["set_aside"] >= len(attack)
    assert served.ask(f"/devices/{HOSTILE}/set-aside")["items"]
    assert served.ask(f"/devices/{HOSTILE}/counts")["inferences"] == 0
    assert [served.ask(f"/devices/{name}")["set_aside"] for name in HONEST] == [0, 0]
