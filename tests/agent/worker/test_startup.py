"""What a candidate must survive before it serves, and the name of each refusal."""

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
import pytest

from muster_agent.worker import check
from muster_agent.worker.boot import NICENESS, gently
from muster_agent.worker.bundle import StartRefused
from muster_agent.worker.events import Drained, Exited, Failed, Heartbeat, Ready
from muster_agent.worker.startup import open_engine
from muster_protocol.wire.errors import Refusal
from muster_protocol.wire.limits import MIB
from muster_protocol.wire.manifest import Start
from support.hostile_models import bomb_onnx, crash_onnx, endless_onnx
from support.models import dense_onnx, softmax, weights, write_bundle
from support.waiting import eventually
from support.workers import WAIT_SECONDS, Workers

RUNTIMES = ["onnx", "tflite"]


def refused(tmp_path: Path, runtime: Any = "onnx", **bundle: Any) -> Failed:
    """Start a worker on a bundle that it must refuse."""
    manifest, sha256 = write_bundle(tmp_path / "b", runtimes=(runtime,), **bundle)
    with Workers(tmp_path) as slot:
        worker = slot.start(tmp_path / "b", manifest, sha256, runtime)
        event = slot.events["w0"].get(timeout=WAIT_SECONDS)
        assert isinstance(event, Failed), event
        assert not psutil.pid_exists(worker.pid or 0), "it is buried when the event comes"
        assert slot.events["w0"].empty()
        assert "\n" not in event.detail
        return event


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_worker_proves_its_model_says_what_it_measured_and_beats(
    tmp_path: Path, runtime: Any
) -> None:
    manifest, sha256 = write_bundle(tmp_path / "b")
    with Workers(tmp_path) as slot:
        worker = slot.start(tmp_path / "b", manifest, sha256, runtime)
        facts = slot.wait(worker, Ready).facts
        assert (facts.runtime, facts.golden_cases) == (runtime, 5)
        assert facts.latency_ms > 0
        assert 0 < facts.memory_bytes < 256 * MIB
        assert slot.wait(worker, Heartbeat).counters.inferences == 0
        worker.pause()
        slot.wait(worker, Drained)
        worker.stop(10.0)
        assert slot.wait(worker, Exited).returncode == 0
        assert slot.events["w0"].empty()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_file_that_is_no_model_is_load_failed(tmp_path: Path, runtime: Any) -> None:
    failed = refused(tmp_path, runtime, files={runtime: b"this is not a model"})
    assert failed.refusal == Refusal.LOAD_FAILED
    assert "can't load the model" in failed.detail


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_golden_vectors_that_do_not_match_are_named_by_their_output(
    tmp_path: Path, runtime: Any
) -> None:
    cases = np.eye(4, dtype=np.float32)
    wrong = softmax(cases, *weights())
    wrong[2, 1] += 0.5
    failed = refused(tmp_path, runtime, golden={"input:x": cases, "output:probabilities": wrong})
    assert failed.refusal == Refusal.GOLDEN_MISMATCH
    assert failed.detail == (
        "golden vectors: output 'probabilities' is further from what is expected than "
        "0.0001 + 0.001·|expected|"
    )


@pytest.mark.parametrize(
    ("golden", "said"),
    [
        ({}, "no array 'input:x'"),
        ({"input:x": np.zeros((2, 4), np.float32)}, "no array 'output:probabilities'"),
        (
            {
                "input:x": np.zeros((2, 4), np.float32),
                "output:probabilities": np.zeros((3, 3), np.float32),
            },
            "[2, 3] cases",
        ),
        (
            {
                "input:x": np.zeros((0, 4), np.float32),
                "output:probabilities": np.zeros((0, 3), np.float32),
            },
            "",
        ),
        (
            {
                "input:x": np.zeros((1, 4), np.float64),
                "output:probabilities": np.zeros((1, 3), np.float32),
            },
            "is float64, the tensor is FP32",
        ),
    ],
)
def test_golden_vectors_that_do_not_fit_the_manifest_are_a_mismatch(
    tmp_path: Path, golden: dict[str, Any], said: str
) -> None:
    write_bundle(tmp_path, golden=golden)
    with pytest.raises(StartRefused) as caught:
        open_engine(tmp_path, runtime="tflite")
    assert caught.value.refusal == Refusal.GOLDEN_MISMATCH
    assert said in str(caught.value)


