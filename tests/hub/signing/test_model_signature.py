"""``model.sig``: what it says about a bundle, and what the hub makes of it."""

import base64
import json
import random
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from muster_hub.admin import main
from muster_hub.errors import ConfigError, Invalid
from muster_hub.registry.check import CheckResult
from muster_hub.registry.release import Releases, find
from muster_hub.settings.config import CheckSettings
from muster_hub.signing import keys, model_signature
from muster_protocol.wire import manifest
from muster_protocol.wire.chunks import sha256_hex
from support import models as fixtures
from support.damaged_models import mutated
from support.hub_kit import open_kit

STOCK = Path(__file__).parents[2] / "golden" / "model_signature"
FILES = {"m.onnx": "aa" * 32, "golden.npz": "bb" * 32}
KEY = ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
def run(capsys):
    def run_it(*arguments, code=0) -> str:
        with pytest.raises(SystemExit) as ended:
            main.main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        assert (ended.value.code or 0) == code, said
        return said.err if code else said.out

    return run_it


@pytest.fixture
def signed(tmp_path, run):
    """A bundle's folder that was signed with tmp_path/key."""
    fixtures.write_bundle(tmp_path / "bundle", runtimes=("onnx",))
    run("keygen", "--model", tmp_path / "key")
    run("sign-model", tmp_path / "bundle", "--key", tmp_path / "key")
    return tmp_path / "bundle"


def test_a_signature_made_by_the_openssf_package_is_accepted():
    files = {name: sha256_hex((STOCK / name).read_bytes()) for name in ("m.onnx", "golden.npz")}
    public = model_signature.read_public((STOCK / "model.pub").read_bytes(), "model.pub")
    data = (STOCK / "model.sig").read_bytes()
    model_signature.check(data, files, [public])
    with pytest.raises(Invalid, match="signed by none of the 1 keys"):
        model_signature.check(data, files, [KEY.public_key()])


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (FILES | {"m.onnx": "cc" * 32}, "m.onnx has another hash"),
        (FILES | {"extra.bin": "cc" * 32}, "extra.bin isn't listed"),
        ({"m.onnx": FILES["m.onnx"]}, "golden.npz isn't in the bundle"),
    ],
)
def test_files_other_than_those_signed_are_named(files, said):
    with pytest.raises(Invalid, match=said):
        model_signature.check(model_signature.sign(FILES, "m-1", KEY), files, [KEY.public_key()])


def test_the_manifest_and_the_signature_itself_are_not_covered():
    data = model_signature.sign(FILES | {"model.sig": "00" * 32}, "m-1", KEY)
    more = FILES | {"model.sig": "11" * 32, "manifest.json": "22" * 32}
    model_signature.check(data, more, [KEY.public_key()])


@pytest.mark.parametrize("junk", [b"", b"{}", b"[" * 5000, b"null", b"\xff", b" " * 300_000])
def test_what_is_no_signature_is_refused_in_one_line(junk):
    with pytest.raises(Invalid, match=r"^model\.sig") as caught:
        model_signature.check(junk, FILES)
    assert "\n" not in str(caught.value)


def test_no_mutant_of_what_is_signed_is_accepted():
    data = json.loads(model_signature.sign(FILES, "m-1", KEY))
    payload = base64.b64decode(data["dsseEnvelope"]["payload"])
    rng = random.Random(3)
    for mutant in (mutated(payload, rng) for _ in range(300)):
        if mutant == payload:
            continue
        data["dsseEnvelope"]["payload"] = base64.b64encode(mutant).decode()
        with pytest.raises(Invalid):
            model_signature.check(json.dumps(data).encode(), FILES, [KEY.public_key()])


def test_sign_model_lists_the_signature_in_the_manifest_and_may_be_repeated(signed, tmp_path, run):
    first = manifest.decode((signed / "manifest.json").read_bytes())
    assert [file.path for file in first.files] == ["model.onnx", "golden.npz", "model.sig"]
    assert first.file("model.sig").sha256 == sha256_hex((signed / "model.sig").read_bytes())
    run("sign-model", signed, "--key", tmp_path / "key")
    again = manifest.decode((signed / "manifest.json").read_bytes())
    assert len(again.files) == 3
    assert "as it was signed" in run("verify-model", signed, "--public", tmp_path / "key.pub")


