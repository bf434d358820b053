"""From rings to the outbox: each recorded row is counted exactly once, whatever dies when."""

import os
import random
import shutil
import sqlite3

import numpy as np
import pytest

from muster_agent.base.clock import stamp
from muster_agent.observe.observing import Folds
from muster_agent.observe.outbox import Outbox
from muster_agent.observe.signs import SAVE_WINDOWS
from muster_agent.observe.telemetry import SAVE_SECONDS, Telemetry
from muster_agent.storage.content import Store
from muster_agent.storage.state import open_state
from muster_agent.worker.ring import Ring, RingLayout, RingReader
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
        self.full = False

    def boot(self, fuse=None):
        opened = open_state(self.directory, {})
        self.state = FusedState(opened.connection)
        self.state.fuse = fuse or Fuse()
        self.outbox = Outbox(self.state.connection)
        self.folds = Folds(Store(self.directory / "store"), monitors=self.state)
        self.telemetry = Telemetry(
            self.directory / "rings", state=self.state, folds=self.folds,
            put=self.put,
            stamp=lambda: stamp(self.clock), rng=random.Random(1), window_seconds=10.0,
            now=self.clock.seconds, joules_per_cpu_second=lambda: 3.0,
        )  # fmt: skip
        self.faults = self.telemetry.recover(self.clock.seconds)

    def put(self, summary):
        """Into the outbox, unless the disk takes no more in the middle of the transaction."""
        if self.full:
            raise sqlite3.OperationalError("database or disk is full")
        self.outbox.put_summary(summary)

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
    recorder = Recorder(tmp_path)
    recorder.boot()
    recorder.begin()
    for _ in range(5):
        recorder.record(100)
        recorder.run(10)
    recorder.telemetry.end(WORKER)
    assert recorder.collect() == 500
    assert 4 <= recorder.windows <= 7
    assert list((tmp_path / "rings").iterdir()) == []
    recorder.cut()


def test_a_window_that_a_full_disk_does_not_take_is_counted_in_the_next(tmp_path):
    recorder = Recorder(tmp_path)
    recorder.boot()
    recorder.begin()
    recorder.record(100)
    recorder.run(2)
    recorder.full = True
    with pytest.raises(sqlite3.OperationalError):
        recorder.run(12)
    recorder.full = False
    recorder.record(50)
    recorder.run(12)
    recorder.telemetry.end(WORKER)
    assert recorder.collect() == 150
    recorder.cut()


def test_processor_time_and_its_energy_are_in_the_window_in_which_they_were_told(tmp_path):
    recorder = Recorder(tmp_path)
    recorder.boot()
    recorder.begin()
    recorder.record(10)
    for total in (0.5, 0.5, 2.0):
        recorder.telemetry.used_cpu(WORKER, total)
    recorder.telemetry.used_cpu("another-worker", 9.0)
    recorder.run(11)
    recorder.telemetry.used_cpu(WORKER, 2.25)
    recorder.record(1)
    recorder.telemetry.end(WORKER)
    assert recorder.collect() == 11
    assert recorder.cpu == pytest.approx([2.0, 0.25])
    assert recorder.energy == pytest.approx([6.0, 0.75])
    recorder.cut()


def test_an_idle_window_of_a_serving_worker_is_sent_small_so_that_silence_means_harm(tmp_path):
    recorder = Recorder(tmp_path)
    recorder.boot()
    recorder.begin()
    recorder.accepting = {WORKER}
    recorder.run(100)
    rows = recorder.outbox.stats()
    assert rows.bytes / rows.rows < 200
    assert recorder.collect() == 0
    assert 9 <= recorder.windows <= 12
    recorder.cut()


def test_idle_windows_of_a_worker_that_does_not_serve_take_no_room(tmp_path):
    recorder = Recorder(tmp_path)
    recorder.boot()
    recorder.begin()
    recorder.run(100)
    assert recorder.collect() == 0
    assert recorder.windows == 0
    recorder.cut()


def test_rows_a_dead_agent_never_read_are_counted_by_the_next(tmp_path):
    recorder = Recorder(tmp_path)
    recorder.boot()
    recorder.begin()
    recorder.record(30)
    recorder.cut()
    recorder.record(12)  # The worker lives a moment longer.
    recorder.boot()
    assert recorder.faults == []
    assert recorder.collect() == 42
    assert list((tmp_path / "rings").iterdir()) == []
    recorder.cut()


