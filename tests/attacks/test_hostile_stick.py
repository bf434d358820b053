"""A stick in somebody else's hands: it reaches nothing of the device; an honest one updates it."""

import hashlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from muster_agent.fetch import drop, stick
from muster_agent.fetch.drop import DropError
from muster_protocol.wire import limits, topics
from support.agent_world import DEVICE, Device, World
from support.pki import Authority

KEY = b"-----BEGIN PRIVATE KEY-----"


class Carrier:
    """A device that no link reaches, and what is carried to it."""

    def __init__(self, directory: Path) -> None:
        self.world = World()
        self.device = Device(self.world, directory / "device")
        authority = Authority(directory)
        pair = authority.issue(DEVICE)
        self.identity = self.device.directory / "identity"
        self.identity.mkdir()
        for source, name in ((pair.key, "key"), (pair.cert, "cert"), (authority.cert, "ca")):
            (self.identity / f"{name}.pem").write_bytes(source.read_bytes())
        self.key = self.identity / "key.pem"
        self.key.chmod(0o600)
        self.device.linked = False
        self.device.boot()
        self.directory = directory
        self.stick = self.export("1")

    def export(self, version: str) -> Path:
        """A folder with all that a hub retains of a release."""
        self.world.direct(self.world.release(version))
        made = self.directory / f"stick-{version}"
        for topic, data in self.world.broker.retained.items():
            digest, file = topics.parse_chunk(topic), topics.parse_tuf(topic)
            place = f"chunks/{digest}" if digest else f"tuf/{file}" if file else ""
            if topic == topics.down(DEVICE, "directive"):
                place = f"directives/{DEVICE}.json"
            if place:
                (made / place).parent.mkdir(parents=True, exist_ok=True)
                (made / place).write_bytes(data)
        return made

    def carry(self, folder: Path) -> drop.Imported:
        return drop.take(folder, self.device.directory, self.world.clock, 0)

    def refuses(self, *, says: str) -> None:
        with pytest.raises(DropError, match=says):
            self.carry(self.stick)
        assert not (self.device.directory / "drop").exists()

    def assert_updates(self) -> None:
        """Nothing of the device's key lies elsewhere, and an honest folder updates it."""
        copies = [
            path
            for path in self.directory.rglob("*")
            if path.is_file()
            and not path.is_symlink()
            and path not in (self.key, self.directory / f"{DEVICE}.key")
            and "device" in path.parts
            and KEY in path.read_bytes()
        ]
        assert copies == []
        self.carry(self.export("2"))
        self.device.run(200)
        assert (self.device.step, self.device.serving) == ("committed", ["2"])


@pytest.fixture
def carrier(tmp_path: Path) -> Iterator[Carrier]:
    made = Carrier(tmp_path)
    yield made
    made.device.cut()


@pytest.mark.parametrize("name", [f"directives/{DEVICE}.json", "tuf/99.root.json"])
def test_a_link_to_the_identity_key_is_not_copied(carrier: Carrier, name: str) -> None:
    place = carrier.stick / name
    place.unlink(missing_ok=True)
    place.symlink_to(carrier.key)
    carrier.refuses(says="not a regular file")
    carrier.assert_updates()


@pytest.mark.parametrize("folder", ["chunks", "tuf", "directives", "receipts"])
def test_a_folder_that_is_a_link_is_not_entered(carrier: Carrier, folder: str) -> None:
    outside = carrier.directory / "outside"
    place = carrier.stick / folder
    if place.exists():
        place.rename(outside)
    else:
        outside.mkdir()
    place.symlink_to(outside)
    before = sorted(outside.iterdir())
    carrier.refuses(says="not a directory of its own")
    assert sorted(outside.iterdir()) == before
    carrier.assert_updates()