def test_a_model_with_other_tensors_than_its_manifest_is_load_failed(tmp_path: Path) -> None:
    failed = refused(tmp_path, files={"onnx": dense_onnx(*weights(inputs=5))})
    assert failed.refusal == Refusal.LOAD_FAILED
    assert "the manifest says FP32 [-1, 4], the model has FP32 [-1, 5]" in failed.detail


@pytest.mark.parametrize("name", ["model.onnx", "golden.npz"])
@pytest.mark.parametrize("harm", ["flip", "shorten", "remove", "link"])
def test_a_file_that_rotted_after_the_fetch_does_not_run(
    tmp_path: Path, name: str, harm: str
) -> None:
    write_bundle(tmp_path / "b")
    path = tmp_path / "b" / name
    data = path.read_bytes()
    if harm == "flip":
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif harm == "shorten":
        path.write_bytes(data[:-1])
    elif harm == "remove":
        path.unlink()
    else:
        path.rename(tmp_path / name)
        path.symlink_to(tmp_path / name)
    with pytest.raises(StartRefused) as caught:
        open_engine(tmp_path / "b", runtime="onnx")
    assert caught.value.refusal == Refusal.FILE_MISMATCH
    assert str(path) in str(caught.value)


def test_another_manifest_than_the_signed_one_is_a_file_mismatch(tmp_path: Path) -> None:
    manifest, _ = write_bundle(tmp_path / "b")
    with Workers(tmp_path) as slot:
        worker = slot.start(tmp_path / "b", manifest, "0" * 64)
        assert worker.pid is not None
        event = slot.events["w0"].get(timeout=WAIT_SECONDS)
        assert isinstance(event, Failed)
        assert event.refusal == Refusal.FILE_MISMATCH


def test_a_model_that_never_ends_is_stopped_by_the_wall_clock(tmp_path: Path) -> None:
    failed = refused(tmp_path, files={"onnx": endless_onnx()}, start=Start(wall_seconds=3.0))
    assert failed.refusal == Refusal.START_TIMEOUT
    assert "not ready after 3 s" in failed.detail


def test_a_model_that_never_ends_is_stopped_by_its_processor_time(tmp_path: Path) -> None:
    start = Start(wall_seconds=WAIT_SECONDS, cpu_seconds=0.5)
    failed = refused(tmp_path, files={"onnx": endless_onnx()}, start=start)
    assert failed.refusal == Refusal.START_TIMEOUT
    assert "processor time" in failed.detail


def test_a_memory_bomb_is_refused_by_name(tmp_path: Path) -> None:
    failed = refused(tmp_path, files={"onnx": bomb_onnx()}, memory_bytes=64 * MIB)
    assert failed.refusal == Refusal.NO_MEMORY
    assert f"more than its {64 * MIB} bytes" in failed.detail


def test_a_model_that_kills_its_process_is_worker_died_with_its_last_words(tmp_path: Path) -> None:
    failed = refused(tmp_path, files={"onnx": crash_onnx()})
    assert failed.refusal == Refusal.WORKER_DIED
    assert "SIGSEGV" in failed.detail


def test_a_model_slower_than_its_budget_is_refused(tmp_path: Path) -> None:
    failed = refused(tmp_path, start=Start(latency_ms_max=1e-6))
    assert failed.refusal == Refusal.TOO_SLOW
    assert "latency budget" in failed.detail


def test_a_worker_killed_from_outside_is_reported_once_it_was_ready(tmp_path: Path) -> None:
    manifest, sha256 = write_bundle(tmp_path / "b")
    with Workers(tmp_path) as slot:
        worker = slot.start(tmp_path / "b", manifest, sha256)
        slot.wait(worker, Ready)
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        event = slot.wait(worker, Exited)
        assert event.returncode == -signal.SIGKILL
        assert "SIGKILL" in event.detail


def test_a_candidate_starts_at_low_priority_and_serves_at_the_agents(tmp_path: Path) -> None:
    manifest, sha256 = write_bundle(tmp_path / "b", files={"onnx": endless_onnx()})
    good, digest = write_bundle(tmp_path / "good")
    with Workers(tmp_path) as slot:
        stuck = slot.start(tmp_path / "b", manifest, sha256)
        ready = slot.start(tmp_path / "good", good, digest)
        slot.wait(ready, Ready)
        assert (pid := ready.pid) is not None
        own = {os.getpriority(os.PRIO_PROCESS, 0)}
        # The thread that said "ready" ends a moment later.
        assert eventually(lambda: priorities(pid) == own)
        assert (slow := stuck.pid) is not None
        # The other one may be ready before this one has begun to load.
        assert eventually(lambda: any_makes_way(slow))


