"""A card is imaged once and boots three times; one is copied; the hub moves, and all follow.

The image is a real root file system with the agent's Debian package in it. A card is a copy of the
image in a mount namespace of its own, and boots by what the package's service says it would run.
"""

import re
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from muster_hub.demo import bundles, digits, settings
from muster_hub.demo.fleet import program
from support import debian_package, root_system
from support.cards import BOOT
from support.ports import HOST, free_port
from support.root_system import RootSystem
from support.served import Served, finish
from support.waiting import eventually

pytestmark = [
    pytest.mark.system,
    pytest.mark.long,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(bool(root_system.why_not()), reason=root_system.why_not() or "-"),
]
WAIT_SECONDS = 300.0
COPY_SECONDS = 900.0
"""Two machines behind one address are told by how often each takes the connection."""
NAMES = ("press-1", "press-2", "press-3")


class Card:
    """One copy of the image, and the machine that boots from it."""

    def __init__(self, system: RootSystem, log: Path) -> None:
        self.system = system
        self.log = log
        self.port = free_port()
        self.machine: subprocess.Popen[bytes] | None = None

    def boot(self) -> None:
        self.system.put("/etc/site.toml", f"\n[slots.main]\ntcp_port = {self.port}\n")
        self.machine = self.system.start(self.log, ["sh", "-c", BOOT])

    def pull(self) -> None:
        """Stop it as a service manager does."""
        if self.machine is not None:
            self.machine.send_signal(signal.SIGTERM)
            self.machine.wait(90)
            self.machine = None

    def serves(self) -> bool:
        address = f"http://{HOST}:{self.port}/v2/models/{bundles.MODEL}/ready"
        try:
            with urllib.request.urlopen(address, timeout=60) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


class Plant:
    """A hub with a published model, and the cards of its machines."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.hub = Served(directory / "hub")
        self.serving = self.hub.ready()
        self.cards: dict[str, Card] = {}

    def admin(self, *words: str) -> str:
        command = [program("muster-hub"), *words, "--data", str(self.hub.data)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=WAIT_SECONDS
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def push(self) -> None:
        data = digits.load()
        folder = self.directory / "bundle"
        bundles.release(folder, "1", digits.train(data), data, probation_seconds=1.0)
        profile = ["--profile", str(self.hub.data / "operator.toml")]
        subprocess.run(
            [program("muster"), *profile, "model", "push", folder], check=True, timeout=WAIT_SECONDS
        )
        path = f"/models/{bundles.MODEL}/versions/1"
        self.wait("it is published", lambda: self.hub.ask(path)["status"] == "published")

    def wait(self, what: str, done: Callable[[], bool], seconds: float = WAIT_SECONDS) -> None:
        if not eventually(done, seconds):
            said = "\n".join(card.log.read_text()[-1500:] for card in self.cards.values())
            raise AssertionError(f"not within {seconds:.0f} s: {what}\n{said}")

    def stop_hub(self) -> None:
        self.serving.terminate()
        assert finish(self.serving)[0] == 0

    def heard_again(self) -> None:
        since = time.time()
        for name in NAMES:
            self.wait(f"{name} is heard of", lambda name=name: self.heard(name) > since)  # type: ignore[misc]  # bound now

    def heard(self, name: str) -> float:
        """When, in seconds since 1970; 0: never, or it is not enrolled yet."""
        try:
            return self.hub.ask(f"/devices/{name}")["last_seen"] or 0.0
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            return 0.0

    def close(self) -> None:
        for card in self.cards.values():
            card.pull()
        if self.serving.poll() is None:
            self.stop_hub()


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    made = Plant(tmp_path)
    try:
        yield made
    finally:
        made.close()


def imaged(plant: Plant) -> RootSystem:
    """The image: the package, the hub's factory root and one token for all."""
    image = RootSystem((root_system.base(),), plant.directory / "image")
    image.put("/tmp/muster-agent.deb", debian_package.built(plant.directory).read_bytes())
    image.run("dpkg", "-i", "/tmp/muster-agent.deb")
    image.put("/etc/hosts", f"{HOST} localhost\n")
    image.put("/etc/muster/root.json", (plant.hub.data / "tuf" / "1.root.json").read_bytes())
    asked = {"labels": {"site": "berlin", "line": "?"}, "uses": len(NAMES), "expires_seconds": 3600}
    token = plant.hub.ask("/enroll-tokens", asked)["token"]
    lines = f"HUB=https://localhost:{plant.hub.http}\nTOKEN={token}\n"
    image.put("/etc/muster/first-boot.env", lines, 0o600)
    return image


