"""Visual quality control from end to end on this machine: ``make example-vision``.

A cell whose camera drops pictures into a folder; a model that the example trains; a real hub,
broker and agent. Each disc is judged once, scratched ones are rejected through the PLC, the lamp
fades and is named, and a retrained version wins on the same pictures before it takes over.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from cell import HEARTBEAT_REGISTER, REJECT_COIL, TOPIC, Camera, Plant, Plc, free_ports
from parts import CLASSES, Line
from train import train, write_pictures

import muster_client

MODEL = "disc-scratches"
SEED = 11
DIM = 0.45
"""Of a new lamp's light."""
TRAINING_PICTURES = 800
JUDGED_MIN = 60
"""Pictures by which a share is cell."""
COMPARED_MIN = 80
WAIT_SECONDS = 180.0
TRIES = 3
FEED = """
[feeds.inspection]
slot = "main"
deadline_seconds = 4.0
[feeds.inspection.sources.camera]
kind = "images"
path = "{folder}"
every_seconds = 0.05
settle_seconds = 0
done_files_max = 2000
[feeds.inspection.sinks.cell]
kind = "mqtt"
host = "127.0.0.1"
port = {mqtt}
topic = "{topic}"
value = "scores[1]"
[feeds.inspection.sinks.plc]
kind = "modbus"
host = "127.0.0.1"
port = {modbus}
allow_writes = true
heartbeat_register = {heartbeat}
[feeds.inspection.sinks.plc.writes]
reject = {{ type = "bit", register = {reject}, value = "scores[1]", at_least = 0.5, safe = 1 }}
"""


def say(text: str) -> None:
    """A line of the story."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


def until(what: str, holds: Callable[[], object], seconds: float = WAIT_SECONDS) -> None:
    """Wait for something that nothing announces; ends the program when it doesn't come."""
    ends = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > ends:
            sys.exit(f"FAILED: {what} did not come in {seconds:.0f} s")
        time.sleep(0.1)  # It is looked for from outside.