def any_makes_way(pid: int) -> bool:
    return any(makes_way(thread.id) for thread in psutil.Process(pid).threads())


def priorities(pid: int) -> set[int]:
    """Those of a process's threads, without threads that end meanwhile."""
    found = set()
    for thread in psutil.Process(pid).threads():
        with contextlib.suppress(ProcessLookupError):
            found.add(os.getpriority(os.PRIO_PROCESS, thread.id))
    return found


def makes_way(thread: int) -> bool:
    lazy = os.sched_getscheduler(thread) == os.SCHED_IDLE
    return lazy or os.getpriority(os.PRIO_PROCESS, thread) >= NICENESS


@pytest.mark.parametrize(
    ("load", "first", "idle"), [(0.0, False, True), (1e9, False, False), (0.0, True, False)]
)
def test_a_candidate_takes_idle_time_only_if_there_is_some_and_somebody_serves(
    load: float, first: bool, idle: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (load, load, load))

    def policy() -> tuple[int, int]:
        return os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0)

    before = policy()
    scheduler, niceness = gently(policy, first=first)
    assert scheduler == (os.SCHED_IDLE if idle else os.SCHED_OTHER)
    assert idle or niceness >= NICENESS
    assert policy() == before


def test_a_frozen_worker_is_killed_when_its_grace_is_over(tmp_path: Path) -> None:
    manifest, sha256 = write_bundle(tmp_path / "b")
    with Workers(tmp_path) as slot:
        worker = slot.start(tmp_path / "b", manifest, sha256)
        slot.wait(worker, Ready)
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGSTOP)
        worker.stop(0.2)
        assert slot.wait(worker, Exited).returncode == -signal.SIGKILL


def test_a_worker_does_not_outlive_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    write_bundle(tmp_path / "b")
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from muster_agent.worker.bundle import read_manifest\n"
        "from muster_agent.worker.events import Ready\n"
        "from muster_agent.worker.process import WorkerProcess, WorkerSpec\n"
        "bundle = Path(sys.argv[1])\n"
        "manifest, sha256 = read_manifest(bundle)\n"
        "def told(event):\n"
        "    if isinstance(event, Ready): print(worker.pid, flush=True)\n"
        "worker = WorkerProcess(WorkerSpec(worker_id='w', bundle=bundle, manifest=manifest,\n"
        "    manifest_sha256=sha256, build=manifest.builds[0]), told)\n"
        "worker.start()\n"
        "time.sleep(600)\n"
    )
    supervisor = psutil.Popen(
        [sys.executable, "-c", script, str(tmp_path / "b")], stdout=-1, text=True
    )
    try:
        worker = psutil.Process(int(supervisor.stdout.readline()))
    finally:
        supervisor.kill()
        supervisor.wait()
        supervisor.stdout.close()
    gone, alive = psutil.wait_procs([worker], timeout=WAIT_SECONDS)
    assert alive == []
    assert gone == [worker]


def test_the_check_reports_every_build_of_a_good_bundle(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    write_bundle(tmp_path, model="dense", version="7")
    assert check.main([str(tmp_path)]) == 0
    verdict = msgspec.json.decode(capsysbinary.readouterr().out, type=check.Verdict)
    assert (verdict.ok, verdict.model, verdict.version) == (True, "dense", "7")
    assert [build.runtime for build in verdict.builds] == RUNTIMES
    assert all(build.facts and build.facts.golden_cases == 5 for build in verdict.builds)


def test_the_check_names_the_build_at_fault(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    write_bundle(tmp_path, files={"tflite": b"nonsense"})
    assert check.main([str(tmp_path)]) == 1
    verdict = msgspec.json.decode(capsysbinary.readouterr().out, type=check.Verdict)
    assert [(build.ok, build.refusal) for build in verdict.builds] == [
        (True, None),
        (False, Refusal.LOAD_FAILED),
    ]


def test_the_check_of_a_directory_that_is_no_bundle_is_one_verdict(tmp_path: Path) -> None:
    verdict = check.check(tmp_path)
    assert not verdict.ok
    assert verdict.refusal == Refusal.FILE_MISMATCH
    (tmp_path / "manifest.json").write_bytes(b"{}")
    assert check.check(tmp_path).refusal == Refusal.MALFORMED