def test_a_crash_at_any_commit_neither_loses_nor_doubles_a_row(tmp_path):
    total = Fuse()
    steps = None
    step = 0
    while steps is None or step < steps:
        directory = tmp_path / str(step)
        directory.mkdir()
        recorder = Recorder(directory)
        fuse = Fuse(step or None)
        try:
            recorder.boot(fuse)
            recorder.begin()
            for _ in range(4):
                recorder.record(600)
                recorder.run(7)
            recorder.telemetry.end(WORKER)
        except PowerCut:
            recorder.cut()
            recorder.boot()
        else:
            total = fuse
        assert recorder.collect() == recorder.written, step
        recorder.cut()
        steps = total.steps
        step += 1
    assert steps > 10


def test_a_slow_reader_is_told_how_much_it_lost(tmp_path):
    recorder = Recorder(tmp_path, capacity=100)
    recorder.boot()
    recorder.begin()
    recorder.record(250)
    recorder.run(15)
    counted = recorder.collect()
    assert counted + recorder.overruns == 250
    recorder.cut()


@pytest.mark.parametrize("left", [None, b"not a ring"])
def test_when_the_power_takes_a_ring_what_was_saved_of_it_is_counted(tmp_path, left):
    recorder = Recorder(tmp_path)
    recorder.boot()
    recorder.begin()
    recorder.record(40)
    recorder.run(SAVE_SECONDS + 2)  # saved, in a window that is open still
    recorder.record(2)
    recorder.cut()
    ring = tmp_path / "rings" / f"{WORKER}.ring"
    ring.unlink()
    if left is not None:
        ring.write_bytes(left)
    recorder.clock.boots += 1
    recorder.boot()
    assert recorder.collect() == 40
    assert len(recorder.faults) == 1
    assert f"what came within {SAVE_SECONDS:g} s of its end is lost" in recorder.faults[0]
    assert recorder.state.recordings() == {}
    assert list((tmp_path / "rings").iterdir()) == []
    recorder.cut()


def test_a_ring_that_cannot_be_read_is_named_and_does_not_stop_the_boot(tmp_path):
    recorder = Recorder(tmp_path)
    recorder.boot()
    recorder.begin()
    recorder.cut()
    (tmp_path / "rings" / f"{WORKER}.ring").write_bytes(b"not a ring")
    recorder.boot()
    assert len(recorder.faults) == 1
    assert "its open window is lost" in recorder.faults[0]
    assert recorder.state.recordings() == {}
    recorder.cut()


@pytest.mark.parametrize("rot", ["the bundle is gone", "its baseline has rotted"])
@pytest.mark.parametrize("saved", [True, False])
def test_rows_that_wait_are_counted_whatever_becomes_of_their_bundle(tmp_path, rot, saved):
    recorder = Recorder(tmp_path)
    recorder.boot()
    recorder.begin()
    recorder.record(40)
    recorder.run(SAVE_SECONDS + 2 if saved else 0)
    recorder.record(2)
    recorder.full = True
    recorder.telemetry.end(WORKER)  # the disk is full: its window can't be kept
    recorder.cut()
    bundle = tmp_path / "store" / "bundles" / recorder.goal.manifest
    if rot == "the bundle is gone":
        shutil.rmtree(bundle)
    else:
        (bundle / recorder.listing.baseline).write_bytes(b"rotten")
    recorder.full = False
    recorder.boot()
    assert recorder.faults == []
    assert recorder.collect() == 42
    assert recorder.state.recordings() == {}
    assert list((tmp_path / "rings").iterdir()) == []
    recorder.cut()


@pytest.mark.parametrize("left", [None, b"", b"\x91\xc4\x01x"])
def test_without_its_bundle_and_its_manifest_a_ring_is_named_and_given_up(tmp_path, left):
    recorder = Recorder(tmp_path)
    recorder.boot()
    recorder.begin()
    recorder.record(1)
    recorder.cut()
    shutil.rmtree(tmp_path / "store" / "bundles" / recorder.goal.manifest)
    kept = tmp_path / "rings" / f"{WORKER}.manifests"
    kept.unlink()
    if left is not None:
        kept.write_bytes(left)
    recorder.boot()
    assert len(recorder.faults) == 1
    assert "is not installed any more" in recorder.faults[0]
    assert list((tmp_path / "rings").iterdir()) == []
    recorder.cut()


@pytest.mark.parametrize("seconds", [1.0, 60.0])
def test_a_new_window_length_takes_effect_within_the_shorter_of_the_two(tmp_path, seconds):
    recorder = Recorder(tmp_path)
    recorder.boot()
    recorder.begin()
    recorder.record(1)
    recorder.telemetry.set_window(seconds, recorder.clock.seconds)
    recorder.run(min(seconds, 10.0) + 1.0)
    assert recorder.collect() == 1
    recorder.cut()