def test_an_altered_file_and_a_strangers_key_are_refused_by_name(signed, tmp_path, run):
    run("keygen", "--model", tmp_path / "other")
    said = run("verify-model", signed, "--public", tmp_path / "other.pub", code=1)
    assert "signed by none" in said
    (signed / "model.onnx").write_bytes(b"another model")
    said = run("verify-model", signed, "--public", tmp_path / "key.pub", code=1)
    assert "model.onnx has another hash" in said
    said = run("sign-model", signed, "--key", tmp_path / "key", code=1)
    assert "not the file that manifest.json lists" in said


def test_a_release_key_is_no_key_for_models(signed, tmp_path, run):
    run("keygen", tmp_path / "rosa")
    assert "--model" in run("sign-model", signed, "--key", tmp_path / "rosa", code=1)
    assert "--model" in run("verify-model", signed, "--public", tmp_path / "rosa.pub", code=1)


class Desk:
    """A hub's check of a pushed folder, without running the model."""

    def __init__(self, directory: Path, *public: str) -> None:
        self.kit = open_kit(directory)
        hub = self.kit.hub
        trusted = [
            model_signature.read_public((directory / name).read_bytes(), name) for name in public
        ]
        self.releases = Releases(
            hub.store, hub.blobs, hub.catalogue, lambda *_: CheckResult(ok=True),
            clock=self.kit.clock, model_keys=tuple(trusted),
        )  # fmt: skip

    def verdict(self, folder: Path) -> tuple[str, str]:
        encoded = (folder / "manifest.json").read_bytes()
        parsed = manifest.decode(encoded)
        files = {file.path: (folder / file.path).open("rb") for file in parsed.files}
        try:
            row = self.releases.push(encoded, files, "ci", model=parsed.model)
        finally:
            for file in files.values():
                file.close()
        self.releases.advance(row.model, row.version)
        with self.kit.hub.store.read() as session:
            row = find(session, row.model, row.version)
            return row.status, row.check.get("reason", "")


@pytest.fixture
def desk(signed, tmp_path):
    made = Desk(tmp_path, "key.pub")
    yield made
    made.kit.close()


def test_a_hub_that_names_model_keys_takes_only_bundles_signed_by_them(desk, signed, tmp_path, run):
    assert desk.verdict(signed) == ("published", "")
    fixtures.write_bundle(tmp_path / "bare", version="2", runtimes=("onnx",))
    status, reason = desk.verdict(tmp_path / "bare")
    assert status == "rejected"
    assert "no model.sig" in reason
    run("keygen", "--model", tmp_path / "thief")
    fixtures.write_bundle(tmp_path / "stolen", version="3", runtimes=("onnx",))
    run("sign-model", tmp_path / "stolen", "--key", tmp_path / "thief")
    status, reason = desk.verdict(tmp_path / "stolen")
    assert status == "rejected"
    assert "signed by none" in reason


def test_a_signature_of_other_files_is_refused_by_every_hub(signed, tmp_path):
    parsed = manifest.decode((signed / "manifest.json").read_bytes())
    changed = fixtures.write_file(signed, "model.onnx", b"other bytes")
    files = tuple(changed if file.path == "model.onnx" else file for file in parsed.files)
    encoded = manifest.encode(msgspec.structs.replace(parsed, files=files))
    (signed / "manifest.json").write_bytes(encoded)
    desk = Desk(tmp_path)
    try:
        status, reason = desk.verdict(signed)
    finally:
        desk.kit.close()
    assert status == "rejected"
    assert "model.onnx has another hash" in reason


def test_a_hub_whose_model_key_is_missing_does_not_start(tmp_path):
    with pytest.raises(ConfigError, match=r"model_public: .*nowhere\.pub"):
        open_kit(tmp_path, settings={"check": CheckSettings(model_public=("nowhere.pub",))})


def test_a_model_key_is_written_as_carefully_as_any(tmp_path):
    keys.generate_model_key(tmp_path / "key", b"secret")
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert keys.is_encrypted(tmp_path / "key")
    with pytest.raises(ConfigError, match="never overwritten"):
        keys.generate_model_key(tmp_path / "key")
