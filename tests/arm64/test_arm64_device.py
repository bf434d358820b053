"""The agent on arm64: a device of the real package, emulated; hub and plant are not.

Its programs run under an emulator in a Debian for arm64; hub, broker, PLC, OPC UA server and edge
node are this machine's own. An emulator has no Landlock and no seccomp, so models run there without
isolation, and the device must say so. The cage itself is tested natively, and its filter for arm64
by the rules of the kernel in ``tests/agent/isolation``.
"""

import json
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from arm64.floor import EDGE_NODE, GROUP, Floor
from muster_hub.demo.fleet import program
from muster_protocol.images.decoding import decoded
from muster_protocol.wire import manifest
from muster_protocol.wire.feeding import InputQuality, InputWindow
from muster_protocol.wire.limits import MIB
from support import arm64_system, cards, debian_package, models, pictures
from support.cards import Machine
from support.fed import PlantClient, fed_bundle
from support.plant_servers import NAMESPACE
from support.ports import HOST, free_port
from support.root_system import RootSystem
from support.served import Served, finish
from support.waiting import eventually
from support.workers import infer_body

pytestmark = [pytest.mark.arm64, pytest.mark.timeout(5400)]
DEVICE = "arm-1"
WAIT_SECONDS = 1800.0
"""Bounds a failure: under emulation an agent takes about a minute to start."""
NEAR = 1e-4
PATIENT: dict[str, Any] = {
    "start": manifest.Start(wall_seconds=WAIT_SECONDS, cpu_seconds=WAIT_SECONDS),
    "probation": manifest.Probation(seconds=1.0, latency_ratio_max=1000.0),
}
"""Deadlines for an emulated machine, whose speed says nothing of a model."""
SLOWLY: dict[str, Any] = {
    "window": InputWindow(every_seconds=1.0),
    "quality": InputQuality(stale_seconds=300.0),
}
DOCTOR = {
    "full": "models run under Landlock and a filter of calls",
    "no_landlock": "models run under a filter of calls",
    "one_thread": "models run under a filter of calls",
    "none": "this kernel isolates no model's process",
}
"""What the device's doctor says of each rung of isolation."""
PLANT = "/srv/plant"
SLOTS = ("onnx", "tflite", "press", "parts")
FEED = """
[feeds.{feed}]
slot = "{slot}"
deadline_seconds = 60.0
[feeds.{feed}.sources.in]
{source}
[feeds.{feed}.sinks.out]
{sink}
"""
PROBABILITY = 'value = "probabilities[1]"'


def feeds(floor: Floor) -> str:
    """A feed for each protocol: ``agent.toml`` below what enrolment wrote."""
    broker = f'host = "{HOST}"\nport = {floor.broker.port}'
    plc = f'kind = "modbus"\nhost = "{HOST}"\nport = {floor.plc.port}\ntimeout_seconds = 30'
    server = f'kind = "opcua"\nurl = "{floor.opcua.url}"\ntimeout_seconds = 60'
    spark = f'kind = "sparkplug"\n{broker}\ngroup = "{GROUP}"'

    def tags(flow: str, temperature: str) -> str:
        return (
            f'tags = {{ flow = {{ {flow}, unit = "m3/h" }}, '
            f'temperature = {{ {temperature}, unit = "°C" }} }}'
        )

    def register(number: int) -> str:
        return f'register = {number}, type = "float32", word_order = "big"'

    def node(name: str) -> str:
        return f'node = "s=Line.{name}", namespace = "{NAMESPACE}"'

    def writing(machine: str, place: str) -> str:
        return (
            f"{machine}\nallow_writes = true\n"
            f"writes = {{ risk = {{ {place}, {PROBABILITY}, safe = -1 }} }}"
        )

    made = {
        "mqtt": (
            f'kind = "mqtt"\n{broker}\n' + tags('topic = "in/flow"', 'topic = "in/temperature"'),
            f'kind = "mqtt"\n{broker}\ntopic = "answers/{{device}}"',
        ),
        "sparkplug": (
            f'{spark}\nedge_node = "{EDGE_NODE}"\n'
            + tags('metric = "outputs/flow"', 'metric = "outputs/temperature"'),
            spark,
        ),
        "modbus": (
            f"{plc}\n" + tags(register(0), register(2)),
            writing(plc, register(4)),
        ),
        "serial": (
            f'kind = "modbus"\nserial_port = "{floor.serial_port}"\nbaudrate = 115_200\n'
            f'parity = "none"\ntimeout_seconds = 30\n' + tags(register(0), register(2)),
            f'kind = "webhook"\nurl = "{floor.hook_url}"',
        ),
        "opcua": (
            f"{server}\n" + tags(node("Flow"), node("Temperature")),
            writing(server, node("Answer")),
        ),
        "csv": (
            f'kind = "csv"\npath = "{PLANT}/log.csv"\nfrom_start = true\n'
            + tags('column = "Flow"', 'column = "T"'),
            f'kind = "file"\npath = "{PLANT}/answers.jsonl"',
        ),
        "images": (
            f'kind = "images"\npath = "{PLANT}/camera"\nsignal = "part"',
            f'kind = "file"\npath = "{PLANT}/parts.jsonl"',
        ),
    }
    return "".join(
        FEED.format(
            feed=name, slot="parts" if name == "images" else "press", source=source, sink=sink
        )
        for name, (source, sink) in made.items()
    )


