"""A rollout counts a device whose key is in hardware only when that key proves what it runs."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from sqlmodel import select

from muster_hub.identity import parsing, pki
from muster_hub.storage import models
from muster_protocol.wire import messages, proof
from muster_protocol.wire.messages import Facts, Report, Running, SlotReport, Update
from support.hub_engine import SLOT, Plant
from support.hub_kit import csr, new_key
from support.hub_store import stamp

DEVICE = "d1"


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    plant = Plant(tmp_path, DEVICE)
    plant.publish("1")
    yield plant
    plant.close()


def certified(plant: Plant, directory: Path):
    """Give the device a certificate; the key that signs its reports."""
    key = new_key()
    authority = pki.create(directory / "ca", "Muster CA", plant.now)
    made = authority.issue_device(
        parsing.read_request(csr(key, DEVICE).encode()), DEVICE, plant.now
    )
    with plant.store.write() as session:
        session.add(
            models.Certificate(
                serial=made.serial, device=DEVICE, key_fingerprint=made.key_fingerprint,
                pem=made.pem.decode(), issued=plant.now, expires=made.expires,
            )
        )  # fmt: skip
    return key


def committed(plant: Plant, key_place: str, sign=None) -> None:
    """Have the device report that it runs what its directive asks for."""
    held = plant.directive(DEVICE)
    assert held is not None
    goal = held.slots[SLOT].champion
    running = Running(
        model=goal.model, version=goal.version, manifest=goal.manifest, runtime="onnx",
        since=stamp(1.0),
    )  # fmt: skip
    report = Report(
        at=stamp(2.0), epoch=held.epoch, generation=held.generation,
        slots={SLOT: SlotReport(health="ok", running=running, update=Update(state="committed"))},
        facts=Facts(agent_version="1", key=key_place),
    )  # fmt: skip
    if sign is not None:
        signature = sign(proof.statement(DEVICE, report))
        report = msgspec.structs.replace(report, proof=signature)
    plain = msgspec.to_builtins(messages.decode(messages.encode(report), Report))
    plant.change(DEVICE, report=plain, reported=plant.now, last_seen=plant.now)


def state(plant: Plant, number: int) -> str:
    for _ in range(3):
        plant.tick()
    return plant.states(number)[DEVICE]


def signer(key):
    return lambda data: key.sign(data, ec.ECDSA(hashes.SHA256()))


@pytest.mark.parametrize(
    ("required", "key_place", "counts"),
    [
        (None, "file", True),
        (None, "", True),
        (None, "hardware", False),
        (False, "hardware", True),
        (True, "file", False),
    ],
)
def test_whose_word_alone_counts(plant: Plant, tmp_path, required, key_place, counts):
    certified(plant, tmp_path)
    number = plant.start("1", require_proof=required)
    plant.tick()
    committed(plant, key_place)
    assert state(plant, number) == ("committed" if counts else "in_progress")


def test_a_proof_counts_and_a_forged_one_does_not(plant: Plant, tmp_path: Path):
    key = certified(plant, tmp_path)
    number = plant.start("1")
    plant.tick()
    committed(plant, "hardware", sign=signer(new_key()))
    assert state(plant, number) == "in_progress"
    with plant.store.read() as session:
        row = session.get(models.RolloutDevice, (number, DEVICE))
        alerts = set(session.exec(select(models.Alert.kind)))
    assert row is not None
    assert "without proof" in row.detail
    assert "doubt" in alerts
    committed(plant, "hardware", sign=signer(key))
    assert state(plant, number) == "committed"
