"""A model that breaks out of its runtime tries everything, in a real worker, on each rung.

The worker runs as the user that the supervisor runs as, here the one who runs the tests. On the
last rung, where nothing is isolated, most attempts get through: that shows that they are real.
"""

import errno
import json
import os
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from muster_agent.isolation.cage import Rung, available
from muster_agent.worker.events import Ready
from support.models import dense_onnx, weights, write_bundle
from support.workers import Client, Workers

RUNTIME = Path(__file__).resolve().parents[2] / "support" / "hostile_runtime"
ATTEMPTS_MIN = 40
ISOLATED = [Rung.FULL, Rung.NO_LANDLOCK, Rung.ONE_THREAD]
ALLOWED_WHILE_LOADING = frozenset({"change_its_own_limits", "read_what_its_interpreter_is_made_of"})
"""What only the second step closes; see docs/security.md."""


NAMES = [
    match[1]
    for name in ("files", "kernel", "network", "processes", "service")
    for match in re.finditer(
        r"^@attempt\ndef (\w+)", (RUNTIME / "onnxruntime" / f"{name}.py").read_text(), re.MULTILINE
    )
]
"""In the order in which the runtime's own modules are imported."""


@pytest.fixture
def victim() -> Iterator[int]:
    process = subprocess.Popen(["sleep", "600"])
    yield process.pid
    process.kill()
    process.wait()


@pytest.fixture
def sink() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


@pytest.fixture
def results(
    tmp_path: Path, victim: int, sink: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Rung], tuple[dict[str, float], dict[str, float]]]:
    """What each attempt came to (while loading, while serving) on a rung."""
    monkeypatch.syspath_prepend(str(RUNTIME))
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key.pem").write_bytes(b"a key")
    (tmp_path / "scratch").mkdir()
    (tmp_path / "other.ring").write_bytes(bytes(4096))

    def tried(rung: Rung) -> tuple[dict[str, float], dict[str, float]]:
        with Workers(tmp_path, tcp=True) as slot:
            targets = {
                "key": str(secret / "key.pem"), "key_bytes": 5, "bundle": str(tmp_path / "b"),
                "scratch": str(tmp_path / "scratch"), "other_ring": str(tmp_path / "other.ring"),
                "supervisor": os.getpid(), "victim": victim, "sink_port": sink.getsockname()[1],
                "while_loading": rung is not Rung.NONE,
            }  # fmt: skip
            ring = slot.ring_for("w0", *written(tmp_path / "b", targets))
            targets |= {"ring_inode": ring.stat().st_ino, "ring_bytes": ring.stat().st_size}
            manifest, sha256 = written(tmp_path / "b", targets)
            (tmp_path / "b" / "link").symlink_to(secret / "key.pem")
            worker = slot.start(tmp_path / "b", manifest, sha256, ring=ring, rung=rung)
            assert slot.wait(worker, Ready).facts.isolation == available(rung)
            worker.accept()
            with Client(slot.sockets.path) as client:

                def ask(number: int) -> float:
                    x = {"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [number]}
                    status, said = client.call("POST", "/v2/models/dense/infer", {"inputs": [x]})
                    assert status == 200, said
                    return float(said["outputs"][0]["data"][0])

                places = range(len(NAMES))
                loading = {NAMES[k]: ask(1000 + k) for k in places if targets["while_loading"]}
                return loading, {NAMES[k]: ask(k) for k in places}

    return tried


def written(directory: Path, targets: dict[str, Any]) -> tuple[Any, str]:
    model = onnx.load_from_string(dense_onnx(*weights(1, 3)))
    model.doc_string = f"-targets-{json.dumps(targets)}-targets-"
    nothing = np.full((1, 1), -1, np.float32)
    return write_bundle(
        directory, runtimes=("onnx",), inputs=1, files={"onnx": model.SerializeToString()},
        golden={"input:x": nothing, "output:probabilities": np.zeros((1, 3), np.float32)},
    )  # fmt: skip


def test_there_are_enough_attempts_and_each_has_a_name_of_its_own() -> None:
    assert len(set(NAMES)) == len(NAMES) >= ATTEMPTS_MIN


@pytest.mark.parametrize("rung", ISOLATED)
def test_a_hostile_model_gets_nowhere(
    rung: Rung, results: Any, record_property: Callable[[str, object], None], tmp_path: Path
) -> None:
    if available(rung) is Rung.NONE:
        pytest.skip("this kernel has no filter of system calls")
    loading, serving = results(rung)
    through = {name for name, outcome in serving.items() if outcome == 1}
    early = {name for name, outcome in loading.items() if outcome == 1}
    assert (early, through) == (ALLOWED_WHILE_LOADING & early, set())
    refused = {-errno.EPERM, -errno.EACCES, -errno.ENOSYS}
    assert {*loading.values(), *serving.values()} <= {*refused, 1}
    assert list((tmp_path / "scratch").iterdir()) == []
    record_property(
        "tried",
        f"hostile model, isolation {rung}: {len(NAMES)} attempts, {len(early)} got through while "
        f"loading, {len(through)} while serving",
    )


def test_without_isolation_most_of_the_attempts_get_through(
    results: Any, record_property: Callable[[str, object], None]
) -> None:
    _, serving = results(Rung.NONE)
    through = [name for name, outcome in serving.items() if outcome == 1]
    assert len(through) >= ATTEMPTS_MIN, sorted(set(NAMES) - set(through))
    record_property(
        "tried",
        f"hostile model, isolation none: {len(NAMES)} attempts, {len(through)} got through while "
        "serving",
    )
