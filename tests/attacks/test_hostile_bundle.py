"""Bundles and messages that try to leave their place, or to grow without end, once opened."""

import json
import tracemalloc
import zlib
from collections.abc import Callable

import msgspec
import pytest

from muster_protocol.signals import baseline, summary_wire
from muster_protocol.wire import manifest
from muster_protocol.wire.errors import ProtocolError
from support.trust_device import TrustDevice
from support.tuf_repository import Repository
from wire_samples import MANIFEST

BOMB_BYTES = 64 * 2**20
MARGIN_BYTES = 2**20


@pytest.fixture
def fleet(device: TrustDevice, repository: Repository) -> tuple[TrustDevice, Repository]:
    return device, repository


def assert_updates(fleet: tuple[TrustDevice, Repository]) -> None:
    """What was opened and refused leaves the device able to take the next release."""
    device, repository = fleet
    device.assert_updates(repository)


def altered(field: str, value: object) -> bytes:
    """A manifest whose first file says something else."""
    tree = json.loads(manifest.encode(MANIFEST))
    tree["files"][0][field] = value
    return json.dumps(tree).encode()


@pytest.mark.parametrize(
    "path",
    [
        "../../etc/cron.d/job", "..", "/etc/passwd", "a/b", "a\\b", "~root", ".ssh", "a\x00.onnx",
        "model.onnx/", "C:model", "model\n", "", "manifest.json", "%2e%2e", "\u202egpj.onnx",
    ],
)  # fmt: skip
def test_a_path_that_leaves_the_bundle_is_refused(
    fleet: tuple[TrustDevice, Repository], path: str
) -> None:
    with pytest.raises(ProtocolError):
        manifest.decode(altered("path", path))
    assert_updates(fleet)


@pytest.mark.parametrize("field", ["link", "target", "symlink", "mode", "type", "device"])
def test_a_manifest_can_not_name_links_modes_or_devices(
    fleet: tuple[TrustDevice, Repository], field: str
) -> None:
    with pytest.raises(ProtocolError, match=field):
        manifest.decode(altered(field, "/etc/passwd"))
    assert_updates(fleet)


def test_two_files_of_one_name_are_refused(fleet: tuple[TrustDevice, Repository]) -> None:
    tree = json.loads(manifest.encode(MANIFEST))
    tree["files"].append(tree["files"][0])
    with pytest.raises(ProtocolError):
        manifest.decode(json.dumps(tree).encode())
    assert_updates(fleet)


def peak_bytes(decode: Callable[[], object]) -> int:
    """The memory that opening takes at its worst; it must be refused."""
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError, match="larger than it may be"):
            decode()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_decompression_bomb_is_refused_before_it_unfolds(
    fleet: tuple[TrustDevice, Repository],
) -> None:
    bomb = zlib.compress(bytes(BOMB_BYTES), 9)
    opened = baseline.MAGIC + bytes([baseline.FORMAT]) + bomb
    assert len(opened) < BOMB_BYTES / 500
    assert (
        peak_bytes(lambda: baseline.decode(opened)) < 2 * baseline.INFLATED_BYTES_MAX + MARGIN_BYTES
    )
    parts = [bomb] + [b""] * (len(summary_wire._Parts.__struct_fields__) - 1)
    message = bytes([summary_wire.VERSION]) + msgspec.msgpack.encode(parts)
    # Refused before the baseline is looked at.
    peak = peak_bytes(lambda: summary_wire.decode(message, None))
    assert peak < 2 * summary_wire.INFLATED_BYTES_MAX + MARGIN_BYTES
    assert_updates(fleet)
