"""What a worker gets of its supervisor, and what it can't do to it: one test a fault that was."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from muster_agent.worker.events import Drained, Exited, Ready
from muster_agent.worker.watch import describe_end
from support.models import write_bundle
from support.workers import Client, Workers, infer_body


def test_a_worker_gets_nothing_of_the_agents_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_PASSWORD", "a secret")
    manifest, sha256 = write_bundle(tmp_path / "b")
    with Workers(tmp_path) as slot:
        worker = slot.start(tmp_path / "b", manifest, sha256)
        slot.wait(worker, Ready)
        data = Path(f"/proc/{worker.pid}/environ").read_bytes()
    names = {entry.partition(b"=")[0].decode() for entry in data.split(b"\0") if entry}
    assert names <= {
        "ORT_DISABLE_TELEMETRY", "MALLOC_ARENA_MAX", "OMP_NUM_THREADS", "LD_LIBRARY_PATH"
    }  # fmt: skip


def test_a_worker_stands_in_no_directory_of_the_agent_and_in_a_session_of_its_own(
    tmp_path: Path,
) -> None:
    manifest, sha256 = write_bundle(tmp_path / "b")
    with Workers(tmp_path) as slot:
        worker = slot.start(tmp_path / "b", manifest, sha256)
        slot.wait(worker, Ready)
        assert worker.pid is not None
        assert Path(f"/proc/{worker.pid}/cwd").readlink() == Path("/")
        assert os.getsid(worker.pid) == worker.pid


def test_an_agent_started_in_its_own_directory_does_not_hand_that_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('imported from where the agent stands')")
    monkeypatch.syspath_prepend(str(tmp_path))
    manifest, sha256 = write_bundle(tmp_path / "b")
    with Workers(tmp_path) as slot:
        slot.wait(slot.start(tmp_path / "b", manifest, sha256), Ready)


def test_an_agent_that_stands_back_far_already_still_starts_workers(tmp_path: Path) -> None:
    """It can't make its workers as eager as they would be: that takes a right it has not."""
    write_bundle(tmp_path / "b")
    script = (
        "import os, queue, sys\n"
        "from pathlib import Path\n"
        "from muster_agent.worker.bundle import read_manifest\n"
        "from muster_agent.worker.process import WorkerProcess, WorkerSpec\n"
        "import ctypes\n"
        "ctypes.CDLL(None).prctl(24, 23, 0, 0, 0)  # CAP_SYS_NICE, in case it has it\n"
        "os.nice(10)\n"
        "bundle = Path(sys.argv[1])\n"
        "manifest, sha256 = read_manifest(bundle)\n"
        "events = queue.Queue()\n"
        "worker = WorkerProcess(WorkerSpec(worker_id='w', bundle=bundle, manifest=manifest,\n"
        "    manifest_sha256=sha256, build=manifest.builds[0], first=True), events.put)\n"
        "worker.start()\n"
        "print(type(events.get(timeout=60)).__name__)\n"
        "worker.stop(0.0); worker.wait(60)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "b")],
        capture_output=True, text=True, check=False, timeout=100, cwd="/",
    )  # fmt: skip
    assert done.stdout.strip() == "Ready", (done.stdout, done.stderr[-1500:])


@pytest.mark.parametrize("number", [signal.SIGSEGV, 40, signal.SIGRTMIN, signal.SIGRTMAX])
def test_each_signal_that_ends_a_worker_is_told(number: int, tmp_path: Path) -> None:
    assert describe_end(-number, b"").startswith("killed by ")
    manifest, sha256 = write_bundle(tmp_path / "b")
    with Workers(tmp_path) as slot:
        worker = slot.start(tmp_path / "b", manifest, sha256)
        slot.wait(worker, Ready)
        assert worker.pid is not None
        os.kill(worker.pid, number)
        assert slot.wait(worker, Exited).returncode == -number


