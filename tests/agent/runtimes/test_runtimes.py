"""One battery for every runtime: what the interface promises, each must keep."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from muster_agent import runtimes
from muster_agent.runtimes import ModelError, NoRuntimeError
from muster_agent.runtimes.base import Model
from muster_protocol.wire.manifest import Tensor
from support.models import dense_onnx, dense_tflite, graph_onnx, softmax, weights

RUNTIMES = ["onnx", "tflite"]
W, B = weights(inputs=4, classes=3)


def write_model(directory: Path, runtime: str) -> Path:
    path = directory / f"model.{runtime}"
    path.write_bytes(dense_onnx(W, B) if runtime == "onnx" else dense_tflite(W, B))
    return path


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name not in runtimes.available():
        pytest.skip(f"{name} is not installed here")
    return name


@pytest.fixture
def model(runtime: str, tmp_path: Path) -> Model:
    return runtimes.load(runtime, write_model(tmp_path, runtime))


def rows(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 4)).astype(np.float32)


def test_a_model_names_its_tensors_with_a_variable_batch(model: Model) -> None:
    assert model.inputs == (Tensor("x", "FP32", (-1, 4)),)
    assert model.outputs == (Tensor("probabilities", "FP32", (-1, 3)),)


@pytest.mark.parametrize("sizes", [[1], [5], [1, 7, 7, 2, 1, 64]])
def test_answers_are_right_for_every_batch_size_in_any_order(
    model: Model, sizes: list[int]
) -> None:
    for size in sizes:
        x = rows(size, seed=size)
        answer = model.run({"x": x})["probabilities"]
        assert answer.shape == (size, 3)
        assert answer.dtype == np.float32
        np.testing.assert_allclose(answer, softmax(x, W, B), atol=1e-6)


def test_an_answer_stays_as_it_was_when_the_model_runs_again(model: Model) -> None:
    first = model.run({"x": rows(2, seed=1)})["probabilities"]
    kept = first.copy()
    model.run({"x": rows(2, seed=2)})
    np.testing.assert_array_equal(first, kept)


def test_many_threads_get_their_own_answers(model: Model) -> None:
    wrong: list[int] = []

    def ask(seed: int) -> None:
        for turn in range(200):
            x = rows(1 + turn % 3, seed=seed * 1000 + turn)
            if not np.allclose(model.run({"x": x})["probabilities"], softmax(x, W, B), atol=1e-5):
                wrong.append(seed)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_model_loads_through_an_open_descriptor_even_when_its_name_is_gone(
    runtime: str, tmp_path: Path
) -> None:
    path = write_model(tmp_path, runtime)
    with path.open("rb") as file:
        path.unlink()
        model = runtimes.load(runtime, Path(f"/proc/self/fd/{file.fileno()}"))
    np.testing.assert_allclose(
        model.run({"x": rows(3)})["probabilities"], softmax(rows(3), W, B), atol=1e-6
    )


@pytest.mark.parametrize("content", [b"", b"not a model", os.urandom(4096)])
def test_a_file_that_is_no_model_is_refused_in_one_line(
    runtime: str, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "model"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="can't load the model") as caught:
        runtimes.load(runtime, path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_missing_file_is_refused(runtime: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="can't load the model"):
        runtimes.load(runtime, tmp_path / "missing")


def test_inputs_that_do_not_fit_raise_and_leave_the_model_usable(model: Model) -> None:
    for bad in (np.zeros((1, 9), np.float32), np.zeros((1, 4, 1), np.float32)):
        with pytest.raises(ModelError, match=r"the model failed|can't have shape"):
            model.run({"x": bad})
    x = rows(2)
    np.testing.assert_allclose(model.run({"x": x})["probabilities"], softmax(x, W, B), atol=1e-6)


@pytest.mark.parametrize(
    "use", [runtimes.prepare, runtimes.version_of, lambda name: runtimes.load(name, Path("m"))]
)
def test_an_unknown_runtime_is_refused_and_never_taken_for_another(
    use: Callable[[str], object],
) -> None:
    with pytest.raises(NoRuntimeError, match="no runtime 'abacus' here: there are onnx, tflite"):
        use("abacus")


def test_a_runtime_that_nothing_here_provides_says_what_to_install() -> None:
    script = (
        "import sys; sys.modules['onnxruntime'] = None\n"
        "from pathlib import Path; from muster_agent import runtimes\n"
        "try: runtimes.load('onnx', Path('model'))\n"
        "except runtimes.NoRuntimeError as error: print(error, sorted(runtimes.available()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert "no onnx runtime is installed here: install onnxruntime" in done.stdout
    assert "'onnx'" not in done.stdout


def test_text_travels_through_an_onnx_model(tmp_path: Path) -> None:
    path = tmp_path / "text.onnx"
    path.write_bytes(
        graph_onnx(
            [helper.make_node("Identity", ["text"], ["same"])],
            inputs=[("text", TensorProto.STRING, ["n", 2])],
            outputs=[("same", TensorProto.STRING, ["n", 2])],
        )
    )
    model = runtimes.load("onnx", path)
    assert model.inputs == (Tensor("text", "BYTES", (-1, 2)),)
    given = np.array([[b"caf\xc3\xa9", b""], [b"two words", b"z"]], object)
    answer = model.run({"text": given})["same"]
    assert answer.tolist() == given.tolist()
    with pytest.raises(ModelError, match="must be text in UTF-8"):
        model.run({"text": np.array([[b"\xff", b"no text"]], object)})
