"""``muster-hub`` as an operator types it, and the entry points where an extra is missing."""

import ast
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from muster_hub import entry
from muster_hub.admin import main
from muster_hub.errors import ConfigError
from muster_hub.settings import config
from muster_hub.settings.config import BrokerSettings, Http
from muster_hub.signing.catalogue import Catalogue
from muster_hub.signing.keys import Keyring
from support import models as fixtures


@pytest.fixture
def run(capsys):
    """Run the command; gives what it said on the stream that its exit code calls for."""

    def run_it(*arguments, code=0) -> str:
        with pytest.raises(SystemExit) as ended:
            main.main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        assert (ended.value.code or 0) == code, said
        return said.err if code else said.out

    return run_it


def one_line(text: str) -> bool:
    return text.startswith("muster-hub: ") and text.count("\n") == 1


def test_init_makes_a_hub_and_says_what_to_do_next(tmp_path, run):
    said = run("init", "--data", tmp_path / "hub", "--all-keys-here", "--name", "hub.example")
    assert "whoever takes it over can sign" in said
    assert "muster-hub serve" in said
    profile = tomllib.loads((tmp_path / "hub" / "operator.toml").read_text())
    assert profile["hub"] == "https://hub.example:8443"
    assert (tmp_path / "hub" / profile["ca"]).exists()
    assert (tmp_path / "hub" / "operator.toml").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "hub").stat().st_mode & 0o777 == 0o700
    assert config.load(tmp_path / "hub").names == ("hub.example",)
    assert [path.name for path in tmp_path.iterdir()] == ["hub"]


def test_init_never_touches_what_is_there(tmp_path, run):
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "diary.txt").write_text("dear diary")
    said = run("init", "--data", tmp_path / "hub", "--all-keys-here", code=1)
    assert one_line(said)
    assert "is not empty" in said
    assert [path.name for path in (tmp_path / "hub").iterdir()] == ["diary.txt"]


def test_init_fills_an_empty_directory_that_stays_the_same_one(tmp_path, run):
    """It may be a mount, or its parent another user's: neither can be renamed over."""
    data = tmp_path / "hub"
    (data / ".new" / "keys").mkdir(parents=True)  # of an init that the power interrupted
    before = data.stat().st_ino
    run(
        "init", "--data", data, "--all-keys-here",
        "--database", "postgresql://nobody@127.0.0.1:1/none", code=1,
    )  # fmt: skip
    assert list(data.iterdir()) == []
    run("init", "--data", data, "--all-keys-here")
    assert (data.stat().st_ino, data.stat().st_mode & 0o777) == (before, 0o700)
    assert config.load(data)
    assert not (data / ".new").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["hub"]


def test_init_asks_where_the_keys_are(tmp_path, run):
    said = run("init", "--data", tmp_path / "hub", code=2)
    assert "--all-keys-here" in said
    assert not (tmp_path / "hub").exists()


def test_a_failed_init_leaves_nothing(tmp_path, run):
    said = run(
        "init", "--data", tmp_path / "hub", "--all-keys-here",
        "--database", "postgresql://nobody@127.0.0.1:1/none", code=1,
    )  # fmt: skip
    assert one_line(said)
    assert "can't be used" in said
    assert list(tmp_path.iterdir()) == []


def test_keys_kept_elsewhere_sign_by_carrying_files(tmp_path, run):
    vault = tmp_path / "vault"
    for role in ("root", "targets", "release"):
        run("keygen", vault / role)
    hub = tmp_path / "hub"
    public = [
        word
        for role in ("root", "targets", "release")
        for word in (f"--{role}-public", vault / f"{role}.pub")
    ]
    assert "signing-request" in run("init", "--data", hub, *public)
    assert not list((hub / "keys").rglob("offline*"))
    out = tmp_path / "carried"
    assert "for the root key" in run("signing-request", out, "--data", hub)
    assert "root version 1" in run("sign", out / "root.json", "--key", vault / "root")
    assert "delegates director" in run("sign", out / "targets.json", "--key", vault / "targets")
    said = run("add-signatures", out / "root.json", out / "targets.json", "--data", hub)
    assert said == "Everything is signed.\n"
    catalogue = Catalogue(hub / "tuf", Keyring(hub / "keys"))
    assert list(catalogue.files_to_publish())[-1] == "timestamp.json"


def test_a_wrong_key_is_not_overwritten_and_named(tmp_path, run):
    run("keygen", tmp_path / "key")
    assert "never overwritten" in run("keygen", tmp_path / "key", code=1)
    said = run("sign", tmp_path / "absent.json", "--key", tmp_path / "key", code=1)
    assert one_line(said)
    assert "absent.json" in said


def test_a_token_is_printed_once_and_works_by_role(tmp_path, run):
    run("init", "--data", tmp_path / "hub", "--all-keys-here")
    text = run("token", "ci", "--role", "releaser", "--data", tmp_path / "hub").strip()
    assert text.startswith("mst_")
    assert "use one of" in run("token", "x", "--role", "king", "--data", tmp_path / "hub", code=2)
    assert run("audit-verify", "--data", tmp_path / "hub").startswith(
        "2 rows, unbroken, keyed from row 1 on."
    )


def test_a_hub_that_is_not_there_is_named_with_what_to_do(tmp_path, run):
    for command in ("serve", "audit-verify"):
        said = run(command, "--data", tmp_path / "hub", code=1)
        assert one_line(said)
        assert "muster-hub init" in said


