"""Models signed by mistake or malice: each costs its own process and a report, nothing else."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from muster_agent.worker.events import Failed, Ready
from muster_protocol.wire.errors import Refusal
from muster_protocol.wire.limits import MIB
from muster_protocol.wire.manifest import Start
from support.hostile_models import bomb_onnx, crash_onnx, endless_onnx
from support.models import dense_onnx, dense_tflite, weights, write_bundle
from support.waiting import eventually
from support.workers import WAIT_SECONDS, Workers, end_load, start_load

MUTANTS = 200
TESTS = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("runtime", "seed"), [("onnx", 1), ("tflite", 2)])
def test_damaged_models_are_refused_by_name_or_die_alone(
    runtime: str, seed: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    roots = [TESTS, TESTS.parent / "agent", TESTS.parent / "protocol"]
    script = TESTS / "support" / "damaged_models.py"
    done = subprocess.run(
        [sys.executable, "-P", script, runtime, str(MUTANTS), str(seed), tmp_path / "b"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, roots))},
        capture_output=True, text=True, check=False, timeout=110,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    outcomes: dict[str, int] = json.loads(done.stdout)
    assert sum(outcomes.values()) == MUTANTS
    assert "fell over" not in outcomes, done.stderr[-2000:]
    # What starts all the same gives the golden answers: those bits did not matter to them.
    assert outcomes.get("ready", 0) < MUTANTS / 10
    record_property("tried", f"{MUTANTS} damaged {runtime} models: {outcomes}")


HOSTILE: list[tuple[str, bytes, dict[str, Any], Refusal]] = [
    ("onnx", b"\x08\x07" * 5000, {}, Refusal.LOAD_FAILED),
    ("onnx", dense_onnx(*weights())[:-20], {}, Refusal.LOAD_FAILED),
    ("onnx", bomb_onnx(), {"memory_bytes": 64 * MIB}, Refusal.NO_MEMORY),
    ("onnx", crash_onnx(), {}, Refusal.WORKER_DIED),
    ("onnx", endless_onnx(), {"start": Start(cpu_seconds=1.0)}, Refusal.START_TIMEOUT),
    ("tflite", b"TFL3" * 5000, {}, Refusal.LOAD_FAILED),
    ("tflite", dense_tflite(*weights())[:-20], {}, Refusal.LOAD_FAILED),
]


def test_the_model_that_serves_does_not_notice_hostile_candidates(tmp_path: Path) -> None:
    manifest, sha256 = write_bundle(tmp_path / "good")
    with Workers(tmp_path) as slot:
        good = slot.start(tmp_path / "good", manifest, sha256)
        slot.wait(good, Ready)
        good.accept()
        load = start_load(slot.sockets.path)
        us = psutil.Process()
        before = us.num_fds(), threading.active_count()
        for number, (runtime, model, fields, refusal) in enumerate(HOSTILE):
            bundle = tmp_path / f"bad-{number}"
            bad, digest = write_bundle(
                bundle, runtimes=(runtime,), files={runtime: model}, **fields
            )
            candidate = slot.start(bundle, bad, digest, runtime)  # type: ignore[arg-type]  # a runtime
            event = slot.events[candidate.spec.worker_id].get(timeout=WAIT_SECONDS)
            assert isinstance(event, Failed), (number, event)
            assert event.refusal == refusal, (number, event)
            assert candidate.wait(WAIT_SECONDS)
        assert eventually(
            lambda: us.num_fds() <= before[0] and threading.active_count() <= before[1]
        )
        counted = end_load(load)
        assert counted["failures"] == []
        assert counted["answers"] > 0
        assert good.alive()
