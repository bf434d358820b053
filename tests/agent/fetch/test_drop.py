"""An update carried in on a stick: the same signatures and hashes, and a signed receipt."""

import base64
import hashlib
import shutil

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from muster_agent.fetch import drop
from muster_agent.identity.identity import IdentityError
from muster_protocol.wire import topics
from muster_protocol.wire.errors import Refusal
from support.agent_faults import Fuse, PowerCut
from support.agent_world import DEVICE, Device, World
from support.pki import Authority


@pytest.fixture(scope="module")
def identity(tmp_path_factory):
    """An identity directory of the device."""
    directory = tmp_path_factory.mktemp("pki")
    authority = Authority(directory)
    pair = authority.issue(DEVICE)
    made = directory / "identity"
    made.mkdir()
    for source, name in ((pair.key, "key"), (pair.cert, "cert"), (authority.cert, "ca")):
        shutil.copy(source, made / f"{name}.pem")
    return made


@pytest.fixture
def world():
    return World()


@pytest.fixture
def device(world, tmp_path, identity):
    made = Device(world, tmp_path / "device")
    shutil.copytree(identity, made.directory / "identity")
    made.linked = False
    made.boot()
    yield made
    if made.supervisor is not None:
        made.cut()


def export(world, stick):
    """What a hub has published, as files."""
    for topic, data in world.broker.retained.items():
        digest, file = topics.parse_chunk(topic), topics.parse_tuf(topic)
        if digest is not None:
            place = stick / "chunks" / digest
        elif file is not None:
            place = stick / "tuf" / file
        elif topic == topics.down(DEVICE, "directive"):
            place = stick / "directives" / f"{DEVICE}.json"
        else:
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    return stick


def carry(device, stick):
    return drop.take(stick, device.directory, device.world.clock, 0)


def test_a_device_without_a_link_is_updated_from_a_folder(world, device, tmp_path):
    world.direct(world.release("1", size=1_000_000))
    carry(device, export(world, tmp_path / "stick"))
    device.run(120)
    assert (device.step, device.serving) == ("committed", ["1"])
    assert not (device.directory / "drop").exists()
    world.direct(world.release("2", size=1_000_000))
    carry(device, export(world, tmp_path / "next"))
    device.run(150)
    assert (device.step, device.serving) == ("committed", ["2"])


def test_the_receipt_says_what_was_taken_and_the_devices_key_signs_it(world, device, tmp_path):
    world.direct(world.release("1"))
    stick = export(world, tmp_path / "stick")
    done = carry(device, stick)
    signed = msgspec.json.decode(done.receipt.read_bytes(), type=drop.SignedReceipt)
    data = base64.b64decode(signed.receipt)
    key = x509.load_pem_x509_certificate(signed.certificate.encode()).public_key()
    key.verify(
        base64.b64decode(signed.signature), drop.RECEIPT_PREFIX + data, ec.ECDSA(hashes.SHA256())
    )
    receipt = msgspec.json.decode(data, type=drop.Receipt)
    names = sorted(path.name for path in (stick / "chunks").iterdir())
    assert (receipt.device, receipt.chunks) == (DEVICE, len(names))
    assert receipt.digest == hashlib.sha256("".join(f"{n}\n" for n in names).encode()).hexdigest()
    assert receipt.directive


def test_a_manifest_the_release_keys_did_not_sign_stays_out_by_stick_too(world, device, tmp_path):
    world.direct(world.release("1", signed=False))
    carry(device, export(world, tmp_path / "stick"))
    device.run(120)
    assert (device.step, device.serving) == ("failed", [])
    assert device.refusal == Refusal.UNSIGNED_MANIFEST


def test_a_directive_for_another_device_is_refused_whatever_its_file_is_called(
    world, device, tmp_path
):
    world.direct(world.release("1"), device="dev-2")
    carry(device, export(world, tmp_path / "stick"))
    device.run(120)
    assert device.serving == []
    assert device.supervisor.report().refusal == Refusal.WRONG_DEVICE


def test_a_damaged_copy_is_refused_by_name_and_leaves_no_receipt(world, device, tmp_path):
    world.direct(world.release("1"))
    stick = export(world, tmp_path / "stick")
    damaged = next((stick / "chunks").iterdir())
    damaged.write_bytes(b"other")
    with pytest.raises(drop.DropError, match="the copy is damaged"):
        carry(device, stick)
    assert not (stick / "receipts").exists()
    assert not (device.directory / "drop").exists()


@pytest.mark.parametrize("name", ["chunks/readme.txt", "tuf/evil.sh", "chunks/" + "a" * 63])
def test_files_that_do_not_belong_are_refused(world, device, tmp_path, name):
    world.direct(world.release("1"))
    stick = export(world, tmp_path / "stick")
    (stick / name).write_bytes(b"x")
    with pytest.raises(drop.DropError, match=name.rsplit("/", 1)[1]):
        carry(device, stick)


def test_a_link_out_of_the_folder_is_not_followed(world, device, tmp_path):
    world.direct(world.release("1"))
    stick = export(world, tmp_path / "stick")
    secret = b"not for the store"
    (tmp_path / "secret").write_bytes(secret)
    (stick / "chunks" / hashlib.sha256(secret).hexdigest()).symlink_to(tmp_path / "secret")
    with pytest.raises(drop.DropError, match="not a regular file"):
        carry(device, stick)


def test_no_room_an_unfinished_import_and_no_identity_are_each_said(world, device, tmp_path):
    world.direct(world.release("1"))
    stick = export(world, tmp_path / "stick")
    with pytest.raises(drop.DropError, match="bytes are needed"):
        drop.take(stick, device.directory, world.clock, 1 << 60)
    carry(device, stick)
    with pytest.raises(drop.DropError, match="isn't taken up yet"):
        carry(device, stick)
    shutil.rmtree(device.directory / "identity")
    with pytest.raises(IdentityError):
        carry(device, stick)


def test_a_stick_fills_in_what_a_broken_link_left_out(world, device, tmp_path):
    goal = world.release("1", size=1_000_000)
    world.direct(goal)
    stick = export(world, tmp_path / "stick")
    for topic in [topic for topic in world.broker.retained if topics.parse_chunk(topic)]:
        del world.broker.retained[topic]
    device.link.start()
    device.run(8)
    assert device.step == "fetching"
    carry(device, stick)
    device.run(60)
    assert device.step == "committed"


def test_a_power_cut_while_a_folder_is_taken_up_only_delays_it(world, device, tmp_path):
    world.direct(world.release("1", size=2_000_000))
    carry(device, export(world, tmp_path / "stick"))
    device.cut()
    for step in (2, 5, 9, 15, 25, 40):
        try:
            device.boot(Fuse(step))
            device.run(60)
        except PowerCut:
            device.cut()
    if device.supervisor is None:
        device.boot()
    device.run(200)
    assert (device.step, device.serving) == ("committed", ["1"])
    assert list(device.store.problems()) == []