def quickstart(folder: Path, *more: str) -> None:
    """``muster quickstart``: a hub, a broker and a device, in the background."""
    muster = str(Path(sys.executable).parent / "muster")
    for _ in range(TRIES):  # On a busy machine it goes on where it had to give up.
        done = subprocess.run(
            [muster, "quickstart", str(folder), *more], capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            return
    sys.exit(f"FAILED: muster quickstart: {done.stderr or done.stdout}")


def push(hub: muster_client.Hub, room: Path, pictures: Path, version: str) -> None:
    """Train on a folder of pictures; pack, push, check and sign the version."""
    model = room / f"model-{version}.onnx"
    train(pictures, model)
    hub.push(
        model, pictures, name=MODEL, version=version, features=str(room / "features.json"),
        classes=CLASSES, classifier="scores", window_rows=40, fallback=("no-decision",),
        probation_seconds=2.0,
    )  # fmt: skip


def completed(hub: muster_client.Hub, rollout: int) -> None:
    """End the program unless the rollout did what it was to do."""
    ended = hub.rollouts.status(rollout)
    if ended["state"] != "completed":
        sys.exit(f"FAILED: rollout {rollout} ended as {ended['state']}: {ended['reason']}")


class Story:
    """The cell, and the steps in their order."""

    def __init__(self, room: Path) -> None:
        self.room = room
        self.drop = room / "camera"
        self.drop.mkdir()
        self.slot_port, mqtt, modbus = free_ports(3)
        self.plant = Plant(room / "plant", mqtt)
        self.plc = Plc(modbus)
        self.camera = Camera(self.drop, Line(SEED + 1))

    def configure(self, fleet: Path) -> None:
        """Give the device its feed."""
        feed = FEED.format(
            folder=self.drop, topic=TOPIC, mqtt=self.plant.port, modbus=self.plc.port,
            heartbeat=HEARTBEAT_REGISTER, reject=REJECT_COIL,
        )  # fmt: skip
        with (fleet / "device-1" / "agent.toml").open("a", encoding="utf-8") as file:
            file.write(feed)

    def judge(self, count: int) -> tuple[float, float]:
        """Let the next ``count`` discs be judged: scratched ones found, good ones thrown out."""
        first = len(self.camera.truth)

        def enough() -> bool:
            return self.plant.judged(self.camera.truth, first)[0] >= count

        until(f"{count} answers", enough)
        _, found, thrown = self.plant.judged(self.camera.truth, first)
        return found, thrown

    def first_version(self, hub: muster_client.Hub) -> None:
        """Roll it out, and let the belt run."""
        push(hub, self.room, self.room / "pictures", "1")
        first = hub.rollouts.start(MODEL, "1", slot="main", canary=0, min_soak_seconds=1.0)
        until("version 1 on the device", lambda: hub.rollouts.status(first["id"])["ended"])
        completed(hub, first["id"])
        self.camera.start()

    def hostile(self) -> None:
        """Files that are no pictures are named, and nothing stops."""
        whole = next((self.drop / "done").iterdir()).read_bytes()
        (self.drop / "cut.png").write_bytes(whole[: len(whole) // 2])
        (self.drop / "none.png").write_bytes(b"no picture")
        until("the bad files' answers", lambda: {"cut.png", "none.png"} <= {*self.plant.answers})
        bad = sorted(each.name for each in (self.drop / "bad").iterdir())
        reason = self.plant.answers["cut.png"]["reason"]
        if bad != ["cut.png", "none.png"] or reason != "unreadable":
            sys.exit(f"FAILED: bad files {bad}, answered {reason!r}")
        say("two broken files were answered 'unreadable' and put aside; the belt runs on")

    def lamp_fades(self, hub: muster_client.Hub) -> str:
        """The hub says what it is; its title."""
        self.camera.line.light = DIM

        def named() -> str:
            found = (each["title"] for each in hub.alerts.list() if each["kind"] == "drift")
            return next((title for title in found if "lighting" in title), "")

        until("the hub's alert", named)
        return named()

    def inspected(self) -> Path:
        """The pictures under the faded lamp, labelled by an inspector."""
        pictures = self.room / "inspected"
        write_pictures(pictures, Line(SEED + 2, light=DIM), TRAINING_PICTURES)
        return pictures

    def label(self, since: int) -> int:
        """An inspector's labels of the pictures from the number ``since`` on; how far."""
        names = sorted(name for name in [*self.camera.truth] if name in self.plant.answers)[since:]
        labels = [{"id": name, "label": self.camera.truth[name]} for name in names]
        if labels:
            url = f"http://127.0.0.1:{self.slot_port}/v2/models/{MODEL}/labels"
            body = json.dumps({"labels": labels}).encode()
            urllib.request.urlopen(urllib.request.Request(url, body), timeout=60).read()
        return since + len(names)

    def retrained(self, hub: muster_client.Hub) -> tuple[int, int, int]:
        """In shadow first: pictures labelled, right by version 2, right by version 1."""
        shadow = {
            "devices": 1, "min_seconds": 10.0, "compared_min": COMPARED_MIN, "disagreed_max": 1.0,
        }  # fmt: skip
        second = hub.rollouts.start(MODEL, "2", slot="main", canary=0, shadow=shadow)["id"]
        at = len(self.plant.answers)
        seen = (0, 0, 0)

        def ended() -> bool:
            nonlocal at, seen
            at = self.label(at)
            status = hub.rollouts.status(second)
            for each in (status["shadow"] or {}).get("devices", ()):
                seen = each["labelled"], each["right"], each["champion_right"]
            return status["ended"]

        until("version 2 on the device", ended)
        completed(hub, second)
        return seen

    def close(self) -> None:
        """End the cell."""
        self.camera.close()
        self.plant.close()


def story(room: Path) -> str:
    """What was proved, in a line."""
    fleet = room / "fleet"
    write_pictures(room / "pictures", Line(SEED), TRAINING_PICTURES)
    cell = Story(room)
    try:
        quickstart(fleet, "--port", str(cell.slot_port))
        quickstart(fleet, "--stop")
        cell.configure(fleet)
        quickstart(fleet)
        say("a hub, a broker and a device run; the device watches the camera's folder")
        with muster_client.Hub.from_profile(fleet / "hub" / "operator.toml") as hub:
            return inspection(hub, cell)
    finally:
        cell.close()
        quickstart(fleet, "--stop")


def inspection(hub: muster_client.Hub, cell: Story) -> str:
    """From the first version to the retrained one."""
    cell.first_version(hub)
    bright, thrown = cell.judge(JUDGED_MIN)
    say(
        f"version 1 finds {bright:.0%} of the scratched discs and throws out {thrown:.0%} good ones"
    )
    cell.hostile()
    if not cell.plc.rejects or not cell.plc.beats:
        sys.exit("FAILED: the PLC was told nothing")
    say(f"the PLC rejected {cell.plc.rejects} times and saw {cell.plc.beats} heartbeats")

    title = cell.lamp_fades(hub)
    say(f"the lamp has faded to {DIM:.0%}; the hub's alert: {title}")
    dim, _ = cell.judge(JUDGED_MIN)
    say(f"version 1 finds {dim:.0%} of the scratched discs under it")

    push(hub, cell.room, cell.inspected(), "2")
    labelled, right, champion_right = cell.retrained(hub)
    say(f"in shadow, of {labelled} labelled pictures, version 2 was right in {right}, version 1 in "
        f"{champion_right}")  # fmt: skip
    after, thrown = cell.judge(JUDGED_MIN)
    say(f"version 2 finds {after:.0%} of the scratched discs and throws out {thrown:.0%} good ones")
    cell.camera.close()
    until("the last answer", lambda: {*cell.camera.truth} <= {*cell.plant.answers})
    missing, repeated = {*cell.camera.truth} - {*cell.plant.answers}, cell.plant.repeated
    if right <= champion_right or after <= dim or missing or repeated:
        sys.exit(
            f"FAILED: right {right} against {champion_right}, found {dim:.0%} then {after:.0%}, "
            f"{len(missing)} pictures without an answer, {repeated} with two"
        )
    return (
        f"EXAMPLE OK: {len(cell.camera.truth)} pictures each answered once, scratched discs "
        f"rejected through the PLC ({bright:.0%} found); faded lamp named by the hub; version 2, "
        f"retrained, right in {right} of {labelled} labelled pictures where version 1 was in "
        f"{champion_right}, took over: {dim:.0%} found became {after:.0%}"
    )


def main() -> None:
    """Run the example, by default in a folder that isn't kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep everything here")
    options = parser.parse_args()
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
        print(story(options.keep.absolute()))
        return
    with tempfile.TemporaryDirectory(prefix="muster-example-") as folder:
        print(story(Path(folder)))


if __name__ == "__main__":
    main()
