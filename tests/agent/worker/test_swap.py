"""Swaps under load: no client ever sees one."""

from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from muster_agent.worker.events import Drained, Exited, Ready
from muster_agent.worker.process import WorkerProcess
from muster_agent.worker.ring import RingReader
from support.models import write_bundle
from support.workers import Client, Workers, end_load, infer_body, start_load

SWAPS = 20
LONG_SWAPS = 60
GROWTH_BYTES_MAX = 8 << 20
"""From the tenth swap on; a worker that stayed, or its ring, would be larger."""
DESCRIPTORS_GROWTH_MAX = 8
"""Some wait for the collector; one lost by each swap would be 48."""
FLIPS = 40


@pytest.mark.timeout(300)
def test_twenty_swaps_of_processes_and_runtimes_fail_no_request(tmp_path: Path) -> None:
    bundles = [
        (tmp_path / version, *write_bundle(tmp_path / version, version=version))
        for version in ("1", "2")
    ]
    with Workers(tmp_path) as slot:
        old = slot.start(*bundles[0], "onnx")
        slot.wait(old, Ready)
        old.accept()
        loads = [start_load(slot.sockets.path) for _ in range(2)]
        for swap in range(SWAPS):
            new = slot.start(*bundles[(swap + 1) % 2], "tflite" if swap % 2 else "onnx")
            slot.wait(new, Ready)
            new.accept()
            old.pause()
            slot.wait(old, Drained)
            old.stop(10.0)
            assert slot.wait(old, Exited).returncode == 0
            old = new
        counted = [end_load(load) for load in loads]
        assert [count["failures"] for count in counted] == [[], []]
        assert all(set(count["versions"]) == {"1", "2"} for count in counted)
        old.pause()
        slot.wait(old, Drained)
        published = 0
        for worker in slot.workers:
            with RingReader(tmp_path / f"{worker.spec.worker_id}.ring") as ring:
                published += ring.published
        assert published == sum(count["answers"] for count in counted)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_after_sixty_swaps_under_load_nothing_has_failed_grown_or_been_left_behind(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    bundles = [
        (tmp_path / version, *write_bundle(tmp_path / version, version=version))
        for version in ("1", "2")
    ]
    us, sizes = psutil.Process(), []
    with Workers(tmp_path) as slot:
        old = slot.start(*bundles[0])
        slot.wait(old, Ready)
        old.accept()
        load = start_load(slot.sockets.path)
        for swap in range(LONG_SWAPS):
            new = slot.start(*bundles[(swap + 1) % 2], "tflite" if swap % 4 >= 2 else "onnx")
            slot.wait(new, Ready)
            new.accept()
            old.pause()
            slot.wait(old, Drained)
            old.stop(10.0)
            assert slot.wait(old, Exited).returncode == 0
            assert old.wait(60)
            old = new
            assert new.pid is not None
            rss = us.memory_info().rss, psutil.Process(new.pid).memory_info().rss
            sizes.append((*rss, us.num_fds()))
        children = us.children()
        counted = end_load(load)
    assert counted["failures"] == []
    assert {child.pid for child in children} == {old.pid, load.pid}
    # Every fourth worker is of the same runtime and version as the one it is compared with.
    early, late = sizes[11], sizes[-1]
    assert late[0] - early[0] < GROWTH_BYTES_MAX
    assert late[1] - early[1] < GROWTH_BYTES_MAX
    assert late[2] - early[2] < DESCRIPTORS_GROWTH_MAX
    record_property("tried", f"{LONG_SWAPS} swaps under {counted['answers']} requests: none failed")


@pytest.mark.timeout(120)
def test_going_back_and_forth_between_two_loaded_workers_fails_no_request(tmp_path: Path) -> None:
    bundle = (tmp_path / "b", *write_bundle(tmp_path / "b"))
    with Workers(tmp_path) as slot:
        first, second = slot.start(*bundle, "onnx"), slot.start(*bundle, "tflite")
        slot.wait(first, Ready)
        slot.wait(second, Ready)
        first.accept()
        load = start_load(slot.sockets.path)
        for _ in range(FLIPS):
            second.accept()
            first.pause()
            slot.wait(first, Drained)
            first, second = second, first
        assert end_load(load)["failures"] == []


def test_connections_wait_when_the_old_worker_is_gone_before_the_new_one_is_there(
    tmp_path: Path,
) -> None:
    bundle = (tmp_path / "b", *write_bundle(tmp_path / "b"))
    with Workers(tmp_path) as slot:
        old = slot.start(*bundle)
        slot.wait(old, Ready)
        old.accept()
        with Client(slot.sockets.path) as client:
            ask = ("POST", "/v2/models/dense/infer", infer_body([1, 2, 3, 4], "a"))
            assert client.call(*ask)[0] == 200
            old.stop(10.0)
            slot.wait(old, Exited)
            client.send("GET", "/v2/health/ready")
            new = slot.start(*bundle)
            slot.wait(new, Ready)
            new.accept()
            assert client.receive()[0] == 200
            assert client.call(*ask)[1]["id"] == "a"


def test_half_a_request_is_finished_by_the_next_worker(tmp_path: Path) -> None:
    bundle = (tmp_path / "b", *write_bundle(tmp_path / "b"))
    with Workers(tmp_path, tcp=True) as slot:
        old, new = slot.start(*bundle), slot.start(*bundle)
        slot.wait(old, Ready)
        slot.wait(new, Ready)
        old.accept()
        for port in (None, slot.sockets.tcp_port):
            with Client(slot.sockets.path, tcp_port=port) as client:
                assert client.call("GET", "/v2/health/live")[0] == 200
                client.socket.sendall(b"GET /v2/health/re")
                assert_served_by_another(slot, old, new)
                client.socket.sendall(b"ady HTTP/1.1\r\nHost: x\r\n\r\n")
                assert client.receive()[0] == 200
            old, new = new, old


def assert_served_by_another(slot: Workers, old: WorkerProcess, new: WorkerProcess) -> None:
    new.accept()
    old.pause()
    slot.wait(old, Drained)