def test_three_cards_of_one_image_are_three_devices_a_copy_is_noticed_and_all_follow_the_hub(
    plant: Plant, capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    image = imaged(plant)
    plant.push()
    for name in NAMES:
        card = Card(image.above(plant.directory / name), plant.directory / f"{name}.log")
        named = (image.made / "etc/muster/first-boot.env").read_text() + f"DEVICE={name}\n"
        card.system.put("/etc/muster/first-boot.env", named, 0o600)
        card.system.put("/etc/muster/labels", f"line={name[-1]}\n")
        plant.cards[name] = card
        card.boot()
    plant.heard_again()
    for name in NAMES:
        assert plant.hub.ask(f"/devices/{name}")["labels"] == {"site": "berlin", "line": name[-1]}
    asked = {"model": bundles.MODEL, "version": "1", "slot": "main", "selector": "site=berlin"}
    with_all = asked | {"canary": 0, "min_soak_seconds": 0}
    number = plant.hub.ask("/rollouts", with_all)["id"]
    plant.wait("all run it", lambda: plant.hub.ask(f"/rollouts/{number}")["state"] == "completed")
    for card in plant.cards.values():
        plant.wait("it serves", card.serves)

    plant.cards[NAMES[0]].pull()
    copied = plant.directory / "copied"
    # As a programmer of cards does: with owners.
    first = plant.cards[NAMES[0]].system.made
    subprocess.run(["cp", "--archive", first, copied], check=True, timeout=WAIT_SECONDS)
    clone = Card(image.above(copied), plant.directory / "copied.log")
    site = copied / "var/lib/muster/agent.toml"
    site.write_text(re.sub(r"tcp_port = \d+", f"tcp_port = {clone.port}", site.read_text()))
    plant.cards[NAMES[0]].boot()
    plant.cards["copied"] = clone
    clone.boot()
    said = f"two machines use {NAMES[0]}"
    plant.wait(
        "the copy is noticed",
        lambda: any(each["title"].startswith(said) for each in plant.hub.ask("/alerts")["items"]),
        COPY_SECONDS,
    )
    plant.cards.pop("copied").pull()

    plant.admin("keys", "rotate-ca", "--yes")
    plant.stop_hub()
    plant.serving = plant.hub.ready()
    plant.heard_again()
    plant.wait("all have heard", lambda: "\n0 devices have not" in plant.admin("keys", "rotate-ca"))
    plant.admin("keys", "rotate-ca", "--finish", "--yes")
    http, broker = free_port(), free_port()
    to = ("--to", f"https://localhost:{http}", "--broker", f"localhost:{broker}")
    plant.stop_hub()
    plant.serving = plant.hub.ready()
    plant.admin("move", *to, "--yes")
    plant.wait("all have heard", lambda: "\n0 devices have not" in plant.admin("move"))
    plant.stop_hub()
    shutil.move(plant.hub.data, plant.directory / "elsewhere")
    plant.hub.data, plant.hub.http = plant.directory / "elsewhere", http
    settings.change(plant.hub.data / "hub.toml", {"http.port": http, "broker.port": broker})
    plant.serving = plant.hub.ready()
    plant.heard_again()
    for card in plant.cards.values():
        assert card.serves()
    with capsys.disabled():
        print(
            f"CARDS OK in {time.monotonic() - began:.0f} s: three devices of one image, a copy "
            "noticed, a new authority, a new address"
        )
