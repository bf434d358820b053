"""Each runbook is carried out, command by command, and ends in a fleet that works."""

import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer
from securesystemslib.signer import Signer
from sqlmodel import select
from typer.testing import CliRunner

from muster_agent.identity.contact import Contacts
from muster_agent.trust.mirror import TrustMirror
from muster_agent.trust.store import TrustStore
from muster_agent.trust.time import DAY_SECONDS, ClockReading
from muster_agent.trust.trusted import Trusted, TrustRefused
from muster_client.app import app as operator
from muster_hub.admin import main
from muster_hub.api.hub import Hub
from muster_hub.errors import CatalogueError, Conflict
from muster_hub.identity import enrolment
from muster_hub.settings import config
from muster_hub.signing import keys, roles
from muster_hub.signing.catalogue import Catalogue
from muster_hub.signing.directives import DirectiveSigner
from muster_hub.storage.models import Audit, Device, Model
from muster_protocol.wire.contact import BrokerAddress
from muster_protocol.wire.directive import Directive, DirectiveRefused, Goal, Slot
from muster_protocol.wire.errors import Refusal
from support.command_tree import commands
from support.hub_kit import Kit, csr, new_key, open_kit

RUNBOOKS = Path(__file__).parents[2] / "docs" / "runbooks"
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


class Plant:
    """A hub with keys kept elsewhere, one release, and a device that follows it."""

    def __init__(self, directory: Path, run: Callable[..., str], now: float | None = None) -> None:
        self.names = {
            "DATA": directory / "hub", "VAULT": directory / "vault", "OUT": directory / "carried",
            "BACKUP": directory / "backup", "NEW": directory / "moved",
        }  # fmt: skip
        self.run_command = run
        vault = self.names["VAULT"]
        for name in ("ann", "bob", "cy", "tess", "rick"):
            keys.generate(vault / name)
        public = [f"--root-public={vault / name}.pub" for name in ("ann", "bob", "cy")]
        run("init", f"--data={self.data}", *public, f"--targets-public={vault / 'tess'}.pub",
            f"--release-public={vault / 'rick'}.pub")  # fmt: skip
        self.now = time.time() if now is None else now
        if now is not None:
            shutil.rmtree(self.data / "tuf")
            self.catalogue.create(now)
        self.sign("ann", "bob", "tess")
        self.release("1")
        trust = directory / "device"
        trust.mkdir()
        (trust / "root.json").write_bytes(self.catalogue.factory_root())
        self.device = TrustStore(trust)

    @property
    def data(self) -> Path:
        return self.names["DATA"]

    @property
    def catalogue(self) -> Catalogue:
        return Catalogue(self.data / "tuf", keys.Keyring(self.data / "keys"))

    def sign(self, *names: str) -> None:
        for name in names:
            signer = keys.load_signer(self.names["VAULT"] / name)
            for draft in self.catalogue.pending().values():
                try:
                    self.catalogue.add_signatures(roles.add_signature(draft, signer), self.now)
                except CatalogueError as gone:
                    assert "nothing that waits" in str(gone)  # noqa: PT017 - complete by now

    def signer(self, name: str) -> Signer:
        return keys.load_signer(self.names["VAULT"] / name)

    def release(self, version: str, *, by: str = "rick") -> None:
        self.catalogue.release("digits", version, version.encode(), self.now)
        self.sign("tess", by)

    def follow(self) -> Trusted:
        files = self.catalogue.files_to_publish()
        mirror = TrustMirror(self.device.versions(), frozenset({"digits"}), now=0.0)
        while fresh := (mirror.wanted() & files.keys()) - mirror.files.keys():
            for name in fresh:
                mirror.put(name, files[name], 0.0)
        reading = ClockReading(time.time(), "synchronised")
        return self.device.refresh(mirror.files, mirror.models, reading)

    def may_install(self, version: str) -> bool:
        found = self.follow().manifest_target("digits", version, now=int(time.time()))
        return found is not None

    def directive(self, generation: int) -> bytes:
        goal = Goal(model="digits", version="1", manifest="a" * 64, manifest_bytes=100)
        return DirectiveSigner(self.catalogue.director).sign(
            Directive(
                device="cam-1", epoch=self.catalogue.director_epoch, generation=generation,
                issued=int(self.now), expires=int(self.now) + DAY_SECONDS,
                slots={"main": Slot(champion=goal)},
            )
        )  # fmt: skip

    def carry_out(self, runbook: str) -> str:
        """Run every command of a runbook, with a yes where one asks; what they printed."""
        return self.carry_out_text((RUNBOOKS / runbook).read_text())

    def carry_out_text(self, text: str) -> str:
        """The same of a part of one."""
        blocks = BLOCK.findall(text)
        return "\n".join(self._carry_out(line) for block in blocks for line in block.splitlines())

    def _carry_out(self, line: str) -> str:
        words = [self._named(word) for word in shlex.split(line)]
        if words[0] == "muster-hub":
            return self.run_command(*words[1:], *(["--yes"] if asks(words[1:], main.app) else []))
        assert words[0] == "cp", line
        subprocess.run(words, check=True)
        return ""

    def _named(self, word: str) -> str:
        return re.sub(r"\$([A-Z]+)", lambda found: str(self.names[found[1]]), word)


