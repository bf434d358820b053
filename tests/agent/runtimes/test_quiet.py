"""Loading a runtime tells nobody: no file written, no name looked up, nothing connected."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from muster_agent import runtimes
from support.models import dense_onnx, dense_tflite, weights

RUN_A_MODEL = """
import sys, time
from pathlib import Path
import numpy as np
from muster_agent import runtimes
model = runtimes.load(sys.argv[1], Path(sys.argv[2]))
model.run({"x": np.zeros((1, 4), np.float32)})
time.sleep(1.0)  # whoever reports in the background gets the time to
"""


@pytest.mark.system
@pytest.mark.parametrize("runtime", ["onnx", "tflite"])
def test_a_runtime_writes_no_file_and_looks_up_no_name(runtime: str, tmp_path: Path) -> None:
    model = tmp_path / "model"
    make = dense_onnx if runtime == "onnx" else dense_tflite
    model.write_bytes(make(*weights(4, 3)))
    home, trace = tmp_path / "home", tmp_path / "trace"
    home.mkdir()
    # onnxruntime keeps quiet by itself where CI is set; the product must not depend on that.
    quiet = {"CI", "ORT_DISABLE_TELEMETRY", "GITHUB_ACTIONS", "TF_BUILD"}
    environment = {name: value for name, value in os.environ.items() if name not in quiet}
    environment |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache")}
    environment |= {"PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": str(home)}
    calls = "trace=openat,creat,mkdir,mkdirat,socket,connect"
    strace = ["strace", "-f", "-qq", "-e", calls, "-o", str(trace)]
    subprocess.run(
        [*strace, sys.executable, "-c", RUN_A_MODEL, runtime, str(model)],
        env=environment,
        check=True,
        timeout=100,
        capture_output=True,
    )
    lines = trace.read_text().splitlines()
    assert any(str(model) in line for line in lines), "the trace must show the model being read"
    assert list(home.rglob("*")) == []
    written = [line for line in lines if "O_CREAT" in line or "mkdir" in line or "creat(" in line]
    assert written == []
    assert [line for line in lines if "AF_INET" in line or "resolv.conf" in line] == []


def test_asking_what_is_available_imports_no_runtime() -> None:
    script = (
        "import sys; from muster_agent.runtimes import available; found = available();"
        "heavy = {'onnxruntime', 'ai_edge_litert', 'tflite_runtime'} & set(sys.modules);"
        "print(sorted(found), sorted(heavy))"
    )
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert said.stdout.strip() == f"{sorted(runtimes.available())} []"
