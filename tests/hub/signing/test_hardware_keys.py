"""Keys that never leave a PKCS#11 token sign the catalogue, and a device believes them."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from muster_agent.trust.time import ClockReading
from muster_hub.admin import main
from muster_hub.errors import ConfigError
from muster_hub.signing import hardware, keys
from muster_hub.signing.catalogue import Catalogue
from muster_hub.signing.directives import DirectiveSigner
from muster_protocol.wire.directive import Directive
from support import softhsm
from support.trust_device import TrustDevice
from support.tuf_repository import DAY_SECONDS


@pytest.fixture
def hsm():
    return softhsm.token()


@pytest.fixture(autouse=True)
def pin(monkeypatch):
    monkeypatch.setenv(keys.PASSWORD_VARIABLE, softhsm.PIN)


@pytest.fixture
def run(capsys):
    def run_it(*arguments, code=0) -> str:
        with pytest.raises(SystemExit) as ended:
            main.main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        assert (ended.value.code or 0) == code, said
        return said.err if code else said.out

    return run_it


class Plant:
    """A hub whose root and release keys lie on a token, and a device that follows it."""

    def __init__(self, directory, run, hsm) -> None:
        self.directory, self.run, self.hsm = directory, run, hsm
        self.data, self.out = directory / "hub", directory / "carried"
        self.uris = {}
        for name in ("ann", "rick"):
            self.uris[name] = hsm.uri(hsm.new_key())
            run("export-public", self.uris[name], directory / f"{name}.pub")
        for name in ("bob", "tess"):
            keys.generate(directory / name)
            self.uris[name] = str(directory / name)
        run("init", "--data", self.data,
            "--root-public", directory / "ann.pub", "--root-public", directory / "bob.pub",
            "--targets-public", directory / "tess.pub", "--release-public", directory / "rick.pub",
            )  # fmt: skip
        self.carry(root=("ann", "bob"), targets=("tess",))
        self.release("1")
        self.device = TrustDevice(directory, self.catalogue.factory_root())

    @property
    def catalogue(self) -> Catalogue:
        return Catalogue(self.data / "tuf", keys.Keyring(self.data / "keys"))

    def carry(self, **signing) -> None:
        self.run("signing-request", self.out, "--data", self.data)
        for role, names in signing.items():
            file = self.out / f"{role.replace('_', '-')}.json"
            for name in names:
                # A file key has no password here: the PIN in the environment is the token's.
                self.run("sign", file, "--key", self.uris[name])
            self.run("add-signatures", file, "--data", self.data)
        for file in self.out.glob("*.json"):
            file.unlink()

    def release(self, version: str) -> None:
        self.catalogue.release("digits", version, version.encode(), time.time())
        first = {"targets": ("tess",)} if version == "1" else {}
        self.carry(**first, model_digits=("rick",))

    def follow(self):
        now = int(time.time())
        reading = ClockReading(float(now), "synchronised")
        return self.device.update(self.catalogue.files_to_publish(), reading), now

    def may_install(self, version: str) -> bool:
        trusted, now = self.follow()
        return trusted.manifest_target("digits", version, now=now) is not None


@pytest.fixture
def plant(tmp_path, run, hsm):
    return Plant(tmp_path, run, hsm)


def test_root_and_release_keys_on_a_token_sign_what_a_device_installs(plant):
    assert plant.may_install("1")
    plant.release("2")
    assert plant.may_install("2")
    assert not plant.may_install("3")


def test_the_hub_s_own_keys_move_to_a_token_and_go_on_signing(plant, run, hsm):
    for role in ("timestamp", "director"):
        uri = hsm.uri(hsm.new_key())
        said = run("keys", "rotate", role, "--uri", uri, "--data", plant.data, "--dry-run")
        assert "Nothing was changed" in said
        run("keys", "rotate", role, "--uri", uri, "--yes", "--data", plant.data)
        plant.carry(root=("ann", "bob")) if role == "timestamp" else plant.carry(targets=("tess",))
    assert plant.may_install("1")
    trusted, now = plant.follow()
    wanted = Directive(
        device="dev-1", epoch=trusted.director_epoch, generation=1, issued=now,
        expires=now + DAY_SECONDS, slots={},
    )  # fmt: skip
    envelope = DirectiveSigner(plant.catalogue.director).sign(wanted)
    assert trusted.verify_directive(envelope) == wanted
    scheme = plant.catalogue.director().public_key.scheme
    assert scheme == "ecdsa-sha2-nistp256"


def test_a_wrong_pin_is_one_line_that_names_the_key(plant, run, monkeypatch):
    plant.catalogue.release("digits", "2", b"2", time.time())
    run("signing-request", plant.out, "--data", plant.data)
    monkeypatch.setenv(keys.PASSWORD_VARIABLE, "0000")
    file = plant.out / "model-digits.json"
    before = file.read_bytes()
    said = run("sign", file, "--key", plant.uris["rick"], code=1)
    assert said.count("\n") == 1
    assert plant.uris["rick"] in said
    assert "PinIncorrect" in said
    assert file.read_bytes() == before
    monkeypatch.delenv(keys.PASSWORD_VARIABLE)
    assert "needs its PIN" in run("sign", file, "--key", plant.uris["rick"], code=1)
    monkeypatch.setenv(keys.PASSWORD_VARIABLE, softhsm.PIN)
    plant.carry(model_digits=("rick",))
    assert plant.may_install("2")


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("hsm:99?label=muster-test", "could not find ECDSA key"),
        ("hsm:1?label=nowhere", "No PKCS#11 token found"),
        ("hsm:two", "with the key's id as a number"),
        ("gcpkms:projects/x", "give its public half with --public"),
    ],
)
def test_a_key_that_is_not_there_is_one_clear_line(hsm, run, tmp_path, uri, said):
    hsm.new_key()
    output = run("export-public", uri, tmp_path / "x.pub", code=1)
    assert output.count("\n") == 1
    assert said in output
    assert not (tmp_path / "x.pub").exists()


def test_without_its_module_a_token_key_says_what_to_set(hsm, tmp_path, monkeypatch):
    uri = hsm.uri(hsm.new_key())
    monkeypatch.delenv(hardware.MODULE_VARIABLE)
    with pytest.raises(ConfigError, match="PYKCS11LIB"):
        hardware.public_of(uri, lambda: softhsm.PIN)


def test_signing_from_many_threads_logs_in_one_at_a_time(hsm):
    uri = hsm.uri(hsm.new_key())
    public = hardware.public_of(uri, lambda: softhsm.PIN)
    signer = hardware.open_signer(uri, public, lambda: softhsm.PIN)
    with ThreadPoolExecutor(4) as pool:
        for number, signature in enumerate(pool.map(signer.sign, [b"%d" % n for n in range(20)])):
            public.verify_signature(signature, b"%d" % number)
