"""A release from a file: what is signed and whole is installed, beside what runs, and no more."""

import io
import zipfile
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner

from muster_agent.selfupdate import installing, record
from muster_agent.selfupdate.record import Record, TakenBack
from muster_agent.trust.store import TrustStore
from muster_agent.trust.trusted import TrustRefused
from muster_hub.signing import agent_releases
from muster_protocol.wire.agent_release import HEAD
from muster_protocol.wire.errors import MusterError, ProtocolError
from support.tuf_repository import NOW, Repository

CLI = "print({version!r})\n"


def wheel(folder: Path, name: str, version: str, files: dict[str, str]) -> Path:
    """A wheel of nothing but these files, and what pip asks of each."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    files = files | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        "Provides-Extra: agent\nRequires-Dist: pump-part; extra == 'agent'\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    listed = "".join(f"{place},,\n" for place in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(path, "w") as opened:
        for place, text in (files | {f"{info}/RECORD": listed}).items():
            opened.writestr(place, text)
    return path


class Device:
    """Trusts a repository; its agent was started by the launcher."""

    def __init__(self, directory: Path) -> None:
        self.repository = Repository()
        self.directory = directory / "device"
        (self.directory / "trust").mkdir(parents=True)
        (self.directory / "trust" / "root.json").write_bytes(self.repository.factory_root)
        record.change(self.directory, lambda _: Record("a", "1.0", NOW))
        self._folder = directory

    def release(
        self, version: str = "2.0", now: int = NOW, signer: CryptoSigner | None = None
    ) -> bytes:
        files = {"muster_agent/__init__.py": "", "muster_agent/app/__init__.py": "",
                 "muster_agent/app/cli.py": CLI.format(version=version)}  # fmt: skip
        made = [
            wheel(self._folder, "muster_edge", version, files),
            wheel(self._folder, "pump_part", "7", {"pump_part.py": ""}),
        ]
        out = self._folder / f"{version}.agent"
        agent_releases.make(made, ["agent"], signer or self.repository.keys["targets"][0], out, now)
        return out.read_bytes()

    def install(self, data: bytes, *, retry: bool = False, free_bytes_min: int = 0) -> None:
        verify = TrustStore(self.directory / "trust").verify_release
        installing.install(
            io.BytesIO(data), self.directory, verify,
            online=True, retry=retry, free_bytes_min=free_bytes_min,
        )  # fmt: skip

    def refuses(self, data: bytes, kind: type[MusterError], words: str, **options: int) -> None:
        before = record.load(self.directory)
        with pytest.raises(kind, match=words):
            self.install(data, **options)
        assert record.load(self.directory) == before
        left = {path.name for path in (self.directory / record.DIRECTORY).iterdir()}
        assert left <= {record.FILE, record.LOCK}


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


def test_a_signed_release_is_installed_into_the_idle_side_and_put_on_trial(device):
    """This one was taken back before, and is tried again because somebody says so."""
    back = Record("a", "1.0", NOW, taken_back=TakenBack("2.0", "it crashed"))
    record.change(device.directory, lambda _: back)
    device.refuses(device.release(), installing.UpdateRefused, "it crashed.*--retry")
    device.install(device.release(), retry=True)
    now = record.load(device.directory)
    assert (now.side, now.trial.side, now.trial.version) == ("a", "b", "2.0")
    side = record.side_of(device.directory, "b")
    assert list(side.glob("lib/python*/site-packages/pump_part.py"))
    with pytest.raises(MusterError, match="is on trial at the moment"):
        device.install(device.release("3.0"))


def test_what_is_not_signed_by_the_keys_of_targets_is_refused(device):
    for thief in ("snapshot", "timestamp", "director", "model-digits"):
        data = device.release(signer=device.repository.keys[thief][0])
        device.refuses(data, TrustRefused, "not signed by the keys that this device trusts")


def test_a_release_needs_as_many_signatures_as_the_root_asks_for(tmp_path):
    device = Device(tmp_path)
    repository = device.repository
    second = CryptoSigner.generate_ed25519()
    repository.keys["targets"].append(second)
    repository.thresholds["targets"] = 2
    repository.install_keys()
    repository.write("root")
    (device.directory / "trust" / "root.json").write_bytes(repository.files["1.root.json"])
    data = device.release()
    device.refuses(data, TrustRefused, "1/2")
    file = tmp_path / "2.0.agent"
    agent_releases.add_signature(file, second)
    verified = TrustStore(device.directory / "trust").verify_release(
        installing._envelope(io.BytesIO(file.read_bytes()))
    )
    assert verified.version == "2.0"
    assert file.read_bytes().endswith(data[-1000:])


def test_a_file_that_was_altered_or_cut_short_changes_nothing(device):
    data = device.release()
    altered = data[:-1] + bytes([data[-1] ^ 1])
    device.refuses(altered, installing.UpdateRefused, "pump_part.* is not what was signed")
    for length in (0, len(HEAD) + 2, len(HEAD) + 40, len(data) - 1):
        device.refuses(data[:length], MusterError, "cut short|not a release")
    device.refuses(b"x" * 100, ProtocolError, "not a release of the agent")


def test_an_older_release_and_the_one_in_place_are_refused(device):
    device.refuses(device.release("0.9", NOW - 1), installing.UpdateRefused, "signed before")
    device.refuses(device.release("1.0"), installing.UpdateRefused, "in place already")


def test_a_disk_without_room_is_a_clear_refusal(device):
    device.refuses(
        device.release(), installing.UpdateRefused, "bytes are needed beside", free_bytes_min=2**60
    )


def test_a_release_that_can_not_be_installed_here_leaves_the_agent_as_it_was(device, tmp_path):
    own = wheel(tmp_path, "muster_edge", "2.0", {})
    out = tmp_path / "lacking.agent"
    agent_releases.make([own], ["agent"], device.repository.keys["targets"][0], out, NOW)
    device.refuses(out.read_bytes(), installing.UpdateRefused, "can't be installed here")