@dataclass
class Device:
    """The emulated device, what stands around it, and what is said of it in the end."""

    directory: Path
    hub: Served
    floor: Floor
    machine: Machine
    ports: dict[str, int]
    asked: int = 0
    said: list[str] = field(default_factory=list)
    """Figures."""
    proved: list[str] = field(default_factory=list)

    def wait(self, what: str, done: Callable[[], bool]) -> None:
        log = self.machine.log
        assert eventually(done, WAIT_SECONDS), (
            f"not within {WAIT_SECONDS:.0f} s: {what}\n{log.read_text()[-4000:]}"
        )

    def seen(self) -> dict[str, Any]:
        found: dict[str, Any] = self.hub.ask(f"/devices/{DEVICE}")
        return found

    def push(self, folder: Path, name: str, version: str) -> None:
        words = [program("muster"), "--profile", self.hub.data / "operator.toml"]
        subprocess.run([*words, "model", "push", folder], check=True, timeout=WAIT_SECONDS)
        path = f"/models/{name}/versions/{version}"
        self.wait("it is published", lambda: self.hub.ask(path)["status"] == "published")

    def roll_out(self, name: str, version: str) -> int:
        """To the slot of the model's name."""
        plan = {"canary": 0, "min_soak_seconds": 0, "window_seconds": 5.0, "selector": "lane=arm64"}
        asked = plan | {"model": name, "version": version, "slot": name}
        return int(self.hub.ask("/rollouts", asked)["id"])

    def completed(self, rollout: int) -> bool:
        state = self.hub.ask(f"/rollouts/{rollout}")["state"]
        assert state in {"running", "completed"}, self.hub.ask(f"/rollouts/{rollout}")
        return bool(state == "completed")

    def infer(self, slot: str, values: Sequence[float]) -> tuple[str, list[float]]:
        """The version that answers, and its probabilities."""
        self.asked += 1
        request = urllib.request.Request(
            f"http://{HOST}:{self.ports[slot]}/v2/models/{slot}/infer",
            data=json.dumps(infer_body(values)).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=WAIT_SECONDS) as answer:
            said = json.loads(answer.read())
        return said["model_version"], said["outputs"][0]["data"]

    def processes(self) -> list[psutil.Process]:
        assert self.machine.process is not None
        agent = psutil.Process(self.machine.process.pid)
        return [agent, *agent.children(recursive=True)]


def expected(values: Sequence[float], seed: int = 7) -> np.ndarray:
    """What NumPy makes of the same weights on this machine."""
    w, b = models.weights(len(values), 3, seed)
    return models.softmax(np.array([values], np.float32), w, b)[0]


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    try:
        arm64_system.prepare()
    except arm64_system.Unfit as unfit:
        pytest.fail(f"this machine can't run the arm64 lane: {unfit}", pytrace=False)
    directory, began = tmp_path_factory.mktemp("arm64"), time.monotonic()
    package = debian_package.built(directory, architecture=arm64_system.ARCHITECTURE)
    system = RootSystem(arm64_system.installed(package), directory / "image")
    took = time.monotonic() - began
    with ExitStack() as stack:
        hub = Served(directory / "hub")
        serving = hub.ready()
        stack.callback(finish, serving)
        stack.callback(serving.terminate)
        floor = stack.enter_context(Floor(directory / "floor", DEVICE))
        image = cards.provision(system, hub, {"lane": "arm64"}, uses=1)
        plant = image.made / PLANT.lstrip("/")
        (plant / "camera").mkdir(parents=True)
        for folder in (plant, plant / "camera"):
            folder.chmod(0o777)  # The machines' software writes there, too, whoever it runs as.
        image.put(f"{PLANT}/log.csv", "Flow,T\n")
        ports = {slot: free_port() for slot in SLOTS}
        slots = "".join(f"[slots.{slot}]\ntcp_port = {port}\n" for slot, port in ports.items())
        machine = Machine(image, directory / DEVICE, slots + feeds(floor))
        stack.callback(machine.pull)
        machine.boot()
        said = [f"package built and installed in {took:.0f} s"]
        yield Device(directory, hub, floor, machine, ports, said=said)


