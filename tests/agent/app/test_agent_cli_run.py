"""``muster-agent run`` as it is in the field: real broker, real processes, real models."""

import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from muster_agent.base import config
from muster_agent.link.link import Connected, LinkEvent, Message
from muster_agent.link.mqtt import MqttLink, MqttSettings
from muster_agent.trust.time import Instant
from muster_protocol.signals import summary_wire
from muster_protocol.wire import chunks, directive, manifest, messages, topics
from muster_protocol.wire.directive import Goal, Slot
from support.ideal_hub import IdealHub
from support.models import write_bundle
from support.mosquitto import Mosquitto
from support.pki import Authority
from support.tuf_repository import Repository
from support.workers import Client, end_load, infer_body, start_load

pytestmark = pytest.mark.system
DEVICE = "cam-1"
WAIT_SECONDS = 60.0


class Hub:
    """Publishes like the hub, acknowledges like the hub, remembers what it was told."""

    def __init__(self, directory: Path, authority: Authority, port: int) -> None:
        self.now = int(time.time())
        self.repository = Repository(("dense",), now=self.now)
        self.rows = IdealHub()
        self.reports: list[messages.Report] = []
        self.generation = 0
        self._directory = directory
        self._inbox: queue.Queue[LinkEvent] = queue.Queue()
        pair = authority.issue("hub")
        will = (topics.up("hub", "presence"), b"")
        self._link = MqttLink(
            MqttSettings("127.0.0.1", port, "hub", pair.key, pair.cert, authority.cert),
            will, self._inbox.put, lambda: Instant(self.now, "synchronised"),
        )  # fmt: skip
        self._link.subscribe(*(topics.up_all(leaf) for leaf in ("report", "event", "telemetry")))
        self._link.start()
        assert isinstance(self._inbox.get(timeout=60), Connected)

    def close(self) -> None:
        self._link.stop()

    def publish(self, topic: str, data: bytes, *, retain: bool = True) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while not self._link.publish(topic, data, retain=retain):
            assert time.monotonic() < deadline
            time.sleep(0.01)  # the link is connecting

    def release(self, version: str, **fields: Any) -> Goal:
        bundle = self._directory / f"bundle-{version}"
        bundle.mkdir()
        fields.setdefault("probation", manifest.Probation(seconds=1.0))
        listing, digest = write_bundle(bundle, version=version, seed=int(version), **fields)
        text = (bundle / "manifest.json").read_bytes()
        self.publish(topics.chunk(digest), text)
        for entry in listing.files:
            pieces = list(chunks.cut((bundle / entry.path).read_bytes()))
            for piece in pieces:
                self.publish(topics.chunk(chunks.sha256_hex(piece)), bytes(piece))
        self.repository.release("dense", version, text)
        for file, data in self.repository.files.items():
            self.publish(topics.tuf(file), data)
        return Goal("dense", version, digest, len(text))

    def direct(self, goal: Goal | None, **fields: Any) -> None:
        self.generation += 1
        envelope = self.repository.envelope(directive.encode(directive.Directive(
            device=DEVICE, epoch=1, generation=self.generation, issued=self.now,
            expires=self.now + 3600, slots={"main": Slot(goal)} if goal else {},
            window_seconds=1.0, **fields,
        )))  # fmt: skip
        self.publish(topics.down(DEVICE, "directive"), envelope)

    def until(self, done: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while not done():
            assert time.monotonic() < deadline, f"{what} did not come; last {self.reports[-1:]}"
            self.hear(0.05)

    def hear(self, seconds: float) -> bool:
        """Take one message; False when there was none."""
        try:
            event = self._inbox.get(timeout=seconds)
        except queue.Empty:
            return False
        if not isinstance(event, Message):
            return True
        leaf = topics.parse_up(event.topic).leaf
        if leaf == "report":
            self.reports.append(messages.decode(event.payload, messages.Report))
            return True
        stream: messages.Stream = "event" if leaf == "event" else "summary"
        ack = self.rows.receive(stream, messages.decode(event.payload, messages.Batch))
        self.publish(topics.down(DEVICE, "ack"), messages.encode(ack), retain=False)
        return True

    def committed(self, version: str) -> bool:
        slots = self.reports[-1].slots if self.reports else {}
        slot = slots.get("main")
        return bool(
            slot and slot.running and slot.running.version == version
            and slot.update.state == "committed"
        )  # fmt: skip

    def step(self) -> str:
        slots = self.reports[-1].slots if self.reports else {}
        return slots["main"].update.state if "main" in slots else ""

    def inferences(self) -> int:
        windows = [summary_wire.decode(p, None) for p in self.rows.payloads("summary")]
        return sum(window.counts.inferences for window in windows)

    def events(self, kind: str) -> list[messages.Event]:
        rows = [messages.decode(p, messages.Event) for p in self.rows.payloads("event")]
        return [row for row in rows if row.kind == kind]


class Agent:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, read_only: bool = False) -> None:
        """With ``read_only`` as from a card that has failed, in a mount namespace of its own."""
        remount = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@"'
        mounted = ["unshare", "-m", "sh", "-c", remount, "sh", str(self.directory)]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*(mounted if read_only else []),
                 sys.executable, "-c", "from muster_agent.entry import agent; agent()", "run",
                 "--dir", str(self.directory)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def end(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(timeout=60)
        self.process = None
        return code

    @property
    def socket(self) -> Path:
        return self.directory / "run" / "main.sock"

    def command(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-c", "from muster_agent.entry import agent; agent()", *words,
             "--dir", str(self.directory)],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip


@pytest.fixture
def field(tmp_path: Path) -> Iterator[tuple[Hub, Agent]]:
    """A hub, a broker and an enrolled device that has not been started."""
    authority = Authority(tmp_path)
    directory = tmp_path / "d"
    (directory / "identity").mkdir(parents=True)
    (directory / "trust").mkdir()
    pair = authority.issue(DEVICE)
    for source, name in ((pair.key, "key"), (pair.cert, "cert"), (authority.cert, "ca")):
        (directory / "identity" / f"{name}.pem").write_bytes(source.read_bytes())
    with Mosquitto(tmp_path, authority) as broker:
        hub = Hub(tmp_path, authority, broker.port)
        (directory / "trust" / "root.json").write_bytes(hub.repository.factory_root)
        config.write(directory, {
            "device": DEVICE, "broker.host": "127.0.0.1", "broker.port": broker.port,
            "timers.restart_seconds_min": 0.1,
        })  # fmt: skip
        agent = Agent(directory)
        yield hub, agent
        if agent.process is not None:
            agent.end(signal.SIGKILL)
        hub.close()


def test_a_signed_model_is_swapped_under_load_without_a_failed_request_and_counted_exactly(field):
    hub, agent = field
    first, second = hub.release("1"), hub.release("2")
    hub.direct(first)
    agent.start()
    hub.until(lambda: hub.committed("1"), "version 1")
    load = start_load(agent.socket)
    hub.until(lambda: hub.inferences() > 100, "the first window")
    hub.direct(second)
    hub.until(lambda: hub.committed("2"), "version 2")
    answered = end_load(load)
    assert answered["failures"] == []
    assert set(answered["versions"]) == {"1", "2"}
    assert agent.end() == 0
    while hub.hear(0.5):
        pass
    assert hub.inferences() == answered["answers"]
    assert not agent.socket.exists()
    assert not list((agent.socket.parent / "rings").iterdir())


def test_a_model_that_fails_its_golden_vectors_here_is_refused_and_the_champion_serves_on(field):
    hub, agent = field
    hub.direct(hub.release("1"))
    agent.start()
    hub.until(lambda: hub.committed("1"), "version 1")
    wrong = hub.release("2", golden=_wrong_golden())
    hub.direct(wrong)
    hub.until(lambda: bool(hub.events("refused")), "the refusal")
    assert [event.refusal for event in hub.events("refused")] == ["golden_mismatch"]
    with Client(agent.socket) as client:
        assert client.call("POST", "/v2/models/dense/infer", infer_body([1, 2, 3, 4]))[0] == 200


def test_after_a_kill_the_device_serves_again_and_loses_no_recorded_row(field):
    hub, agent = field
    hub.direct(hub.release("1"))
    agent.start()
    hub.until(lambda: hub.committed("1"), "version 1")
    with Client(agent.socket) as client:
        for _ in range(50):
            client.call("POST", "/v2/models/dense/infer", infer_body([1, 2, 3, 4]))
    agent.end(signal.SIGKILL)
    agent.start()
    hub.until(lambda: hub.inferences() == 50, "what the ring held")
    _until_served(agent)
    status = json.loads(agent.command("status", "--json").stdout)
    assert status["slots"]["main"]["committed"] == "dense 1"
    assert status["slots"]["main"]["ready"] is True
    doctor = agent.command("doctor")
    assert doctor.returncode == 0, doctor.stdout
    assert agent.command("fsck").returncode == 0


def test_a_second_agent_on_the_same_directory_is_turned_away(field):
    hub, agent = field
    agent.start()
    hub.until(lambda: bool(hub.reports), "a report")
    second = agent.command("run")
    assert second.returncode == 1
    assert f"pid {agent.process.pid}" in second.stderr


def test_the_hub_asks_for_the_log_and_for_a_restart_which_nobody_else_has_to_do(field):
    hub, agent = field
    hub.release("1")  # Its metadata name who signs directives.
    agent.start()
    asked = directive.TimedRequest(request=1, until=hub.now + 3600)
    hub.direct(None, log_watch=asked)
    hub.until(lambda: bool(hub.events("log")), "the log")
    lines = [event.detail for event in hub.events("log")]
    assert any(line.endswith(f"serving {agent.directory}") for line in lines), lines
    hub.direct(None, restart=asked)
    hub.until(lambda: bool(hub.events("note")), "the note")
    assert "request to restart (1) is obeyed" in hub.events("note")[0].detail
    log = agent.directory / "log"
    hub.until(lambda: log.read_text().count(f"serving {agent.directory}") == 2, "the new agent")
    hub.direct(None, restart=asked)
    hub.until(lambda: hub.reports[-1].generation == 3, "the third directive")
    assert agent.end() == 0
    assert log.read_text().count(f"serving {agent.directory}") == 2


def test_a_worker_that_is_killed_comes_back_and_is_told_of(field):
    hub, agent = field
    hub.direct(hub.release("1"))
    agent.start()
    hub.until(lambda: hub.committed("1"), "version 1")
    children = Path(f"/proc/{agent.process.pid}/task/{agent.process.pid}/children").read_text()
    os.kill(int(children.split()[0]), signal.SIGKILL)
    hub.until(lambda: bool(hub.events("worker_died")), "the event")
    _until_served(agent)


def test_a_stop_of_agent_and_workers_in_probation_is_no_crash_and_the_next_start_goes_on(field):
    hub, agent = field
    hub.direct(hub.release("1"))
    agent.start()
    hub.until(lambda: hub.committed("1"), "version 1")
    hub.direct(hub.release("2", probation=manifest.Probation(seconds=6.0)))
    hub.until(lambda: hub.step() == "probation", "the probation")
    for worker in _children(agent):  # As whatever stops all processes of a service or a machine.
        os.kill(worker, signal.SIGTERM)
    assert agent.end() == 0
    agent.start()
    hub.until(lambda: hub.committed("2"), "version 2")
    assert hub.events("rolled_back") == hub.events("worker_died") == hub.events("refused") == []


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None, reason="mounting takes root and unshare"
)
def test_a_card_that_only_reads_still_serves_what_is_committed(field, tmp_path):
    hub, agent = field
    toml = agent.directory / "agent.toml"
    run_dir = re.compile(r"^# run_dir = .*", re.MULTILINE)
    toml.write_text(run_dir.sub(f'run_dir = "{tmp_path / "r"}"', toml.read_text()))
    hub.direct(hub.release("1"))
    agent.start()
    hub.until(lambda: hub.committed("1"), "version 1")
    assert agent.end() == 0
    hub.reports.clear()
    agent.start(read_only=True)
    _until_served(agent, tmp_path / "r" / "main.sock")
    hub.until(lambda: bool(hub.reports), "a report")
    hub.direct(hub.release("2"))
    hub.until(lambda: hub.committed("1"), "the report of version 1")
    assert "read" in hub.reports[-1].refusal_detail, hub.reports[-1]
    assert agent.end() == 0
    assert "Traceback" not in (agent.directory / "log").read_text()


def _children(agent: Agent) -> list[int]:
    assert agent.process is not None
    threads = Path(f"/proc/{agent.process.pid}/task").iterdir()
    return [int(pid) for thread in threads for pid in (thread / "children").read_text().split()]


def _until_served(agent: Agent, socket: Path | None = None) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            with Client(socket or agent.socket) as client:
                if client.call("GET", "/v2/health/ready")[0] == 200:
                    return
        except OSError:
            pass
        assert time.monotonic() < deadline, (agent.directory / "log").read_text()
        time.sleep(0.05)  # its worker is starting


def _wrong_golden() -> dict[str, Any]:
    return {
        "input:x": np.ones((2, 4), np.float32),
        "output:probabilities": np.full((2, 3), 9.0, np.float32),
    }