def test_a_receipt_is_written_to_the_stick_and_nowhere_else(carrier: Carrier) -> None:
    victim = carrier.directory / "victim"
    victim.write_text("precious")
    names = "".join(f"{path.name}\n" for path in sorted((carrier.stick / "chunks").iterdir()))
    digest = hashlib.sha256(names.encode()).hexdigest()
    receipts = carrier.stick / "receipts"
    receipts.mkdir()
    for suffix in ("", ".part"):
        (receipts / f"{DEVICE}-{digest[:12]}.json{suffix}").symlink_to(victim)
    done = carrier.carry(carrier.stick)
    assert victim.read_text() == "precious"
    assert not done.receipt.is_symlink()
    assert done.receipt.stat().st_size > 0
    carrier.device.run(150)
    carrier.assert_updates()


def test_the_folder_itself_behind_a_link_is_refused_by_name(carrier: Carrier) -> None:
    link = carrier.directory / "link"
    link.symlink_to(carrier.stick)
    for folder in (link, link / "..", link / "chunks"):
        with pytest.raises(DropError, match="path without links"):
            carrier.carry(folder)
    carrier.assert_updates()


def test_another_name_of_the_identity_key_is_not_copied(carrier: Carrier) -> None:
    place = carrier.stick / "directives" / f"{DEVICE}.json"
    place.unlink()
    os.link(carrier.key, place)
    carrier.refuses(says="several names")
    carrier.assert_updates()


@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "folder"])
def test_what_is_no_file_is_refused_without_waiting_for_it(carrier: Carrier, kind: str) -> None:
    place = carrier.stick / "tuf" / "99.root.json"
    match kind:
        case "pipe":
            os.mkfifo(place)
        case "socket":
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(os.path.relpath(place))
        case "device":
            try:
                os.mknod(place, 0o600 | 0o020000, os.makedev(1, 5))
            except PermissionError:
                os.mkfifo(place)  # only root makes devices; a pipe is the next best
        case _:
            place.mkdir()
    carrier.refuses(says="not a regular file")
    carrier.assert_updates()


def test_a_file_without_end_is_refused_by_its_size(carrier: Carrier) -> None:
    place = carrier.stick / "tuf" / "99.root.json"
    with place.open("wb") as file:
        file.truncate(1 << 40)
    carrier.refuses(says=f"larger than the {limits.TUF_METADATA_BYTES_MAX} bytes")
    carrier.assert_updates()


def test_names_without_end_are_not_all_read(carrier: Carrier) -> None:
    for number in range(drop.TUF_FILES_MAX + 1):
        (carrier.stick / "tuf" / f"{number + 2}.root.json").write_bytes(b"{}")
    carrier.refuses(says=f"more than {drop.TUF_FILES_MAX} files")
    carrier.assert_updates()


def test_a_name_on_the_stick_writes_nothing_on_the_operators_screen(carrier: Carrier) -> None:
    (carrier.stick / "tuf" / "\x1b]52;c;ZXZpbA==\x07.json").write_bytes(b"{}")
    with pytest.raises(DropError) as caught:
        carrier.carry(carrier.stick)
    assert str(caught.value).isprintable()
    (carrier.stick / "tuf" / "\x1b]52;c;ZXZpbA==\x07.json").unlink()
    carrier.assert_updates()


def test_what_was_imported_is_for_the_agent_alone(carrier: Carrier) -> None:
    carrier.carry(carrier.stick)
    kept = carrier.device.directory / "drop"
    for path in (kept, *kept.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path
    carrier.device.run(150)
    carrier.assert_updates()


def test_a_file_swapped_for_a_link_while_it_is_copied_is_not_followed(carrier: Carrier) -> None:
    """The stick alternates a file and a link to the key as fast as it can: bytes of the key never
    come out, whichever of the two an open meets."""
    folder = carrier.directory / "turning"
    folder.mkdir()
    place, link, file = folder / "x", folder / "link", folder / "file"
    stop = threading.Event()

    def turn() -> None:
        while not stop.is_set():
            link.symlink_to(carrier.key)
            link.replace(place)
            file.write_bytes(b"honest")
            file.replace(place)

    turning = threading.Thread(target=turn)
    turning.start()
    try:
        seen = set()
        with stick.Folder.open(folder) as opened:
            for _ in range(2000):
                try:
                    seen.add(opened.read("x", 4096))
                except DropError:
                    continue
    finally:
        stop.set()
        turning.join()
    assert seen <= {b"honest"}
    carrier.assert_updates()