@pytest.fixture(scope="module")
def enrolled(device: Device) -> Device:
    def heard() -> bool:
        names = [found["id"] for found in device.hub.ask("/devices")["items"]]
        return DEVICE in names and device.seen()["report"] is not None

    began = time.monotonic()
    device.wait("it has enrolled and reported", heard)
    device.said.append(f"enrolled and online {time.monotonic() - began:.0f} s after its boot")
    return device


@pytest.fixture(scope="module")
def serving(enrolled: Device) -> Device:
    """With a model for each runtime, one for the feeds of numbers and one for pictures."""
    folder = enrolled.directory / "bundles"
    models.write_bundle(folder / "onnx", model="onnx", runtimes=("onnx",), **PATIENT)
    models.write_bundle(folder / "tflite", model="tflite", runtimes=("tflite",), **PATIENT)
    fed_bundle(folder / "press", model="press", **SLOWLY, **PATIENT)
    seen = pictures.seen_bundle() | SLOWLY | PATIENT
    fed_bundle(folder / "parts", model="parts", **seen)
    for name in SLOTS:
        enrolled.push(folder / name, name, "1")
    began = time.monotonic()
    numbers = [enrolled.roll_out(name, "1") for name in SLOTS]
    for number in numbers:
        enrolled.wait("it is rolled out", lambda number=number: enrolled.completed(number))  # type: ignore[misc]  # bound now
    enrolled.said.append(f"four models serve {time.monotonic() - began:.0f} s later")
    return enrolled


def test_a_device_of_the_package_enrols_itself_and_says_what_it_is(enrolled: Device) -> None:
    facts = enrolled.seen()["report"]["facts"]
    assert facts["machine"] == arm64_system.MACHINE
    assert facts["python"].startswith(arm64_system.version())
    assert set(facts["runtimes"]) == {"onnx", "tflite"}
    enrolled.proved.append("the package enrols")


def test_what_an_emulator_has_no_isolation_for_is_reported_and_not_hidden(enrolled: Device) -> None:
    rung = enrolled.seen()["report"]["facts"]["isolation"]
    enrolled.said.append(f"isolation of its models: {rung}")
    done = enrolled.machine.run("muster-agent", "doctor", "--dir", cards.STATE)
    assert DOCTOR[rung] in done.stdout + done.stderr


@pytest.mark.parametrize("runtime", ["onnx", "tflite"])
def test_a_model_of_each_runtime_computes_what_numpy_does(serving: Device, runtime: str) -> None:
    for seed in range(5):
        values = np.random.default_rng(seed).normal(size=4).round(3).tolist()
        version, found = serving.infer(runtime, values)
        assert version == "1"
        np.testing.assert_allclose(found, expected(values), atol=NEAR)
    serving.proved.append(f"{runtime} infers")


@pytest.mark.parametrize("runtime", ["onnx", "tflite"])
def test_an_update_takes_over_while_every_request_is_answered_rightly(
    serving: Device, runtime: str
) -> None:
    folder = serving.directory / "bundles" / f"{runtime}-2"
    models.write_bundle(folder, model=runtime, version="2", runtimes=(runtime,), seed=8, **PATIENT)
    serving.push(folder, runtime, "2")
    values, over, wrong, by = [0.5, -1.0, 0.25, 2.0], threading.Event(), [], {"1": 0, "2": 0}
    rightly = {"1": expected(values), "2": expected(values, seed=8)}

    def ask() -> None:
        while not over.wait(0.2):
            try:
                version, found = serving.infer(runtime, values)
            except OSError as error:
                wrong.append(str(error))
                continue
            by[version] += 1
            if not np.allclose(found, rightly[version], atol=NEAR):
                wrong.append(f"version {version} said {found}")

    client = threading.Thread(target=ask)
    client.start()
    try:
        number = serving.roll_out(runtime, "2")
        serving.wait("it is rolled out", lambda: serving.completed(number))
        before = by["2"]
        serving.wait("the new version answers", lambda: by["2"] > before)
    finally:
        over.set()
        client.join(WAIT_SECONDS)
    assert wrong == []
    assert by["1"] > 0
    serving.said.append(f"{runtime} updated under {sum(by.values())} requests, none failed")
    serving.proved.append(f"{runtime} updates")


def test_its_telemetry_counts_each_inference_at_the_hub(serving: Device) -> None:
    def counted() -> int:
        return sum(window["n"] for slot in ("onnx", "tflite") for window in windows(serving, slot))

    serving.wait("all inferences are counted", lambda: counted() >= serving.asked)
    assert counted() == serving.asked
    serving.said.append(f"{counted()} of {serving.asked} inferences counted at the hub")
    serving.proved.append("telemetry arrives")


