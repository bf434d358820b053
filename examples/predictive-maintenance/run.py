"""Predictive maintenance from end to end on this machine: ``make example-maintenance``.

A pump line with an OPC UA server and a PLC; a model that the example trains; a real hub, broker and
agent. The model's answers reach the PLC, a bad version is caught in shadow, wear is injected, and
the line is stopped through the interlock before the bearing seizes.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from plant import CURRENT_REGISTER, HEARTBEAT_REGISTER, NAMESPACE, RISK_REGISTER, STOP_COIL, Plant
from train import CLASSES, train

import muster_client
from muster_hub.demo.fleet import free_ports

MODEL = "pump-wear"
SEED = 7
THRESHOLD = 0.8
WAIT_SECONDS = 180.0
TRIES = 3
FEED = """
[feeds.pump]
slot = "main"
deadline_seconds = 4.0
[feeds.pump.sources.line]
kind = "opcua"
url = "{url}"
publish_seconds = 0.1
[feeds.pump.sources.line.tags]
vibration = {{ node = "s=Pump.Vibration", namespace = "{namespace}", unit = "mm/s" }}
[feeds.pump.sources.line.tags.bearing_temperature]
node = "s=Pump.BearingTemperature"
namespace = "{namespace}"
unit = "°C"
[feeds.pump.sources.plc]
kind = "modbus"
host = "127.0.0.1"
port = {port}
every_seconds = 0.1
tags = {{ motor_current = {{ register = {current}, scale = 0.01, unit = "A" }} }}
[feeds.pump.sinks.plc]
kind = "modbus"
host = "127.0.0.1"
port = {port}
allow_writes = true
heartbeat_register = {heartbeat}
[feeds.pump.sinks.plc.writes]
stop = {{ type = "bit", register = {stop}, value = "scores[1]", at_least = {threshold}, safe = 1 }}
risk = {{ register = {risk}, word_order = "big", value = "scores[1]", safe = -1.0 }}
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


def configure(fleet: Path, plant: Plant) -> None:
    """Give the device its feed."""
    feed = FEED.format(
        url=plant.url, namespace=NAMESPACE, port=plant.modbus_port, current=CURRENT_REGISTER,
        heartbeat=HEARTBEAT_REGISTER, stop=STOP_COIL, risk=RISK_REGISTER, threshold=THRESHOLD,
    )  # fmt: skip
    with (fleet / "device-1" / "agent.toml").open("a", encoding="utf-8") as file:
        file.write(feed)


def push(hub: muster_client.Hub, room: Path, file: str, version: str) -> None:
    """Pack, push, check and sign a version."""
    hub.push(
        room / file, room / "healthy.csv", name=MODEL, version=version,
        features=str(room / "features.json"), classes=CLASSES, classifier="scores",
        window_rows=40, fallback=("no-decision",), probation_seconds=2.0,
    )  # fmt: skip


def story(room: Path) -> str:
    """What was proved, in a line."""
    fleet = room / "fleet"
    model_port, opcua_port, modbus_port = free_ports(3)
    right = train(room, SEED)
    say(f"trained: right on {right:.1%} of a pump that it never saw")
    plant = Plant(SEED + 100, opcua_port, modbus_port)
    quickstart(fleet, "--port", str(model_port))
    quickstart(fleet, "--stop")
    configure(fleet, plant)
    try:
        quickstart(fleet)
        say("a hub, a broker and a device run; the device reads OPC UA and Modbus")
        with muster_client.Hub.from_profile(fleet / "hub" / "operator.toml") as hub:
            return maintenance(hub, room, plant)
    finally:
        quickstart(fleet, "--stop")


def maintenance(hub: muster_client.Hub, room: Path, plant: Plant) -> str:
    """From the first version to the stopped line."""
    push(hub, room, "model.onnx", "1")
    first = hub.rollouts.start(MODEL, "1", slot="main", canary=0, min_soak_seconds=1.0)
    until("version 1 on the device", lambda: hub.rollouts.status(first["id"])["ended"])
    say("version 1 serves; the line may start when its answers reach the PLC")
    until("the interlock's release", lambda: started(plant))
    say("the line runs")
    time.sleep(WARM_SECONDS)  # The pump warms up.

    plant.forget()
    push(hub, room, "bad.onnx", "2")
    shadow = {"devices": 1, "min_seconds": 10.0, "compared_min": 20, "disagreed_max": 0.05}
    second = hub.rollouts.start(MODEL, "2", slot="main", canary=0, shadow=shadow)
    until("the shadow's end", lambda: hub.rollouts.status(second["id"])["ended"])
    ended = hub.rollouts.status(second["id"])
    say(f"the bad version ended as {ended['state']}: {ended['reason']}")
    if ended["state"] == "completed" or plant.risk_max >= THRESHOLD:
        sys.exit(f"FAILED: the bad version touched the PLC (risk {plant.risk_max:.2f})")
    quiet = plant.risk_max
    say(f"the PLC saw none of it: the highest risk written was {quiet:.2f}")
    if not plant.pump.running:  # The safe value stops it where a machine is too slow to answer.
        say(f"the line was stopped fail-safe ({plant.stopped_because}) and is started again")
        until("the interlock's release", lambda: started(plant))

    plant.pump.wear_factor = 600.0
    began = plant.pump.seconds
    say("wear is injected")
    until("the stop", lambda: not plant.pump.running)
    wear, after = plant.pump.wear, plant.pump.seconds - began
    if plant.stopped_because != "the model's stop" or wear >= 1.0:
        sys.exit(f"FAILED: {plant.stopped_because}, wear {wear:.2f}")
    say(f"the line was stopped by {plant.stopped_because} at wear {wear:.2f}")
    until("the hub's alert", lambda: alert_of_wear(hub))
    say(f"the hub's alert: {alert_of_wear(hub)}")
    return (
        f"EXAMPLE OK: worn bearing predicted and line stopped through the PLC's interlock at wear "
        f"{wear:.2f} of 1.00, {after:.0f} s after it began; bad version caught in shadow, highest "
        f"risk at the PLC meanwhile {quiet:.2f}; alert open at the hub"
    )


WARM_SECONDS = 20.0


def alert_of_wear(hub: muster_client.Hub) -> str:
    """Title of the alert that the model's inputs have moved; empty while there is none."""
    found = (each["title"] for each in hub.alerts.list() if each["kind"] == "drift")
    return next(found, "")


def started(plant: Plant) -> bool:
    """Press start; whether the interlock allowed it."""
    try:
        plant.start_line()
    except RuntimeError:
        return False
    return True


def main() -> None:
    """Run the example, by default in a folder that isn't kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep everything here")
    options = parser.parse_args()
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
        print(story(options.keep))
        return
    with tempfile.TemporaryDirectory(prefix="muster-example-") as folder:
        print(story(Path(folder)))


if __name__ == "__main__":
    main()
