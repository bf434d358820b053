"""From an installed bundle to a process: what is refused, and a stand-in that really answers."""

import os
import queue
import random
import signal

import pytest

from muster_agent.app.launch import ProcessLauncher
from muster_agent.base import config
from muster_agent.base.clock import stamp
from muster_agent.base.system_clock import SystemClock
from muster_agent.observe.observing import Folds
from muster_agent.observe.telemetry import Telemetry
from muster_agent.runtimes import available
from muster_agent.storage.content import Store
from muster_agent.storage.state import open_state
from muster_agent.update.bundle import BundleInstall
from muster_agent.update.processes import LaunchRefused, Running
from muster_agent.worker import events
from muster_protocol.wire.directive import Goal
from muster_protocol.wire.errors import Refusal
from muster_protocol.wire.manifest import Fallback
from support.models import write_bundle
from support.workers import Client, infer_body

LAST = Fallback("last", "last_good", ttl_seconds=600.0)
UNSURE = Fallback("unsure", "constant", outputs={"probabilities": [0.0, 0.0, 0.0]})


class Bench:
    """A device's directory with one installed bundle, and the launcher under test."""

    def __init__(self, directory, **fields):
        self.directory = directory
        (directory / "store" / "bundles").mkdir(parents=True)
        self.goal = self.install(**fields)
        self.bundle = directory / "store" / "bundles" / self.goal.manifest
        config.write(directory, {"device": "dev-1", "broker.host": "localhost"})
        clock = SystemClock()
        self.state = open_state(directory, {})
        store = Store(directory / "store")
        self.closed = []
        self.rings = directory / "rings"
        self.telemetry = Telemetry(
            self.rings, state=self.state, folds=Folds(store),
            put=self.closed.append, stamp=lambda: stamp(clock),
            rng=random.Random(1), window_seconds=60.0, now=clock.monotonic(),
        )  # fmt: skip
        self.inbox = queue.Queue()
        self.launcher = ProcessLauncher(
            config.load(directory), BundleInstall(store, tuple(available())), self.telemetry,
            self.inbox.put, boot=1, now=clock.monotonic,
        )  # fmt: skip
        self.socket = directory / "run" / "main.sock"
        self.workers = []

    def install(self, version="1", **fields):
        part = self.directory / "part"
        part.mkdir()
        _, digest = write_bundle(part, runtimes=("onnx",), version=version, **fields)
        bundle = self.directory / "store" / "bundles" / digest
        part.rename(bundle)
        return Goal("dense", version, digest, (bundle / "manifest.json").stat().st_size)

    def launch(self, fallback=None, *, model=True):
        worker_id, worker = self.launcher.launch("main", self.goal, fallback, model=model)
        self.workers.append(worker)
        worker.start()
        return worker_id, worker

    def wait(self, kind):
        while True:
            event = self.inbox.get(timeout=60)
            assert not isinstance(event, events.Failed), event
            if isinstance(event, kind):
                return event

    def close(self):
        for worker in self.workers:
            if worker.alive():
                os.kill(worker.pid, signal.SIGKILL)
                worker.wait(60)
        self.launcher.close()
        self.telemetry.close()
        self.state.close()


@pytest.fixture
def bench(tmp_path):
    made = []

    def make(**fields):
        made.append(Bench(tmp_path, **fields))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_a_baseline_that_cannot_be_used_refuses_the_release_and_leaves_nothing(bench):
    item = bench(baseline="golden.npz")
    with pytest.raises(LaunchRefused) as refused:
        item.launcher.launch("main", item.goal, None)
    assert refused.value.refusal is Refusal.MALFORMED
    assert list(item.rings.iterdir()) == []


def test_a_baseline_that_has_rotted_on_the_disk_is_fetched_anew_like_any_file(bench):
    item = bench(baseline="golden.npz")
    (item.bundle / "golden.npz").write_bytes(b"rot")
    with pytest.raises(LaunchRefused) as refused:
        item.launcher.launch("main", item.goal, None)
    assert refused.value.refusal is Refusal.FILE_MISMATCH


def test_no_stand_in_is_made_for_a_release_that_declares_no_fallback(bench):
    item = bench()
    with pytest.raises(LaunchRefused, match="declares no fallback"):
        item.launcher.launch("main", item.goal, None, model=False)


@pytest.mark.system
@pytest.mark.parametrize(
    ("name", "quality"), [(None, "last_good"), ("last", "last_good"), ("unsure", "constant")]
)
def test_a_stand_in_answers_for_a_model_that_was_killed_and_will_not_load(bench, name, quality):
    item = bench(fallbacks=(LAST, UNSURE))
    worker_id, worker = item.launch(name)
    item.wait(events.Ready)
    worker.accept()
    with Client(item.socket) as client:
        status, answer = client.call("POST", "/v2/models/dense/infer", infer_body([1.0] * 4))
        assert (status, answer["parameters"]["quality"]) == (200, "good")
    os.kill(worker.pid, signal.SIGKILL)
    item.wait(events.Exited)
    item.telemetry.end(worker_id)
    (item.bundle / "model.onnx").write_bytes(b"no model")
    _, stand_in = item.launch(name, model=False)
    item.wait(events.Ready)
    stand_in.accept()
    with Client(item.socket) as client:
        status, response = client.call("POST", "/v2/models/dense/infer", infer_body([0.0] * 4))
    assert (status, response["parameters"]["quality"]) == (200, quality)
    if quality == "last_good":
        assert response["outputs"][0]["data"] == answer["outputs"][0]["data"]


@pytest.mark.system
def test_a_challengers_comparisons_become_a_window_of_its_own_version(bench):
    item = bench()
    champion_id, worker = item.launch()
    item.wait(events.Ready)
    worker.accept()
    goal = item.install("2", seed=8)
    champion = Running(champion_id, item.goal, worker)
    challenger_id, challenger = item.launcher.challenge("main", goal, champion)
    item.workers.append(challenger)
    challenger.start()
    assert item.wait(events.Ready).worker_id == challenger_id
    with Client(item.socket) as client:
        for number in range(20):
            body = infer_body([float(number)] * 4, f"i{number}")
            assert client.call("POST", "/v2/models/dense/infer", body)[0] == 200
        label = {"labels": [{"id": "i3", "label": "1"}]}
        assert client.call("POST", "/v2/models/dense/labels", label)[0] == 200
    seen = 0
    while seen < 20:
        beat = item.wait(events.Heartbeat)
        if beat.worker_id == challenger_id and beat.counters.labels:
            seen = beat.counters.inferences
            item.telemetry.used_cpu(challenger_id, beat.counters.cpu_seconds)
    item.telemetry.close_windows(SystemClock().monotonic())
    windows = {summary.version: summary for summary in item.closed}
    assert windows["1"].counts.inferences == 20
    assert windows["2"].manifest == goal.manifest
    counts = windows["2"].counts
    assert (counts.inferences, counts.compared, counts.compared_labelled) == (0, 20, 1)
    assert windows["2"].cpu_seconds > 0
    assert windows["2"].features is None