def windows(device: Device, model: str) -> Iterator[dict[str, Any]]:
    path: str | None = f"/devices/{DEVICE}/windows?model={model}"
    cursor = ""
    while path is not None:
        page = device.hub.ask(path + cursor)
        yield from page["items"]
        path, cursor = (path, f"&cursor={page['next']}") if page["next"] else (None, "")


def test_mqtt_topics_become_an_answer_on_a_topic(serving: Device) -> None:
    with PlantClient(serving.floor.broker.port, f"answers/{DEVICE}") as plant:
        plant.publish("in/flow", "1.5", retain=True)
        plant.publish("in/temperature", "2.5", retain=True)
        answer = said_by(serving, plant)
    np.testing.assert_allclose(
        answer["outputs"]["probabilities"], expected([1.5, 2.5]), atol=NEAR
    )  # fmt: skip
    assert (answer["model"], answer["version"]) == ("press", "1")
    serving.proved.append("fed by MQTT")


def said_by(device: Device, plant: PlantClient) -> dict[str, Any]:
    """The first answer of the model, of as many as come."""
    found: list[dict[str, Any]] = []

    def good() -> bool:
        while not plant.messages.empty():
            _, answer = plant.messages.get()
            found.extend([answer] if answer["basis"] == "model" else [])
        return bool(found)

    device.wait("the feed answers", good)
    return found[0]


def test_sparkplug_metrics_become_metrics_of_the_device_s_own_node(serving: Device) -> None:
    serving.floor.give_edge_node(2.0, 1.0)
    wanted = float(expected([2.0, 1.0])[1])
    assert serving.floor.heard_sparkplug(wanted, NEAR) == pytest.approx(wanted, abs=NEAR)
    serving.proved.append("fed by Sparkplug B")


def test_modbus_registers_become_an_answer_in_the_plc(serving: Device) -> None:
    serving.floor.give_plc(0.75, 3.0)
    wanted = expected([0.75, 3.0])[1]
    serving.wait("it is written", lambda: abs(serving.floor.written_plc() - wanted) < NEAR)
    serving.proved.append("fed by Modbus")


def test_registers_over_a_serial_line_become_answers_that_are_posted(serving: Device) -> None:
    serving.floor.give_serial(0.5, 2.25)
    wanted = expected([0.5, 2.25])
    serving.wait("it is posted", lambda: any(near(each, wanted) for each in serving.floor.posted))
    serving.proved.append("fed by Modbus RTU")


def test_opcua_variables_become_an_answer_in_the_server(serving: Device) -> None:
    serving.floor.give_opcua(1.25, 0.5)
    wanted = expected([1.25, 0.5])[1]
    serving.wait("it is written", lambda: abs(serving.floor.written_opcua() - wanted) < NEAR)
    serving.proved.append("fed by OPC UA")


def test_lines_of_a_file_become_lines_of_a_file(serving: Device) -> None:
    with serving.machine.inside(f"{PLANT}/log.csv").open("a") as log:
        log.write("1.75,0.25\n")
    wanted = expected([1.75, 0.25])
    serving.wait("it is written", lambda: any(near(each, wanted) for each in lines_of(serving)))
    serving.proved.append("fed by files")


def test_a_picture_is_judged_as_training_would_see_it(serving: Device) -> None:
    data = pictures.png(80, seed=3)
    pictures.drop(serving.machine.inside(f"{PLANT}/camera"), "a.png", data)
    wanted = pictures.expected(decoded(data))

    def judged() -> bool:
        found = lines_of(serving, "parts.jsonl")
        return any(each.get("picture") == "a.png" and near(each, wanted) for each in found)

    serving.wait("it is judged", judged)
    serving.proved.append("fed by pictures")


def lines_of(device: Device, name: str = "answers.jsonl") -> list[dict[str, Any]]:
    path = device.machine.inside(f"{PLANT}/{name}")
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def near(answer: dict[str, Any], wanted: np.ndarray) -> bool:
    found = answer["outputs"].get("probabilities", [])
    return answer["basis"] == "model" and np.allclose(found, wanted, atol=NEAR)


def test_it_stops_when_it_is_told_to_and_the_lane_says_what_was_proved(
    serving: Device, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    processes = serving.processes()
    held = [process.memory_info().rss / MIB for process in processes]
    serving.said.append(f"agent {held[0]:.0f} MiB, {len(held)} processes {sum(held):.0f} MiB")
    serving.machine.pull()
    _, alive = psutil.wait_procs(processes, timeout=cards.STOP_SECONDS)
    assert alive == []
    with capsys.disabled():
        print("\n" + "\n".join(f"  {line}" for line in serving.said))
        if request.session.testsfailed == 0:
            print(f"ARM64 OK: {', '.join(serving.proved)}")
