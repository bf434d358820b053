"""Real models of both runtimes load, serve and are swapped on each rung of the ladder."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from muster_agent.isolation import cage, kernel, landlock
from muster_agent.isolation.cage import Rung, available
from muster_agent.worker import check
from muster_agent.worker.events import Drained, Exited, Failed, Heartbeat, Ready
from muster_protocol.wire.errors import Refusal
from support.models import softmax, weights, write_bundle
from support.workers import WAIT_SECONDS, Client, Workers, infer_body

RUNTIMES = ["onnx", "tflite"]


@pytest.mark.parametrize("rung", list(Rung))
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_model_serves_on_each_rung_and_says_on_which(
    runtime: Any, rung: Rung, tmp_path: Path
) -> None:
    manifest, sha256 = write_bundle(tmp_path / "b")
    with Workers(tmp_path, tcp=True) as slot:
        worker = slot.start(tmp_path / "b", manifest, sha256, runtime, rung=rung)
        facts = slot.wait(worker, Ready).facts
        assert (facts.isolation, facts.golden_cases) == (available(rung), 5)
        worker.accept()
        for port in (None, slot.sockets.tcp_port):
            with Client(slot.sockets.path, tcp_port=port) as client:
                status, said = client.call(
                    "POST", "/v2/models/dense/infer", infer_body([1.0, 2.0, 3.0, 4.0])
                )
                assert status == 200, said
                want = softmax(np.array([[1, 2, 3, 4]], np.float32), *weights())
                np.testing.assert_allclose([said["outputs"][0]["data"]], want, atol=1e-5)
                assert client.call("POST", "/v2/models/dense/infer", {"inputs": 1})[0] == 400
        counters = slot.wait(worker, Heartbeat).counters
        assert counters.rss_bytes > 0
        worker.pause()
        slot.wait(worker, Drained)
        worker.stop(10.0)
        assert slot.wait(worker, Exited).returncode == 0


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_runtimes_pool_of_threads_is_isolated_too(runtime: Any, tmp_path: Path) -> None:
    manifest, sha256 = write_bundle(tmp_path / "b")
    with Workers(tmp_path) as slot:
        worker = slot.start(tmp_path / "b", manifest, sha256, runtime, threads=2)
        assert slot.wait(worker, Ready).facts.isolation == available()
        filters = {
            line.split()[1]
            for task in Path(f"/proc/{worker.pid}/task").iterdir()
            for line in (task / "status").read_text().splitlines()
            if line.startswith("Seccomp_filters:")
        }
        assert filters == {"2"}


def test_a_worker_that_answers_by_fallback_alone_is_isolated(tmp_path: Path) -> None:
    manifest, sha256 = write_bundle(tmp_path / "b")
    with Workers(tmp_path) as slot:
        worker = slot.start(tmp_path / "b", manifest, sha256, None)
        assert slot.wait(worker, Ready).facts.isolation == available()


def test_where_isolation_is_required_a_model_is_refused_without_it(tmp_path: Path) -> None:
    manifest, sha256 = write_bundle(tmp_path / "b")
    with Workers(tmp_path) as slot:
        worker = slot.start(tmp_path / "b", manifest, sha256, isolation="required", rung=Rung.NONE)
        event = slot.events[worker.spec.worker_id].get(timeout=WAIT_SECONDS)
        assert isinstance(event, Failed)
        assert event.refusal is Refusal.NO_ISOLATION
        good = slot.start(tmp_path / "b", manifest, sha256, isolation="required")
        assert slot.wait(good, Ready).facts.isolation != Rung.NONE


def test_a_release_is_checked_isolated(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    write_bundle(tmp_path)
    assert check.main([str(tmp_path), "--isolation", "required"]) == 0
    verdict = msgspec.json.decode(capsysbinary.readouterr().out, type=check.Verdict)
    rungs = [build.facts.isolation for build in verdict.builds if build.facts is not None]
    assert rungs == [available(), available()]


def test_the_rungs_are_offered_from_the_best_down() -> None:
    order = list(Rung)
    best = order.index(available())
    assert [order.index(available(rung)) for rung in order] == [max(best, n) for n in range(4)]


@pytest.mark.parametrize(
    ("abi", "size", "rights"),
    [(1, 8, 13), (2, 8, 14), (3, 8, 15), (4, 16, 15), (5, 16, 16), (6, 24, 16), (9, 24, 16)],
)
def test_each_landlock_is_asked_for_all_that_it_knows(abi: int, size: int, rights: int) -> None:
    made = landlock.attributes(abi)
    assert len(made) == size
    assert int.from_bytes(made[:8], "little") == (1 << rights) - 1


def test_a_machine_whose_calls_are_not_known_has_no_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel.platform, "machine", lambda: "riscv64")
    assert available() is Rung.NONE
    assert cage.available(Rung.FULL) is Rung.NONE
