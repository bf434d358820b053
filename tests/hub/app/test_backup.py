"""Backup and restore: whole or refused; and devices carry on with the restored hub."""

import io
import ssl
import subprocess
import sys
import tarfile
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from muster_hub.app import backup
from muster_hub.app.initialise import NewHub, initialise
from muster_hub.audit import log
from muster_hub.errors import ConfigError
from muster_hub.settings import config
from muster_hub.settings.config import BrokerSettings, Http
from muster_hub.signing.catalogue import Catalogue
from muster_hub.signing.keys import Keyring
from muster_hub.storage.store import Store
from muster_protocol.wire.manifest import Probation
from support.models import write_bundle
from support.ports import HOST, free_port
from support.waiting import until

API = "/api/v1"
BIN = Path(sys.executable).parent


@pytest.fixture
def hub(tmp_path):
    made = initialise(tmp_path / "a", NewHub(("localhost",), Http(), BrokerSettings()))
    (made.blobs / "ab").mkdir(parents=True)
    (made.blobs / "ab" / "weights").write_bytes(b"w" * 300_000)
    return made


def tree(directory):
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and path.suffix not in (".db", ".db-wal", ".db-shm")
    }


def test_a_restored_hub_has_the_same_keys_and_chunks_and_a_new_epoch(hub, tmp_path):
    file = tmp_path / "backup.tar"
    backup.backup(hub, file, 100.0)
    assert file.stat().st_mode & 0o777 == 0o600
    made = backup.restore(file, tmp_path / "b")
    before, after = tree(hub.data), tree(tmp_path / "b")
    assert {name for name in before if before[name] != after.get(name)} <= {
        "tuf/timestamp.json",
        "tuf/.lock",
        "hub.lock",
    }, "only what names the newest version may differ"
    assert (made.contents.created, made.to_sign) == (100.0, {})
    catalogues = [Catalogue(item.tuf, Keyring(item.keys)) for item in (hub, made.config)]
    assert [catalogue.director_epoch for catalogue in catalogues] == [1, 2]
    store = Store(made.config.database_url)
    with store.read() as session:
        rows = session.exec(log.in_order()).all()
        assert [row.action for row in rows] == ["hub.init", "hub.restore"]
        assert log.inspect(rows).fault == ""
    store.close()


def test_an_empty_directory_that_is_restored_into_stays_the_same_one(hub, tmp_path):
    """It may be a mount, or its parent another user's: neither can be renamed over."""
    file, data = tmp_path / "backup.tar", tmp_path / "b"
    backup.backup(hub, file, 0)
    data.mkdir()
    before = data.stat().st_ino
    assert backup.restore(file, data).config.data == data
    assert data.stat().st_ino == before
    assert not (data / ".new").exists()


def test_nothing_is_overwritten(hub, tmp_path):
    file = tmp_path / "backup.tar"
    backup.backup(hub, file, 0)
    with pytest.raises(ConfigError, match="exists"):
        backup.backup(hub, file, 0)
    with pytest.raises(ConfigError, match="not empty"):
        backup.restore(file, hub.data)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.97])
def test_a_backup_cut_short_restores_nothing(hub, tmp_path, share):
    file = tmp_path / "backup.tar"
    backup.backup(hub, file, 0)
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ConfigError):
        backup.restore(file, tmp_path / "b")
    assert not (tmp_path / "b").exists()
    assert not list(tmp_path.glob(".b.*"))


def test_a_changed_backup_restores_nothing(hub, tmp_path):
    file = tmp_path / "backup.tar"
    backup.backup(hub, file, 0)
    data = bytearray(file.read_bytes())
    data[data.index(b"w" * 1000) + 500] ^= 1
    file.write_bytes(data)
    with pytest.raises(ConfigError, match=r"changed: 'blobs/ab/weights'"):
        backup.restore(file, tmp_path / "b")


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside", "keys/../../outside"])
def test_a_backup_that_leads_outside_is_refused(tmp_path, name):
    file = tmp_path / "evil.tar"
    with tarfile.open(file, "w") as archive:
        member = tarfile.TarInfo(name)
        member.size = 4
        archive.addfile(member, io.BytesIO(b"evil"))
    with pytest.raises(ConfigError):
        backup.restore(file, tmp_path / "deep" / "b")
    assert not list(tmp_path.rglob("outside"))


