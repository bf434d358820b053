"""Directives are signed anew when the director's key was rotated, or when they would run out."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from securesystemslib.signer import CryptoSigner
from sqlmodel import col, select

from muster_hub.signing.directives import DirectiveSigner
from muster_hub.storage import models
from support.hub_engine import Plant

DEVICES = ("p1", "p2")


class Keys:
    """The director's key, which may be rotated."""

    def __init__(self) -> None:
        self.now = CryptoSigner.generate_ed25519()

    def rotate(self) -> None:
        self.now = CryptoSigner.generate_ed25519()


@pytest.fixture
def keys() -> Keys:
    return Keys()


@pytest.fixture
def plant(tmp_path: Path, keys: Keys) -> Iterator[Plant]:
    plant = Plant(tmp_path, *DEVICES, signing=DirectiveSigner(lambda: keys.now))
    plant.publish("1")
    plant.start("1")
    plant.tick()
    yield plant
    plant.close()


def envelopes(plant: Plant, device: str) -> list[tuple[int, str]]:
    """Generation and signing key of each directive ever put out for a device."""
    with plant.store.read() as session:
        rows = session.exec(
            select(models.OutboxMessage)
            .where(models.OutboxMessage.topic == f"muster/v1/down/{device}/directive")
            .order_by(col(models.OutboxMessage.id))
        ).all()
    signers = [msgspec.json.decode(row.payload)["signatures"][0]["keyid"] for row in rows]
    held = [directive for directive in plant.messages(device) if directive is not None]
    return [(item.generation, keyid) for item, keyid in zip(held, signers, strict=True)]


def test_a_rotated_director_key_signs_every_directive_anew_under_the_same_generation(
    plant: Plant, keys: Keys
) -> None:
    old = keys.now.public_key.keyid
    plant.tick()
    keys.rotate()
    new = keys.now.public_key.keyid
    plant.tick()
    plant.tick()
    for device in DEVICES:
        assert envelopes(plant, device) == [(1, old), (1, new)]


def test_half_way_to_its_end_a_directive_is_renewed_under_the_same_generation(
    plant: Plant,
) -> None:
    half = plant.settings.valid_seconds / 2
    plant.tick(half - 10)
    assert len(envelopes(plant, "p1")) == 1
    plant.tick(10)
    assert [generation for generation, _ in envelopes(plant, "p1")] == [1, 1]