def test_junk_on_the_handover_channel_does_not_stop_the_successor(tmp_path: Path) -> None:
    """What a hostile model sends there must not block the roll back to the one before it."""
    manifest, sha256 = write_bundle(tmp_path / "b")
    with Workers(tmp_path, tcp=True) as slot, Path("/dev/null").open("rb") as null:
        pipe = os.pipe()
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for junk in (null.fileno(), *pipe, udp.fileno(), pair[0].fileno()):
            socket.send_fds(slot.sockets.handover_out, [b"\0"], [junk])
        socket.send_fds(
            slot.sockets.handover_out, [b"\0"], [each.fileno() for each in slot.sockets.listeners]
        )
        slot.sockets.handover_out.send(b"no descriptor at all")
        with Client(slot.sockets.path) as waiting:
            worker = slot.start(tmp_path / "b", manifest, sha256)
            slot.wait(worker, Ready)
            before = {*Path(f"/proc/{worker.pid}/fd").iterdir()}
            worker.accept()
            body = infer_body([1.0, 2.0, 3.0, 4.0])
            assert waiting.call("POST", "/v2/models/dense/infer", body)[0] == 200
            after = {*Path(f"/proc/{worker.pid}/fd").iterdir()}
        assert len(after - before) <= 2, "nothing of it was kept but the client's connection"
        worker.pause()
        slot.wait(worker, Drained)
        for each in (*pipe, udp.detach(), pair[0].detach(), pair[1].detach()):
            os.close(each)


@pytest.mark.parametrize("size", [0, 1, 4096, 5000])
def test_a_ring_that_its_worker_cut_short_ends_nobody_but_the_worker(
    size: int, tmp_path: Path
) -> None:
    """A mapping of a file that was cut short kills its reader, so the supervisor maps none."""
    manifest, sha256 = write_bundle(tmp_path / "b")
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from muster_agent.worker.ring import Ring, RingError, RingReader\n"
        "writer, reader = Ring(Path(sys.argv[1])), RingReader(Path(sys.argv[1]))\n"
        "writer.append(1, 1, 0, 0, 0, b'', bytes(16), bytes(12))\n"
        "os.truncate(sys.argv[1], int(sys.argv[2]))\n"
        "try:\n"
        "    print(reader.published, len(reader.read(0).rows))\n"
        "except RingError as error:\n"
        "    print('refused', error)\n"
    )
    with Workers(tmp_path) as slot:
        ring = slot.ring_for("w0", manifest, sha256)
        done = subprocess.run(
            [sys.executable, "-c", script, str(ring), str(size)],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("refused"), done.stdout


HIDDEN = """
import ctypes, os
from pathlib import Path
os.setgid(65534)  # then the kernel shows a process that is hidden as another group's
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: the change of group had hidden it
{}
print(os.stat("/proc/self/stat").st_gid)
"""
RUN_THE_AGENT = """
from muster_agent.app import service
from muster_protocol.wire.errors import MusterError
try: service.run(Path("/no such directory"))
except MusterError: pass
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can take another group to see it by")
@pytest.mark.parametrize(("step", "group"), [("", "65534"), (RUN_THE_AGENT, "0")])
def test_the_agents_memory_is_hidden_from_other_processes_of_its_user(
    step: str, group: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HIDDEN.format(step)],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.strip() == group


def test_a_workers_resources_are_bounded(tmp_path: Path) -> None:
    manifest, sha256 = write_bundle(tmp_path / "b")
    with Workers(tmp_path) as slot:
        worker = slot.start(tmp_path / "b", manifest, sha256)
        slot.wait(worker, Ready)
        lines = Path(f"/proc/{worker.pid}/limits").read_text().splitlines()[1:]
    most = {line[:26].strip(): line[26:47].strip() for line in lines}
    assert {most[f"Max {name}"] for name in ("core file size", "file size", "locked memory")} == {
        "0"
    }
    assert most["Max open files"] == "256"
    assert most["Max address space"].isdecimal()
    assert most["Max processes"].isdecimal()
    assert most["Max cpu time"] == "unlimited"  # lifted when it was ready
