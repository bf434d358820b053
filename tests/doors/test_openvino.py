"""OpenVINO computes models in a real worker: isolated, asked over HTTP, and said to be used.

Its build of ONNX Runtime takes the place of the usual one, so it has an environment of its own.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from muster_protocol.wire.limits import MIB
from muster_protocol.wire.manifest import Build, Provider, ProviderName
from support.counterparts import environment
from support.models import softmax, weights, write_bundle

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("onnxruntime-openvino==1.24.1", "numpy>=1.26", "msgspec>=0.19", "orjson>=3.11")
MEMORY_BYTES = 1024 * MIB
"""Of address space: OpenVINO's own libraries take a third of it."""
ROWS = (1, 2, 5, 1)
W, B = weights(4, 3, 7)
X = np.random.default_rng(8).normal(size=(max(ROWS), 4)).astype(np.float32)

pytestmark = [pytest.mark.doors, pytest.mark.timeout(1800)]

ASK = """
import json, sys
from pathlib import Path
import numpy as np
from muster_agent import runtimes
from muster_agent.worker.bundle import read_manifest
from muster_agent.worker.events import Ready
from support.workers import Client, Workers

bundle, run = map(Path, sys.argv[1:3])
manifest, sha256 = read_manifest(bundle)
x = np.load(run / "x.npy")
with Workers(run) as slot:
    worker = slot.start(bundle, manifest, sha256, threads=2)
    facts = slot.wait(worker, Ready).facts
    worker.accept()
    answers = []
    with Client(run / "slot.sock") as client:
        for rows in map(int, sys.argv[3:]):
            data = x[:rows].ravel().tolist()
            given = {"name": "x", "shape": [rows, 4], "datatype": "FP32", "data": data}
            status, said = client.call("POST", "/v2/models/dense/infer", {"inputs": [given]})
            assert status == 200, said
            answers.append(said["outputs"][0]["data"])
print(json.dumps({
    "providers": facts.providers, "threads": facts.threads, "isolation": facts.isolation,
    "has": runtimes.providers()["onnx"], "version": facts.runtime_version, "answers": answers,
}))
"""


@pytest.fixture(scope="session")
def python():
    """An interpreter that has OpenVINO's build of ONNX Runtime."""
    return environment("openvino", *PACKAGES) / "python"


def bundle_for(directory: Path, *names: ProviderName) -> Path:
    golden = {}
    for number in range(2):
        row = X[number : number + 1]
        golden |= {
            f"{number}/input:x": row, f"{number}/output:probabilities": softmax(row, W, B),
        }  # fmt: skip
    directory.mkdir()
    build = Build(
        "onnx", "model.onnx", MEMORY_BYTES, providers=tuple(map(Provider, names)), threads=2
    )
    write_bundle(directory, runtimes=("onnx",), golden=golden, format=2, builds=(build,))
    return directory


def run(python: Path, *command: object) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(str(ROOT / part) for part in ("tests", "agent", "protocol"))
    return subprocess.run(
        [python, *map(str, command)], capture_output=True, text=True, check=False, timeout=120,
        env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip


@pytest.mark.parametrize("names", [("OpenVINO",), ("OpenVINO", "CPU")])
def test_openvino_answers_as_the_processor_does_and_is_said_to(python, tmp_path, names):
    made = bundle_for(tmp_path / "bundle", *names)
    np.save(tmp_path / "x.npy", X)
    done = run(python, "-c", ASK, made, tmp_path, *ROWS)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["has"] == ["CPU", "OpenVINO"]
    assert said["providers"] == list(names)
    assert (said["threads"], said["version"]) == (2, "1.24.1")
    assert said["isolation"].endswith("makes code")
    for rows, answer in zip(ROWS, said["answers"], strict=True):
        want = softmax(X[:rows], W, B).ravel()
        np.testing.assert_allclose(answer, want, rtol=1e-3, atol=1e-4)


def check(python: Path, made: Path) -> dict[str, object]:
    (build,) = json.loads(run(python, "-m", "muster_agent.worker.check", made).stdout)["builds"]
    return build


def test_what_may_fall_back_runs_without_openvino_and_what_may_not_is_refused(tmp_path):
    either = check(sys.executable, bundle_for(tmp_path / "either", "OpenVINO", "CPU"))
    assert either["ok"], either
    assert either["facts"]["providers"] == ["CPU"]
    alone = check(sys.executable, bundle_for(tmp_path / "alone", "OpenVINO"))
    assert alone["refusal"] == "no_runtime"
    assert "asks for OpenVINO, and the runtime here has CPU" in alone["detail"]


def test_a_provider_that_openvino_s_build_lacks_is_refused(python, tmp_path):
    alone = check(python, bundle_for(tmp_path / "alone", "TensorRT", "CUDA"))
    assert alone["refusal"] == "no_runtime"
    assert "has CPU, OpenVINO" in alone["detail"]