# With a real device


class Served:
    """A hub's process, asked by its own admin."""

    def __init__(self, stack: ExitStack, data: Path) -> None:
        self.process = subprocess.Popen(
            [BIN / "muster-hub", "serve", "--data", data], stdout=subprocess.PIPE, text=True
        )
        stack.callback(self.stop)
        line = self.process.stdout.readline()
        assert line.startswith("hub ready: "), line
        settings = config.load(data)
        profile = (data / "operator.toml").read_text()
        token = profile.split('token = "')[1].split('"')[0]
        self.http = httpx.Client(
            base_url=settings.url,
            verify=ssl.create_default_context(cafile=data / "ca.pem"),
            headers={"Authorization": f"Bearer {token}"},
            timeout=30,
        )
        stack.callback(self.http.close)

    def stop(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=60)

    def ask(self, method, path, **more):
        answer = self.http.request(method, API + path, **more)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def until(self, path, fact, seconds=60):
        return until(lambda: self.ask("GET", path), fact, seconds)

    def assign(self, folder: Path, version: str) -> None:
        """Push a version, wait until it is published, give it to every device."""
        made = folder / f"v{version}"
        made.mkdir()
        parsed, _ = write_bundle(
            made, version=version, runtimes=("onnx",), probation=Probation(seconds=1.0)
        )
        form = [("manifest", ("manifest.json", (made / "manifest.json").read_bytes()))]
        form += [("files", (file.path, (made / file.path).read_bytes())) for file in parsed.files]
        self.ask("POST", "/models/dense/versions", files=form)
        path = f"/models/dense/versions/{version}"
        self.until(path, lambda view: view["status"] == "published")
        self.ask("PUT", "/assignments", json={"slot": "main", "model": "dense", "version": version})

    def runs(self, version: str) -> dict:
        return self.until(
            "/devices/cam-1",
            lambda view: (
                view["converged"] and view["proved"].get("main", {}).get("version") == version
            ),
        )


@pytest.mark.system
@pytest.mark.long
@pytest.mark.timeout(240)
def test_a_device_carries_on_with_a_hub_restored_from_before_its_last_update(tmp_path):
    old, new, device = tmp_path / "old", tmp_path / "new", tmp_path / "device"
    initialise(
        old,
        NewHub(
            ("localhost", HOST),
            Http(host=HOST, port=free_port()),
            BrokerSettings(host=HOST, port=free_port()),
        ),
    )
    with ExitStack() as stack:
        hub = Served(stack, old)
        token = hub.ask("POST", "/enroll-tokens", json={"device": "cam-1"})["token"]
        enrolled = subprocess.run(
            [
                BIN / "muster-agent", "enroll", "--dir", device, "--hub", config.load(old).url,
                "--token", token, "--root", old / "tuf" / "1.root.json",
            ],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert enrolled.returncode == 0, enrolled.stderr
        (device / "agent.toml").write_text(
            f'run_dir = "{tmp_path / "r"}"\n' + (device / "agent.toml").read_text()
        )
        agent = subprocess.Popen([BIN / "muster-agent", "run", "--dir", device])
        stack.callback(agent.communicate, timeout=30)
        stack.callback(agent.terminate)
        hub.assign(tmp_path, "1")
        hub.runs("1")
        backup.backup(config.load(old), tmp_path / "backup.tar", time.time())
        hub.assign(tmp_path, "2")
        ahead = hub.runs("2")
        hub.stop()
        backup.restore(tmp_path / "backup.tar", new)
        again = Served(stack, new)
        epoch = ahead["report"]["epoch"] + 1
        again.until("/devices/cam-1", lambda view: view["report"]["epoch"] == epoch)
        again.runs("1")
        again.assign(tmp_path, "3")
        assert again.runs("3")["id"] == "cam-1"
        assert agent.poll() is None
        assert again.ask("GET", "/audit/verify")["ok"]
