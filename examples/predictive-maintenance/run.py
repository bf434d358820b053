"""Predictive maintenance from end to end on this machine: ``make example-maintenance``.

A pump line with an OPC UA server and a PLC; a model that the example trains; a real hub, broker and
agent. The model's answers reach the PLC, a bad version is caught in shadow, wear is injected, and
the line is stopped through the interlock before the bearing seizes.
"""

import sys
import time
from pathlib import Path

from plant import CURRENT_REGISTER, HEARTBEAT_REGISTER, NAMESPACE, RISK_REGISTER, STOP_COIL, Plant
from train import CLASSES, train

import muster_client

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # what the examples share
from stage import completed, drift, ended, fail, fleet, free_ports, perform, say, until

MODEL = "pump-wear"
SEED = 7
THRESHOLD = 0.8
WARM_SECONDS = 20.0
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


def feed_of(plant: Plant) -> str:
    """What connects the device to the line."""
    return FEED.format(
        url=plant.url, namespace=NAMESPACE, port=plant.modbus_port, current=CURRENT_REGISTER,
        heartbeat=HEARTBEAT_REGISTER, stop=STOP_COIL, risk=RISK_REGISTER, threshold=THRESHOLD,
    )  # fmt: skip


def push(hub: muster_client.Hub, room: Path, file: str, version: str) -> None:
    """Pack, push, check and sign a version."""
    hub.push(
        room / file, room / "healthy.csv", name=MODEL, version=version,
        features=str(room / "features.json"), classes=CLASSES, classifier="scores",
        window_rows=40, fallback=("no-decision",), probation_seconds=2.0,
    )  # fmt: skip


def story(room: Path) -> str:
    """What was proved, in a line."""
    model_port, opcua_port, modbus_port = free_ports(3)
    right = train(room, SEED)
    say(f"trained: right on {right:.1%} of a pump that it never saw")
    plant = Plant(SEED + 100, opcua_port, modbus_port)
    with fleet(room / "fleet", model_port, feed_of(plant)) as hub:
        say("a hub, a broker and a device run; the device reads OPC UA and Modbus")
        return maintenance(hub, room, plant)


def maintenance(hub: muster_client.Hub, room: Path, plant: Plant) -> str:
    """From the first version to the stopped line."""
    push(hub, room, "model.onnx", "1")
    first = hub.rollouts.start(MODEL, "1", slot="main", canary=0, min_soak_seconds=1.0)
    completed(hub, first["id"], "version 1 on the device")
    say("version 1 serves; the line may start when its answers reach the PLC")
    until("the interlock's release", lambda: started(plant))
    say("the line runs")
    time.sleep(WARM_SECONDS)  # The pump warms up.

    plant.forget()
    push(hub, room, "bad.onnx", "2")
    shadow = {"devices": 1, "min_seconds": 10.0, "compared_min": 20, "disagreed_max": 0.05}
    second = hub.rollouts.start(MODEL, "2", slot="main", canary=0, shadow=shadow)
    found = ended(hub, second["id"], "the shadow's end")
    say(f"the bad version ended as {found['state']}: {found['reason']}")
    if found["state"] == "completed" or plant.risk_max >= THRESHOLD:
        fail(f"the bad version touched the PLC (risk {plant.risk_max:.2f})")
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
        fail(f"{plant.stopped_because}, wear {wear:.2f}")
    say(f"the line was stopped by {plant.stopped_because} at wear {wear:.2f}")
    until("the hub's alert", lambda: drift(hub))
    say(f"the hub's alert: {drift(hub)}")
    return (
        f"EXAMPLE OK: worn bearing predicted and line stopped through the PLC's interlock at wear "
        f"{wear:.2f} of 1.00, {after:.0f} s after it began; bad version caught in shadow, highest "
        f"risk at the PLC meanwhile {quiet:.2f}; alert open at the hub"
    )


def started(plant: Plant) -> bool:
    """Press start; whether the interlock allowed it."""
    try:
        plant.start_line()
    except RuntimeError:
        return False
    return True


if __name__ == "__main__":
    perform(story, __doc__)