def test_the_last_ring_of_a_slot_is_kept_for_a_fallback_within_one_boot(tmp_path):
    recorder = Recorder(tmp_path)
    recorder.boot()
    layout = RingLayout.of(recorder.listing, recorder.goal.manifest)
    recorder.ring = Ring.create(recorder.telemetry.ring_path(WORKER), layout, recorder.capacity)
    recorder.telemetry.begin(WORKER, "main", recorder.goal, recorder.clock.seconds, keep=True)
    assert recorder.telemetry.previous_ring("main") is None
    recorder.record(3)
    recorder.telemetry.end(WORKER)
    last = recorder.telemetry.previous_ring("main")
    assert RingReader(last).published == 3
    recorder.cut()
    recorder.boot()  # The agent alone was started again: the answer still has an age.
    assert recorder.telemetry.previous_ring("main") == last
    recorder.cut()
    recorder.clock.boots += 1
    recorder.boot()
    assert recorder.telemetry.previous_ring("main") is None
    assert list((tmp_path / "rings").iterdir()) == []
    recorder.cut()


def test_what_was_learnt_of_drift_outlives_the_agent_and_a_rebaseline_is_done_once(tmp_path):
    recorder = Recorder(tmp_path)
    recorder.boot()
    recorder.begin()
    for _ in range(SAVE_WINDOWS + 1):
        recorder.record(50)
        recorder.run(11)
    recorder.folds.rebaseline("main", recorder.goal, 1)
    before = recorder.folds.signs("main", recorder.goal)
    assert before.rebaselines == 1
    for _ in range(SAVE_WINDOWS + 1):
        recorder.record(50)
        recorder.run(11)
    recorder.cut()
    recorder.boot()
    after = recorder.folds.signs("main", recorder.goal)
    assert after.rebaselines == 1
    assert after.calibration == "calibrating"
    assert len(recorder.state.connection.execute("SELECT * FROM monitor").fetchall()) == 1
    recorder.folds.rebaseline("main", recorder.goal, 1)
    assert after.rebaselines == 1
    recorder.folds.rebaseline("main", recorder.goal, 2)
    assert recorder.state.monitor("main", recorder.goal.manifest)[0] == 2
    recorder.cut()


def test_a_rebaseline_that_was_asked_for_before_the_model_runs_is_done_when_it_does(tmp_path):
    recorder = Recorder(tmp_path)
    recorder.boot()
    recorder.folds.rebaseline("main", recorder.goal, 4)
    assert recorder.folds.signs("main", recorder.goal).rebaselines == 0
    recorder.begin()
    assert recorder.folds.signs("main", recorder.goal).rebaselines == 4
    assert recorder.state.monitor("main", recorder.goal.manifest)[0] == 4
    recorder.cut()


FORGERIES = {
    "cut short": lambda path: os.truncate(path, 5000),
    "emptied": lambda path: os.truncate(path, 0),
    "a count that can't be": lambda path: scribble(path, 64, b"\xff" * 8),
    "a count of many rows": lambda path: scribble(path, 64, (1 << 27).to_bytes(8, "little")),
    "rows of noise": lambda path: (
        scribble(path, 64, (1000).to_bytes(8, "little")),
        scribble(path, 8192, np.random.default_rng(3).bytes(path.stat().st_size - 8192)),
    ),
    "a layout of noise": lambda path: scribble(path, 4096, b"{" * 300),
    "a head of noise": lambda path: scribble(path, 0, b"\xff" * 64),
}


def scribble(path, at, data):
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


@pytest.mark.parametrize("way", FORGERIES)
@pytest.mark.parametrize("restart", [False, True], ids=["running", "after a restart"])
def test_a_ring_that_a_hostile_worker_forged_keeps_nobody_elses_rows_from_home(
    tmp_path, way, restart
):
    recorder = Recorder(tmp_path)
    recorder.boot()
    recorder.begin()
    recorder.record(5)
    recorder.run(3)
    layout = RingLayout.of(recorder.listing, recorder.goal.manifest)
    other = Ring.create(recorder.telemetry.ring_path("other-1-1"), layout, 2000)
    recorder.telemetry.begin("other-1-1", "other", recorder.goal, recorder.clock.seconds)
    FORGERIES[way](recorder.telemetry.ring_path(WORKER))
    for _ in range(7):
        other.append(0, 100, RowKind.INFERENCE, ErrorKind.NONE, Quality.GOOD, b"", PAYLOAD)
    if restart:
        recorder.cut()
        recorder.boot()
    recorder.run(30)
    recorder.telemetry.end(WORKER)
    recorder.telemetry.end("other-1-1")
    assert recorder.collect() >= 7
    assert recorder.overruns < 2**40
    recorder.cut()
