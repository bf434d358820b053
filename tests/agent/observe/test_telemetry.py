"""From rings to the outbox: each recorded row is counted exactly once, whatever dies when."""

import random

import numpy as np
import pytest

from muster_agent.base.clock import stamp
from muster_agent.observe.observing import Folds
from muster_agent.observe.outbox import Outbox
from muster_agent.observe.signs import SAVE_WINDOWS
from muster_agent.observe.telemetry import Telemetry
from muster_agent.storage.content import Store
from muster_agent.storage.state import open_state
from muster_agent.worker.ring import Ring, RingLayout
from muster_agent.worker.rows import ErrorKind, Quality, RowKind
from muster_protocol.signals import baseline, features, summary_wire
from muster_protocol.wire.directive import Goal
from muster_protocol.wire.messages import Ack
from support.agent_faults import Fuse, FusedState, PowerCut, WorldClock
from support.models import write_bundle

WORKER = "main-1-1"
TRAINED = baseline.fit(
    {"x": np.random.default_rng(2).normal(size=(400, 4)).astype(np.float32)},
    features.elements("x", 4),
)
PAYLOAD = np.ones(7, np.float32).tobytes()


class Recorder:
    """A device's disk with one installed bundle, and a worker's hand on its ring."""

    def __init__(self, directory, capacity=2000):
        self.directory = directory
        self.clock = WorldClock()
        self.capacity = capacity
        part = directory / "bundle"
        part.mkdir()
        self.listing, digest = write_bundle(part, trained=baseline.encode(TRAINED))
        bundles = directory / "store" / "bundles"
        bundles.mkdir(parents=True)
        part.rename(bundles / digest)
        size = (bundles / digest / "manifest.json").stat().st_size
        self.goal = Goal("dense", "1", digest, size)
        (directory / "rings").mkdir()
        self.written = 0
        self.counted = 0
        self.windows = 0
        self.accepting = set()
        self.cpu, self.energy = [], []

    def boot(self, fuse=None):
        opened = open_state(self.directory, {})
        self.state = FusedState(opened.connection)
        self.state.fuse = fuse or Fuse()
        self.outbox = Outbox(self.state.connection)
        self.folds = Folds(Store(self.directory / "store"), monitors=self.state)
        self.telemetry = Telemetry(
            self.directory / "rings", state=self.state, folds=self.folds,
            put=self.outbox.put_summary,
            stamp=lambda: stamp(self.clock), rng=random.Random(1), window_seconds=10.0,
            now=self.clock.seconds, joules_per_cpu_second=lambda: 3.0,
        )  # fmt: skip
        self.faults = self.telemetry.recover(self.clock.seconds)

    def begin(self):
        layout = RingLayout.of(self.listing, self.goal.manifest)
        self.ring = Ring.create(self.telemetry.ring_path(WORKER), layout, self.capacity)
        self.telemetry.begin(WORKER, "main", self.goal, self.clock.seconds)

    def record(self, count):
        for _ in range(count):
            self.ring.append(0, 100, RowKind.INFERENCE, ErrorKind.NONE, Quality.GOOD, b"", PAYLOAD)
        self.written += count

    def run(self, seconds):
        end = self.clock.seconds + seconds
        while self.clock.seconds < end:
            self.clock.seconds = min(max(self.telemetry.deadline(), self.clock.seconds), end)
            self.telemetry.tick(self.clock.seconds, self.accepting)

    def cut(self):
        self.telemetry.close()
        self.state.close()

    def collect(self):
        """Count what the outbox holds, as the hub would, and acknowledge it."""
        while (due := self.outbox.next(self.clock.seconds, stamp(self.clock))) is not None:
            stream, batch = due
            for row in batch.rows:
                window = summary_wire.decode(row.payload, TRAINED)
                self.counted += window.counts.inferences
                self.windows += 1
                self.overruns = window.counts.overruns
                self.cpu.append(window.cpu_seconds)
                self.energy.append(window.energy_joules)
            self.outbox.acknowledge(Ack(1, stream, batch.epoch, batch.rows[-1].sequence))
        return self.counted


def test_what_is_recorded_arrives_window_by_window(tmp_path):
    one = Recorder(tmp_path)
    one.boot()
    one.begin()
    for _ in range(5):
        one.record(100)
        one.run(10)
    one.telemetry.end(WORKER)
    assert one.collect() == 500
    assert 4 <= one.windows <= 7
    assert list((tmp_path / "rings").iterdir()) == []
    one.cut()


def test_processor_time_and_its_energy_are_in_the_window_in_which_they_were_told(tmp_path):
    one = Recorder(tmp_path)
    one.boot()
    one.begin()
    one.record(10)
    for total in (0.5, 0.5, 2.0):
        one.telemetry.used_cpu(WORKER, total)
    one.telemetry.used_cpu("another-worker", 9.0)
    one.run(11)
    one.telemetry.used_cpu(WORKER, 2.25)
    one.record(1)
    one.telemetry.end(WORKER)
    assert one.collect() == 11
    assert one.cpu == pytest.approx([2.0, 0.25])
    assert one.energy == pytest.approx([6.0, 0.75])
    one.cut()


