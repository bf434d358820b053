"""The demo's models are real: trained, exported twice, equal to scikit-learn's own answers."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from ai_edge_litert import interpreter as litert

from muster_hub.demo import bundles, digits, export, traps
from muster_hub.demo.camera import CLEAN, DEGRADED, FROZEN, Camera
from muster_protocol.signals import baseline
from muster_protocol.wire import chunks, manifest

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def data() -> digits.Digits:
    return digits.load()


@pytest.fixture(scope="module")
def plain(data: digits.Digits) -> digits.Classifier:
    return digits.train(data)


@pytest.fixture(scope="module")
def hardened(data: digits.Digits) -> digits.Classifier:
    return digits.train(data, digits.AUGMENTATIONS)


def test_no_held_out_image_is_a_training_image(data: digits.Digits) -> None:
    train = {image.tobytes() for image in data.train_images}
    assert not train & {image.tobytes() for image in data.held_out_images}


def test_a_clean_camera_changes_nothing(data: digits.Digits) -> None:
    assert np.array_equal(CLEAN.see(data.held_out_images), data.held_out_images)


def test_a_frozen_camera_shows_one_picture_whatever_is_before_it(data: digits.Digits) -> None:
    seen = FROZEN.see(data.held_out_images[:20])
    assert (seen == seen[0]).all()
    assert seen[0].std() > 0


def test_a_camera_never_leaves_the_range_of_ink(data: digits.Digits) -> None:
    for camera in (DEGRADED, Camera(gain=9.0), Camera(glow=-20.0)):
        seen = camera.see(data.held_out_images)
        assert seen.dtype == np.float32
        assert seen.min() >= 0
        assert seen.max() <= 16


def test_the_degraded_camera_costs_the_first_version_its_accuracy_and_not_the_second(
    data: digits.Digits, plain: digits.Classifier, hardened: digits.Classifier
) -> None:
    seen = DEGRADED.see(data.held_out_images)
    assert plain.accuracy(data.held_out_images, data.held_out_labels) > 0.95
    assert plain.accuracy(seen, data.held_out_labels) < 0.6
    assert hardened.accuracy(data.held_out_images, data.held_out_labels) > 0.95
    assert hardened.accuracy(seen, data.held_out_labels) > 0.9


def test_onnx_gives_what_scikit_learn_gives(
    data: digits.Digits, plain: digits.Classifier, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(export.to_onnx(plain.layers(), digits.SIDE))
    session = ort.InferenceSession(str(path))
    (got,) = session.run([export.OUTPUT], {export.INPUT: data.held_out_images})
    np.testing.assert_allclose(got, plain.probabilities(data.held_out_images), atol=TOLERANCE)


@pytest.mark.parametrize("batch", [1, 7])
def test_tflite_gives_what_scikit_learn_gives(
    data: digits.Digits, plain: digits.Classifier, tmp_path: Path, batch: int
) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(export.to_tflite(plain.layers(), digits.SIDE))
    interpreter = litert.Interpreter(model_path=str(path))
    images = data.held_out_images[:batch]
    (source,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert (source["name"], result["name"]) == (export.INPUT, export.OUTPUT)
    interpreter.resize_tensor_input(source["index"], images.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(source["index"], images)
    interpreter.invoke()
    got = interpreter.get_tensor(result["index"])
    np.testing.assert_allclose(got, plain.probabilities(images), atol=TOLERANCE)


def test_a_bundle_is_whole(data: digits.Digits, plain: digits.Classifier, tmp_path: Path) -> None:
    packed = bundles.release(tmp_path / "b", "1", plain, data, probation_seconds=2)
    parsed = manifest.decode((packed.directory / "manifest.json").read_bytes())
    assert {build.runtime for build in parsed.builds} == {"onnx", "tflite"}
    for entry in parsed.files:
        assert chunks.sha256_hex((packed.directory / entry.path).read_bytes()) == entry.sha256
        assert set(entry.index or [entry.sha256]) <= set(packed.blobs)
    fitted = baseline.decode((packed.directory / bundles.BASELINE_FILE).read_bytes())
    assert [feature.name for feature in fitted.features] == [
        "image.brightness",
        "image.contrast",
        "image.sharpness",
        "probabilities.class",
        "probabilities.confidence",
    ]
    golden = np.load(packed.directory / bundles.GOLDEN_FILE)
    assert golden["output:probabilities"].shape == (bundles.GOLDEN_CASES, 10)


LOAD = {
    "onnx": "import onnxruntime; onnxruntime.InferenceSession({path!r})",
    "tflite": "from ai_edge_litert.interpreter import Interpreter; "
    "Interpreter(model_path={path!r}).allocate_tensors()",
}


@pytest.mark.parametrize("runtime", ["onnx", "tflite"])
def test_a_trap_ends_its_process_by_a_signal_and_not_by_an_exception(
    runtime: str, tmp_path: Path
) -> None:
    path = tmp_path / f"trap.{runtime}"
    path.write_bytes(
        traps.deep_tree_onnx(digits.SIDE, 10)
        if runtime == "onnx"
        else traps.recursive_tflite(digits.SIDE)
    )
    no_core = "import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); "
    ended = subprocess.run(
        [sys.executable, "-c", no_core + LOAD[runtime].format(path=str(path))],
        capture_output=True,
        check=False,
    )
    assert ended.returncode < 0, ended.stderr.decode()
    assert b"Traceback" not in ended.stderr


def test_a_shallow_tree_is_a_model_like_any_other(tmp_path: Path) -> None:
    session = ort.InferenceSession(traps.deep_tree_onnx(digits.SIDE, 10, depth=8))
    (scores,) = session.run(None, {export.INPUT: np.zeros((2, 8, 8), np.float32)})
    assert scores.shape == (2, 10)