def asks(words: list[str], app: typer.Typer) -> bool:
    """Whether a command asks before it acts."""
    known = commands(app)
    named = (" ".join(words[:length]) for length in range(len(words), 0, -1))
    command = next(known[name] for name in named if name in known)
    return any("--yes" in parameter.opts for parameter in command.params)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    monkeypatch.delenv("MUSTER_KEY_PASSWORD", raising=False)

    def run_it(*arguments: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main.main(list(arguments))
        said = capsys.readouterr()
        assert not ended.value.code, said.err
        return said.out

    return run_it


def test_every_runbook_is_listed_and_tested() -> None:
    names = {path.name for path in RUNBOOKS.glob("*.md")} - {"README.md"}
    listed = set(re.findall(r"\]\(([a-z-]+\.md)\)", (RUNBOOKS / "README.md").read_text()))
    tests = Path(__file__).read_text()
    assert names == listed
    assert all(f'"{name}"' in tests for name in names)


def test_after_a_lost_release_key_the_new_one_signs_and_the_old_one_does_not(
    tmp_path: Path, run: Callable[..., str]
) -> None:
    plant = Plant(tmp_path, run)
    assert plant.may_install("1")
    said = plant.carry_out("lost-release-key.md")
    assert said.rstrip().endswith("Everything is signed.")
    assert "model-digits: 1 of rosa (" in said
    assert plant.may_install("1")
    plant.release("2", by="rick")
    assert not plant.may_install("2")
    plant.sign("rosa")
    assert plant.may_install("2")


def test_after_a_stolen_root_key_the_others_replace_it_and_every_key_that_root_names(
    tmp_path: Path, run: Callable[..., str]
) -> None:
    plant = Plant(tmp_path, run)
    assert plant.may_install("1")
    stolen = [plant.signer(name) for name in ("bob", "tess")]
    said = plant.carry_out("stolen-root-key.md")
    assert said.count("Nothing was changed. This would have to be signed:") == 2
    assert said.rstrip().endswith("Everything is signed.")
    assert re.search(r"root: 2 of ann \(\w+\), cy \(\w+\), dora \(", said)
    assert "targets: 1 of tom (" in said
    assert plant.may_install("1")
    assert plant.device.versions()["root"] == 2
    plant.catalogue.new_epoch(plant.now)
    (draft,) = plant.catalogue.pending().values()
    for thief in stolen:
        plant.catalogue.add_signatures(roles.add_signature(draft, thief), plant.now)
    assert plant.follow().director_epoch == 1, "the old targets key counts for nothing"
    plant.sign("tom")
    assert plant.follow().director_epoch == 2
    plant.release("2")
    assert plant.may_install("2")


def test_a_retired_version_is_installed_no_more_and_its_role_stays(
    tmp_path: Path, run: Callable[..., str]
) -> None:
    plant = Plant(tmp_path, run)
    hub = Hub.open(config.load(plant.data), time.time)
    with hub.store.write() as session:
        session.add(Model(name="digits", created=plant.now))
    hub.store.close()
    assert plant.may_install("1")
    said = plant.carry_out("retire-a-model.md")
    assert "Nothing was changed. This would have to be signed:" in said
    assert "no version may be installed any more" in said
    assert said.rstrip().endswith("Everything is signed.")
    assert not plant.may_install("1")
    assert "model-digits" in plant.follow().versions
    plant.release("2")
    assert plant.may_install("2")


def test_after_a_lost_hub_devices_go_on_without_a_visit_and_the_thief_has_nothing(
    tmp_path: Path, run: Callable[..., str]
) -> None:
    plant = Plant(tmp_path, run)
    shutil.copytree(plant.data, plant.names["BACKUP"])
    for version in ("2", "3", "4"):
        plant.release(version)
        assert plant.may_install(version)
    stolen = plant.directive(2**52)
    assert plant.follow().verify_directive(stolen)
    shutil.rmtree(plant.data)
    plant.carry_out("lost-hub.md")
    # The engine's first minute: it hears the versions that devices trust, and asks to see them.
    assert plant.catalogue.ahead(plant.device.versions())
    held = plant.device.files()
    shown = held["timestamp.json"], held["snapshot.json"]
    assert plant.catalogue.catch_up("cam-1", *shown, time.time())
    assert list(plant.catalogue.pending()) == ["model-digits"], "signed since the backup"
    plant.sign("tess", "rick")
    trusted = plant.follow()
    assert trusted.director_epoch == 2
    with pytest.raises(DirectiveRefused):
        trusted.verify_directive(stolen)
    assert trusted.verify_directive(plant.directive(1)).generation == 1
    plant.release("5")
    assert plant.may_install("5")


def test_an_expired_timestamp_is_signed_anew(tmp_path: Path, run: Callable[..., str]) -> None:
    plant = Plant(tmp_path, run, now=time.time() - 10 * DAY_SECONDS)
    with pytest.raises(TrustRefused) as refused:
        plant.follow()
    assert refused.value.refusal is Refusal.METADATA_EXPIRED
    said = plant.carry_out("expired-timestamp.md")
    assert "Nothing waits for signatures." in said
    assert plant.may_install("1")


class Follower:
    """The device's identity: it takes what a directive of this hub says and targets confirm."""

    def __init__(self, plant: Plant, directory: Path) -> None:
        self.plant = plant
        place = directory / "identity"
        place.mkdir()
        shutil.copy(plant.data / "keys" / "ca" / "ca.pem", place / "ca.pem")
        self.enrolled = BrokerAddress("localhost", 8883)
        self.contacts = Contacts(place, hub="https://localhost:8443", broker=self.enrolled)

    def hears(self, data: Path) -> tuple[str, ...]:
        """From the hub in ``data``, as if it had been started anew; the brokers it then tries."""
        hub = Hub.open(config.load(data), time.time)
        try:
            self.contacts.follow(hub.contact(), self.plant.follow().contact)
        finally:
            hub.store.close()
        return tuple(map(str, self.contacts.brokers()))


def test_a_hub_that_moves_takes_its_devices_along(tmp_path: Path, run: Callable[..., str]) -> None:
    plant = Plant(tmp_path, run)
    device = Follower(plant, tmp_path)
    announced, _, finished = (RUNBOOKS / "move-the-hub.md").read_text().partition("Stop the hub")
    said = plant.carry_out_text(announced)
    assert "Nothing was changed." in said
    assert (
        "devices find hub https://hub2.example:8443, then https://localhost:8443; broker " in said
    )
    assert "0 devices have not heard of it." in said
    assert device.hears(plant.data) == ("hub2.example:8883", "localhost:8883")
    plant.carry_out_text(finished)
    shutil.rmtree(plant.data)
    plant.names["DATA"] = plant.names["NEW"]
    assert device.hears(plant.data) == ("localhost:8883",), "the new hub.toml was not edited here"
    plant.release("2")
    assert plant.may_install("2")


def test_an_authority_that_is_replaced_leaves_devices_with_the_new_one_alone(
    tmp_path: Path, run: Callable[..., str]
) -> None:
    plant = Plant(tmp_path, run)
    device = Follower(plant, tmp_path)
    (first,) = device.contacts.authorities
    begun, _, ended = (RUNBOOKS / "replace-the-authority.md").read_text().partition("End the first")
    said = plant.carry_out_text(begun)
    assert "Restart the hub" in said
    assert "0 devices have not heard of it." in said
    device.hears(plant.data)
    second, before = device.contacts.authorities
    assert before == first
    said = plant.carry_out_text(ended)
    assert "0 devices are cut off until they are enrolled again." in said
    device.hears(plant.data)
    assert device.contacts.authorities == (second,)
    hub = Hub.open(config.load(plant.data), time.time)
    assert hub.pki.ca_fingerprint == second
    assert (plant.data / "ca.pem").read_bytes() == hub.pki.ca_pem
    hub.store.close()
    assert plant.may_install("1")


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    made = open_kit(tmp_path)
    made.clock.now = time.time()
    yield made
    made.close()


def test_a_stolen_device_is_out_for_good_and_its_successor_has_another_name(kit: Kit) -> None:
    token = kit.enrol_token(device="cam-1")
    assert kit.enrol(token).status_code == 200
    environment = {
        "MUSTER_HUB": str(kit.http.base_url), "MUSTER_CA": "",
        "MUSTER_TOKEN": kit.as_("operator")["Authorization"].removeprefix("Bearer "),
    }  # fmt: skip
    said = []
    for block in BLOCK.findall((RUNBOOKS / "stolen-device.md").read_text()):
        for line in block.splitlines():
            program, *words = shlex.split(line)
            assert program == "muster"
            yes = ["--yes"] if asks(words, operator) else []
            ended = CliRunner().invoke(operator, [*words, *yes], env=environment)
            assert ended.exit_code == 0, ended.output
            said.append(ended.output)
    assert "revoked" in said[1]
    with kit.hub.store.read() as session:
        assert session.get(Device, "cam-1").revoked
        assert len(enrolment.revoked_certificates(session, kit.clock())) == 1
        actions = set(session.exec(select(Audit.action)).all())
        with pytest.raises(Conflict, match="revoked"):
            enrolment.renew(session, kit.hub.pki, "cam-1", csr(new_key(), "cam-1"), kit.clock())
    assert "device.revoke" in actions
    assert kit.enrol(kit.enrol_token(device="cam-1")).status_code == 409
    successor = next(word for word in said[2].split() if word.count(".") == 2)
    assert kit.enrol(successor, name="cam-1b").status_code == 200