@pytest.mark.system
def test_a_bundle_is_checked_before_it_is_pushed(tmp_path, run):
    fixtures.write_bundle(tmp_path, runtimes=("onnx",))
    assert run("check", tmp_path) == "onnx: ok\n"
    (tmp_path / "model.onnx").write_bytes(b"holiday photo")
    assert "is not the file that manifest.json lists" in run("check", tmp_path, code=1)
    assert "manifest.json" in run("check", tmp_path / "nowhere", code=1)


# Settings


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("names = []", "names"),
        ("[http]\nport = 0", "http.port"),
        ("[http]\nporto = 8443", "porto"),
        ("data = '/elsewhere'", "where the file lies"),
        ("names = [", "hub.toml"),
    ],
)
def test_a_setting_at_fault_is_named(tmp_path, text, says):
    (tmp_path / "hub.toml").write_text(text)
    with pytest.raises(ConfigError, match=says):
        config.load(tmp_path)


def test_an_empty_file_gives_the_defaults(tmp_path):
    (tmp_path / "hub.toml").write_text("")
    loaded = config.load(tmp_path)
    assert loaded.url == "https://localhost:8443"
    assert loaded.broker_public == ("localhost", 8883)
    assert loaded.database_url == f"sqlite:///{tmp_path}/hub.db"


def test_devices_are_told_the_external_broker(tmp_path):
    (tmp_path / "hub.toml").write_text("[broker]\nurl = 'mqtts://mq.example:2883'")
    assert config.load(tmp_path).broker_public == ("mq.example", 2883)


def test_the_template_is_read_back_as_it_was_meant(tmp_path):
    text = config.template(("a", "b"), Http(port=1), BrokerSettings(port=2), "postgresql://x/y")
    (tmp_path / "hub.toml").write_text(text)
    loaded = config.load(tmp_path)
    assert (loaded.names, loaded.http.port, loaded.broker.port) == (("a", "b"), 1, 2)
    assert loaded.database == "postgresql://x/y"


# Where an extra is missing


def test_a_missing_library_names_the_extra():
    code = "import sys; sys.modules['typer'] = None; from muster_hub.entry import hub; hub()"
    done = subprocess.run(
        [sys.executable, "-c", code, "--help"],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "80"},
    )
    assert done.returncode == 2
    assert "needs 'typer'" in done.stderr
    assert "pip install 'muster-edge[hub]'" in done.stderr


def test_the_entry_point_loads_only_the_standard_library_before_it_can_say_what_lacks():
    tree = ast.parse(Path(entry.__file__).read_text())
    imported = {
        name.partition(".")[0]
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else
                     [alias.name for alias in node.names])
    }  # fmt: skip
    assert imported - {"muster_protocol"} <= sys.stdlib_module_names


def test_two_people_and_an_encrypted_key_sign_by_carrying_files(tmp_path, run, monkeypatch):
    monkeypatch.delenv("MUSTER_KEY_PASSWORD", raising=False)
    vault, hub, out = tmp_path / "vault", tmp_path / "hub", tmp_path / "carried"
    vault.mkdir()
    (vault / "password").write_text("correct horse\n")
    for name in ("ann", "bob", "cy", "tess"):
        said = run("keygen", vault / name, "--password-file", vault / "password")
        assert "not encrypted" not in said
    assert "not encrypted" in run("keygen", vault / "rick")
    public = [
        word for name in ("ann", "bob", "cy") for word in ("--root-public", vault / f"{name}.pub")
    ]
    run("init", "--data", hub, *public, "--targets-public", vault / "tess.pub",
        "--release-public", vault / "rick.pub")  # fmt: skip
    said = run("signing-request", out, "--data", hub)
    assert "0 of 2 signatures; signed by nobody; may sign: " in said
    assert "ann (" in said
    assert "is encrypted" in run("sign", out / "root.json", "--key", vault / "ann", code=1)
    for name in ("ann", "cy"):
        run("sign", out / "root.json", "--key", vault / name, "--password-file", vault / "password")
    run(
        "sign", out / "targets.json", "--key", vault / "tess", "--password-file", vault / "password"
    )
    said = run("add-signatures", out / "root.json", out / "targets.json", "--data", hub)
    assert said == "Everything is signed.\n"
    said = run("keys", "show", "--data", hub)
    assert "root: 2 of ann (" in said
    assert "timestamp: 1 of " in said
    assert "(on this hub); version 1, good until" in said


def test_keys_are_changed_by_command_and_a_dry_run_changes_nothing(tmp_path, run):
    hub = tmp_path / "hub"
    run("init", "--data", hub, "--all-keys-here")
    run("keygen", tmp_path / "dora")
    said = run("keys", "set", "root", "--public", tmp_path / "dora.pub", "--dry-run", "--data", hub)
    assert said.startswith("Nothing was changed.")
    assert "root version 2" in said
    assert run("keys", "rotate", "director", "--yes", "--data", hub).endswith(
        "Everything is signed.\n"
    )
    assert "director epoch 2" in run("keys", "new-epoch", "--yes", "--data", hub)
    assert "nothing would change" in run(
        "keys", "set", "release", "--public", tmp_path / "dora.pub", "--data", hub, code=1
    )
    assert "muster-hub keys rotate" in run(
        "keys", "set", "timestamp", "--public", tmp_path / "dora.pub", "--data", hub, code=1
    )
    assert "root version 2" in run(
        "keys", "set", "root", "--public", tmp_path / "dora.pub", "--yes", "--data", hub
    )
    assert "may sign: dora (" in run("keys", "show", "--data", hub)
    assert "there is no model" in run("retire", "digits", "--data", hub, code=1)