def test_an_idle_window_of_a_serving_worker_is_sent_small_so_that_silence_means_harm(tmp_path):
    one = Recorder(tmp_path)
    one.boot()
    one.begin()
    one.accepting = {WORKER}
    one.run(100)
    rows = one.outbox.stats()
    assert rows.bytes / rows.rows < 200
    assert one.collect() == 0
    assert 9 <= one.windows <= 12
    one.cut()


def test_idle_windows_of_a_worker_that_does_not_serve_take_no_room(tmp_path):
    one = Recorder(tmp_path)
    one.boot()
    one.begin()
    one.run(100)
    assert one.collect() == 0
    assert one.windows == 0
    one.cut()


def test_rows_a_dead_agent_never_read_are_counted_by_the_next(tmp_path):
    one = Recorder(tmp_path)
    one.boot()
    one.begin()
    one.record(30)
    one.cut()
    one.record(12)  # The worker lives a moment longer.
    one.boot()
    assert one.faults == []
    assert one.collect() == 42
    assert list((tmp_path / "rings").iterdir()) == []
    one.cut()


def test_a_crash_at_any_commit_neither_loses_nor_doubles_a_row(tmp_path):
    total = Fuse()
    steps = None
    step = 0
    while steps is None or step < steps:
        directory = tmp_path / str(step)
        directory.mkdir()
        one = Recorder(directory)
        fuse = Fuse(step or None)
        try:
            one.boot(fuse)
            one.begin()
            for _ in range(4):
                one.record(600)
                one.run(7)
            one.telemetry.end(WORKER)
        except PowerCut:
            one.cut()
            one.boot()
        else:
            total = fuse
        assert one.collect() == one.written, step
        one.cut()
        steps = total.steps
        step += 1
    assert steps > 10


def test_a_slow_reader_is_told_how_much_it_lost(tmp_path):
    one = Recorder(tmp_path, capacity=100)
    one.boot()
    one.begin()
    one.record(250)
    one.run(15)
    counted = one.collect()
    assert counted + one.overruns == 250
    one.cut()


def test_a_ring_that_cannot_be_read_is_named_and_does_not_stop_the_boot(tmp_path):
    one = Recorder(tmp_path)
    one.boot()
    one.begin()
    one.cut()
    (tmp_path / "rings" / f"{WORKER}.ring").write_bytes(b"not a ring")
    one.boot()
    assert len(one.faults) == 1
    assert "its open window is lost" in one.faults[0]
    assert one.state.recordings() == {}
    one.cut()


@pytest.mark.parametrize("seconds", [1.0, 60.0])
def test_a_new_window_length_takes_effect_within_the_shorter_of_the_two(tmp_path, seconds):
    one = Recorder(tmp_path)
    one.boot()
    one.begin()
    one.record(1)
    one.telemetry.set_window(seconds, one.clock.seconds)
    one.run(min(seconds, 10.0) + 1.0)
    assert one.collect() == 1
    one.cut()


def test_the_last_ring_of_a_slot_is_kept_for_a_fallback_within_one_boot(tmp_path):
    one = Recorder(tmp_path)
    one.boot()
    layout = RingLayout.of(one.listing, one.goal.manifest)
    one.ring = Ring.create(one.telemetry.ring_path(WORKER), layout, one.capacity)
    one.telemetry.begin(WORKER, "main", one.goal, one.clock.seconds, keep=True)
    assert one.telemetry.previous_ring("main") is None
    one.record(3)
    one.telemetry.end(WORKER)
    last = one.telemetry.previous_ring("main")
    assert Ring.open(last).published == 3
    one.cut()
    one.boot()  # The agent alone was started again: the answer still has an age.
    assert one.telemetry.previous_ring("main") == last
    one.cut()
    one.clock.boots += 1
    one.boot()
    assert one.telemetry.previous_ring("main") is None
    assert list((tmp_path / "rings").iterdir()) == []
    one.cut()


def test_what_was_learnt_of_drift_outlives_the_agent_and_a_rebaseline_is_done_once(tmp_path):
    one = Recorder(tmp_path)
    one.boot()
    one.begin()
    for _ in range(SAVE_WINDOWS + 1):
        one.record(50)
        one.run(11)
    one.folds.rebaseline("main", one.goal, 1)
    before = one.folds.signs("main", one.goal)
    assert before.rebaselines == 1
    for _ in range(SAVE_WINDOWS + 1):
        one.record(50)
        one.run(11)
    one.cut()
    one.boot()
    after = one.folds.signs("main", one.goal)
    assert after.rebaselines == 1
    assert after.calibration == "calibrating"
    assert len(one.state.connection.execute("SELECT * FROM monitor").fetchall()) == 1
    one.folds.rebaseline("main", one.goal, 1)
    assert after.rebaselines == 1
    one.folds.rebaseline("main", one.goal, 2)
    assert one.state.monitor("main", one.goal.manifest)[0] == 2
    one.cut()


def test_a_rebaseline_that_was_asked_for_before_the_model_runs_is_done_when_it_does(tmp_path):
    one = Recorder(tmp_path)
    one.boot()
    one.folds.rebaseline("main", one.goal, 4)
    assert one.folds.signs("main", one.goal).rebaselines == 0
    one.begin()
    assert one.folds.signs("main", one.goal).rebaselines == 4
    assert one.state.monitor("main", one.goal.manifest)[0] == 4
    one.cut()
