"""Visual quality control from end to end on this machine: ``make example-vision``.

A cell whose camera drops pictures into a folder; a model that the example trains; a real hub,
broker and agent. Each disc is judged once, scratched ones are rejected through the PLC, the lamp
fades and is named, a retrained version wins on the same pictures before it takes over, and its int8
build in TFLite must agree with it before it does.
"""

import json
import sys
import urllib.request
from pathlib import Path
from typing import NamedTuple

from cell import HEARTBEAT_REGISTER, REJECT_COIL, TOPIC, Camera, Plant, Plc
from parts import CLASSES, Line
from train import train, write_pictures

import muster_client

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # what the examples share
from stage import completed, drift, fail, fleet, free_ports, perform, say, until

MODEL = "disc-scratches"
SEED = 11
DIM = 0.45
"""Of a new lamp's light."""
TRAINING_PICTURES = 800
JUDGED_MIN = 60
"""Pictures by which a share is told."""
COMPARED_MIN = 80
INT8_DISAGREED_MAX = 0.05
"""Share of pictures that whole numbers may judge otherwise."""
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


def learn(room: Path, pictures: Path, version: str) -> None:
    """Train on a folder of pictures: the same model as ONNX and as int8 in TFLite."""
    train(pictures, room / f"model-{version}.onnx")


def push(hub: muster_client.Hub, room: Path, file: str, pictures: Path, version: str) -> None:
    """Pack, push, check and sign a version."""
    hub.push(
        room / file, pictures, name=MODEL, version=version, features=str(room / "features.json"),
        classes=CLASSES, classifier="scores", window_rows=40, fallback=("no-decision",),
        probation_seconds=2.0,
    )  # fmt: skip


class Compared(NamedTuple):
    """What the hub counted of a version in shadow, beside the one that serves."""

    compared: int = 0
    disagreed: int = 0
    labelled: int = 0
    right: int = 0
    champion_right: int = 0


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

    def feed(self) -> str:
        """What connects the device to the cell."""
        return FEED.format(
            folder=self.drop, topic=TOPIC, mqtt=self.plant.port, modbus=self.plc.port,
            heartbeat=HEARTBEAT_REGISTER, reject=REJECT_COIL,
        )  # fmt: skip

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
        learn(self.room, self.room / "pictures", "1")
        push(hub, self.room, "model-1.onnx", self.room / "pictures", "1")
        first = hub.rollouts.start(MODEL, "1", slot="main", canary=0, min_soak_seconds=1.0)
        completed(hub, first["id"], "version 1 on the device")
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
            fail(f"bad files {bad}, answered {reason!r}")
        say("two broken files were answered 'unreadable' and put aside; the belt runs on")

    def lamp_fades(self, hub: muster_client.Hub) -> str:
        """The hub says what it is; its title."""
        self.camera.line.light = DIM

        until("the hub's alert", lambda: drift(hub, "lighting"))
        return drift(hub, "lighting")

    def inspected(self) -> Path:
        """Pictures under the faded lamp, labelled by an inspector."""
        pictures = self.room / "inspected"
        if not pictures.exists():
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

    def shadowed(self, hub: muster_client.Hub, version: str, disagreed_max: float) -> Compared:
        """Roll a version out, in shadow first: beside the one that serves, on the same pictures.

        The inspector labels them meanwhile.
        """
        shadow = {
            "devices": 1, "min_seconds": 10.0, "compared_min": COMPARED_MIN,
            "disagreed_max": disagreed_max,
        }  # fmt: skip
        rollout = hub.rollouts.start(MODEL, version, slot="main", canary=0, shadow=shadow)["id"]
        at, seen = len(self.plant.answers), Compared()

        def over() -> bool:
            nonlocal at, seen
            at = self.label(at)
            status = hub.rollouts.status(rollout)
            for each in (status["shadow"] or {}).get("devices", ()):
                seen = Compared(*(each[name] for name in Compared._fields))
            return status["ended"]

        until(f"version {version} on the device", over)
        completed(hub, rollout, f"the end of version {version}'s rollout")
        return seen

    def close(self) -> None:
        """End the cell."""
        self.camera.close()
        self.plant.close()


def story(room: Path) -> str:
    """What was proved, in a line."""
    write_pictures(room / "pictures", Line(SEED), TRAINING_PICTURES)
    cell = Story(room)
    try:
        with fleet(room / "fleet", cell.slot_port, cell.feed()) as hub:
            say("a hub, a broker and a device run; the device watches the camera's folder")
            return inspection(hub, cell)
    finally:
        cell.close()


def inspection(hub: muster_client.Hub, cell: Story) -> str:
    """From the first version to the retrained one."""
    cell.first_version(hub)
    bright, thrown = cell.judge(JUDGED_MIN)
    say(
        f"version 1 finds {bright:.0%} of the scratched discs and throws out {thrown:.0%} good ones"
    )
    cell.hostile()
    if not cell.plc.rejects or not cell.plc.beats:
        fail("the PLC was told nothing")
    say(f"the PLC rejected {cell.plc.rejects} times and saw {cell.plc.beats} heartbeats")

    title = cell.lamp_fades(hub)
    say(f"the lamp has faded to {DIM:.0%}; the hub's alert: {title}")
    dim, _ = cell.judge(JUDGED_MIN)
    say(f"version 1 finds {dim:.0%} of the scratched discs under it")

    learn(cell.room, cell.inspected(), "2")
    push(hub, cell.room, "model-2.onnx", cell.inspected(), "2")
    seen = cell.shadowed(hub, "2", disagreed_max=1.0)
    say(f"in shadow, of {seen.labelled} labelled pictures, version 2 was right in {seen.right}, "
        f"version 1 in {seen.champion_right}")  # fmt: skip
    after, thrown = cell.judge(JUDGED_MIN)
    say(f"version 2 finds {after:.0%} of the scratched discs and throws out {thrown:.0%} good ones")

    push(hub, cell.room, "model-2.tflite", cell.inspected(), "2-int8")
    lite = cell.shadowed(hub, "2-int8", disagreed_max=INT8_DISAGREED_MAX)
    say(f"as int8 in TFLite it judges {lite.disagreed} of {lite.compared} pictures otherwise than "
        "in ONNX")  # fmt: skip
    int8, thrown = cell.judge(JUDGED_MIN)
    say(f"it finds {int8:.0%} of the scratched discs and throws out {thrown:.0%} good ones")

    cell.camera.close()
    until("the last answer", lambda: {*cell.camera.truth} <= {*cell.plant.answers})
    missing, repeated = {*cell.camera.truth} - {*cell.plant.answers}, cell.plant.repeated
    if seen.right <= seen.champion_right or min(after, int8) <= dim or missing or repeated:
        fail(
            f"right {seen.right} against {seen.champion_right}, found {dim:.0%}, {after:.0%}, then "
            f"{int8:.0%}, {len(missing)} pictures without an answer, {repeated} with two"
        )
    return (
        f"EXAMPLE OK: {len(cell.camera.truth)} pictures each answered once, scratched discs "
        f"rejected through the PLC ({bright:.0%} found); faded lamp named by the hub; version 2, "
        f"retrained, right in {seen.right} of {seen.labelled} labelled pictures where version 1 "
        f"was in {seen.champion_right}, took over: {dim:.0%} found became {after:.0%}; its int8 "
        f"build in TFLite agreed with ONNX on {lite.compared - lite.disagreed} of {lite.compared} "
        f"pictures and took over: {int8:.0%} found"
    )


if __name__ == "__main__":
    perform(story, __doc__)
