"""The demo's own tools tell the truth: feeder, wire, processes and settings."""

import http.server
import json
import os
import socket
import socketserver
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_hub.demo import digits, fleet, processes, settings
from muster_hub.demo.camera import CLEAN
from muster_hub.demo.feeder import Feeder, WrongAnswer, read_answer, request
from muster_hub.demo.outsider import alter
from muster_hub.demo.promises import BrokenPromise, Summary, promise, wait_for
from muster_hub.demo.wire import Wire

RATE = 200.0


def good_answer(name: str, predicted: int = 3) -> dict[str, Any]:
    scores = [0.0] * 10
    scores[predicted] = 1.0
    output = {"name": "probabilities", "shape": [1, 10], "datatype": "FP32", "data": scores}
    return {"id": name, "model_name": "digits", "model_version": "1", "outputs": [output]}


class _Device(http.server.BaseHTTPRequestHandler):
    """A device that answers well, except as ``server.fault`` says for a request's number."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server: Any = self.server
        if self.path.endswith("/labels"):
            server.labels += body["labels"]
            self._answer(200, {"accepted": len(body["labels"])})
            return
        server.requests += 1
        fault = server.fault(server.requests)
        if fault == "close":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        elif fault == "503":
            self._answer(503, {"error": "no model"})
        elif fault == "other":
            self._answer(200, good_answer("someone else's"))
        else:
            self._answer(200, good_answer(body["id"]), close=fault == "say close")

    def _answer(self, status: int, body: dict[str, Any], *, close: bool = False) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        if close:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def address_string(self) -> str:
        return "device"


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


@contextmanager
def device(directory: Path, fault: Any) -> Iterator[Any]:
    server: Any = _Server(str(directory / "s.sock"), _Device)
    server.fault, server.requests, server.labels = fault, 0, []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def feed(server: Any, directory: Path, count: int) -> Feeder:
    images = np.zeros((4, digits.SIDE, digits.SIDE), np.float32)
    feeder = Feeder(
        "cam-1", directory / "s.sock", "digits", images, np.array([3, 3, 3, 4]),
        rate=RATE, label_delay_seconds=0.0, seed=1,
    )  # fmt: skip
    feeder.start()
    while feeder.tally.sent < count:
        time.sleep(0.01)  # the feeder sends in its thread
    feeder.finish()
    return feeder


def test_the_feeder_counts_exactly_what_it_sent(tmp_path: Path) -> None:
    with device(tmp_path, lambda n: "say close" if n % 5 == 0 else None) as server:
        tally = feed(server, tmp_path, 40).tally
        assert tally.failed == 0, tally.failures
        assert tally.sent == tally.answered == server.requests == tally.labels_sent
        assert len({label["id"] for label in server.labels}) == tally.sent
        wrong = sum(label["label"] == "4" for label in server.labels)
        assert tally.accuracy("1", CLEAN) == pytest.approx(1 - wrong / tally.sent)


@pytest.mark.parametrize("fault", ["close", "503", "other"])
def test_the_feeder_never_tries_twice_and_counts_every_failure(tmp_path: Path, fault: str) -> None:
    with device(tmp_path, lambda n: fault if n % 4 == 0 else None) as server:
        tally = feed(server, tmp_path, 20).tally
        assert tally.sent == server.requests
        assert tally.failed == server.requests // 4
        assert tally.answered + tally.failed == tally.sent
        assert tally.failures[0].startswith("cam-1-1-4")


def test_a_device_that_is_not_there_is_a_failed_request(tmp_path: Path) -> None:
    tally = feed(None, tmp_path, 3).tally
    assert tally.failed == tally.sent


def test_a_request_names_its_tensor_as_the_protocol_asks() -> None:
    image = np.arange(64, dtype=np.float32).reshape(1, 8, 8)
    (tensor,) = request("x", image)["inputs"]
    assert (tensor["name"], tensor["shape"], tensor["datatype"]) == ("image", [1, 8, 8], "FP32")
    assert tensor["data"] == list(range(64))


@pytest.mark.parametrize(
    "change",
    [
        {"id": "y"},
        {"outputs": []},
        {"outputs": None},
        {"outputs": [{"name": "probabilities", "shape": [1, 10], "data": [0.5] * 10}]},
        {"outputs": [{"name": "probabilities", "shape": [1, 10], "data": [float("nan")] * 10}]},
        {"outputs": [{"name": "probabilities", "shape": [10], "data": [0.1] * 10}]},
        {"parameters": {"quality": "last_good"}},
    ],
)
def test_an_answer_that_is_not_a_fresh_inference_is_refused(change: dict[str, Any]) -> None:
    assert read_answer(good_answer("x"), "x") == ("1", 3)
    with pytest.raises(WrongAnswer):
        read_answer({**good_answer("x"), **change}, "x")


@given(st.binary(min_size=1))
def test_an_altered_chunk_differs_in_one_bit(data: bytes) -> None:
    altered = alter(data)
    assert len(altered) == len(data)
    assert sum((a ^ b).bit_count() for a, b in zip(data, altered, strict=True)) == 1


def echo_server() -> tuple[socket.socket, threading.Thread]:
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                while data := connection.recv(4096):
                    connection.sendall(data)

    thread = threading.Thread(target=serve)
    thread.start()
    return listener, thread


def test_a_wire_carries_and_counts_until_it_is_cut() -> None:
    listener, thread = echo_server()
    wire = Wire("cam-1", listener.getsockname())
    try:
        with socket.create_connection(("127.0.0.1", wire.port), timeout=60) as line:
            line.sendall(b"x" * 1000)
            got = b""
            while len(got) < 1000:
                got += line.recv(4096)
            assert wire.bytes_up == wire.bytes_down == 1000
            wire.cut()
            assert line.recv(1) == b""
        with socket.create_connection(("127.0.0.1", wire.port), timeout=60) as line:
            assert line.recv(1) == b""
        wire.restore()
        with socket.create_connection(("127.0.0.1", wire.port), timeout=60) as line:
            line.sendall(b"back")
            assert line.recv(4) == b"back"
    finally:
        wire.close()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


def test_a_child_that_ends_by_itself_is_noticed_with_its_last_words(tmp_path: Path) -> None:
    child = processes.Child("hub", [sys.executable, "-c", "print('oh no'); exit(3)"], tmp_path)
    with pytest.raises(processes.ProcessError, match=r"hub ended with code 3(.|\n)*oh no"):
        wait_for("its end", 30, lambda: None, child.check)
    child.stop()


def test_a_stopped_child_takes_its_own_children_along(tmp_path: Path) -> None:
    script = "import subprocess, sys, time; subprocess.Popen(sys.argv[1:]); time.sleep(600)"
    child = processes.Child("parent", [sys.executable, "-c", script, *SLEEP], tmp_path)
    children = Path(f"/proc/{child.pid}/task/{child.pid}/children")
    grandchild = wait_for(
        "the grandchild", 30, lambda: children.read_text().split() or None, child.check
    )
    child.stop()
    wait_for(
        "the end of the grandchild", 30,
        lambda: processes.Identity.of(int(grandchild[0])) is None, lambda: None,
    )  # fmt: skip
    assert not (tmp_path / "parent.pid").exists()


def test_leftovers_of_a_killed_run_are_ended_and_strangers_are_not(tmp_path: Path) -> None:
    ours = subprocess.Popen(SLEEP, start_new_session=True)
    stranger = subprocess.Popen(SLEEP, start_new_session=True)
    try:
        identity = processes.Identity.of(ours.pid)
        other = processes.Identity.of(stranger.pid)
        assert identity is not None
        assert other is not None
        (tmp_path / "cam-1.pid").write_text(json.dumps(vars(identity)))
        reused = {**vars(other), "started": other.started - 1}
        (tmp_path / "cam-2.pid").write_text(json.dumps(reused))
        (tmp_path / "cam-3.pid").write_text("not a pid file")
        assert processes.end_leftovers(tmp_path) == ["cam-1"]
        assert ours.wait(60) != 0
        assert stranger.poll() is None
        assert not list(tmp_path.glob("*.pid"))
    finally:
        for process in (ours, stranger):
            process.kill()
            process.wait()


def test_a_command_that_fails_says_why() -> None:
    with pytest.raises(processes.ProcessError, match="code 2: bad token"):
        processes.run([sys.executable, "-c", "import sys; sys.stderr.write('bad token'); exit(2)"])


def test_settings_are_changed_and_others_kept(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text('device = "cam-1"\n# why\n[broker]\nhost = "a"\nport = 1\n[timers]\n')
    settings.change(file, {"broker.port": 2, "runtimes.allow": ["tflite"], "timers.x_seconds": 0.5})
    assert tomllib.loads(file.read_text()) == {
        "device": "cam-1",
        "broker": {"host": "a", "port": 2},
        "timers": {"x_seconds": 0.5},
        "runtimes": {"allow": ["tflite"]},
    }


def test_a_folder_that_is_not_the_demos_is_not_emptied(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(FileExistsError, match="--dir"):
        fleet.clear(tmp_path)
    assert (tmp_path / "thesis.tex").exists()


def test_a_folder_of_an_earlier_demo_is_emptied(tmp_path: Path) -> None:
    demo = tmp_path / "demo"
    fleet.clear(demo)
    (demo / "hub").mkdir()
    fleet.clear(demo)
    assert not (demo / "hub").exists()


def test_free_ports_differ() -> None:
    assert len(set(fleet.free_ports(8))) == 8


def test_a_broken_promise_names_itself() -> None:
    promise(True, "never seen")
    with pytest.raises(BrokenPromise, match="fed 3, counted 2"):
        promise(False, "fed 3, counted 2")
    with pytest.raises(BrokenPromise, match="the hub answers: not within 0 s"):
        wait_for("the hub answers", 0, lambda: None, lambda: None)


def test_the_summary_has_the_promised_keys() -> None:
    promised = (
        "devices, inferences_fed, inferences_counted, failed_requests, refused_releases, "
        "drift_windows_to_alert, false_alerts, accuracy_before, accuracy_after, bytes_up, "
        "bytes_raw, seconds"
    )
    assert set(promised.split(", ")) <= set(json.loads(Summary().encode()))


def test_the_demo_adds_its_own_command_to_the_clients() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", "from muster_client.entry import main; main()", "demo", "--help"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert "--keep" in ended.stdout


def test_the_demo_is_not_in_the_way_of_an_installation_without_its_extra() -> None:
    hidden = "import sys; sys.modules.update(sklearn=None, onnx=None, flatbuffers=None); "
    ended = subprocess.run(
        [
            sys.executable,
            "-c",
            hidden + "sys.argv[1:] = ['demo']; from muster_client.app import main; main()",
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert ended.returncode == 2
    assert "pip install 'muster-edge[demo]'" in ended.stderr
