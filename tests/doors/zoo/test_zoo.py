"""Models that others made: each is packed, checked as the hub does, and served by a real worker.

Answers over HTTP, as JSON and as binary, are those of the runtime used directly on the model's own
file. The models come with packages (``packages.txt``), which are downloaded once into `build/zoo`.
"""

import hashlib
import importlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import muster_client
from muster_agent.worker import oip
from muster_agent.worker.events import Ready
from muster_hub.registry import bundle
from muster_hub.registry.check import WorkerCheck
from support import counterparts
from support.workers import Client, Workers

HERE = Path(__file__).parent
BUILD = HERE.parents[2] / "build" / "zoo"
CONVERTERS = ("lightgbm", "onnxconverter", "onnxmltools", "skl2onnx")
THIRD_PARTY_MIN = 20
ROWS = 3

pytestmark = [pytest.mark.doors, pytest.mark.timeout(1800)]

AUDIO = {"shape": {"input": [1, 512]}}
SPECIMENS = {
    # Classifiers of files, text lines and images; detectors; voice activity with a carried state.
    "magika/models/standard_v3_3/model.onnx": {},
    "nudenet/320n.onnx": {"shape": {"images": [1, 3, 320, 320]}},
    "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx": {"shape": {"x": [1, 3, 64, 64]}},
    "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx": {"shape": {"x": [1, 3, 48, 96]}},
    "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx": {
        "shape": {"x": [1, 3, 48, 192]}
    },
    "ddddocr/common_old.onnx": {"shape": {"input1": [1, 1, 64, 128]}},
    "silero_vad/data/silero_vad.onnx": AUDIO | {"sample": "speech.npz"},
    "silero_vad/data/silero_vad_16k_op15.onnx": AUDIO,
    "silero_vad/data/silero_vad_half.onnx": AUDIO,
    "silero_vad/data/silero_vad_16k_sequence.onnx": {},
    "silero_vad/data/silero_vad_openvino_16k.onnx": {},
    **{
        f"mediapipe/modules/{name}.tflite": {}
        for name in (
            "face_detection/face_detection_full_range_sparse",
            "face_detection/face_detection_short_range",
            "face_landmark/face_landmark",
            "hand_landmark/hand_landmark_lite",
            "holistic_landmark/hand_recrop",
            "iris_landmark/iris_landmark",
            "palm_detection/palm_detection_lite",
            "selfie_segmentation/selfie_segmentation_landscape",
        )
    },
    "onnxruntime/datasets/logreg_iris.onnx": {},
    "onnxruntime/datasets/mul_1.onnx": {},
    "onnxruntime/datasets/sigmoid.onnx": {},
    **{
        f"exports/{name}.onnx": {}
        for name in (
            "forest", "logistic", "regression", "strings", "boosted_trees", "detector", "outside",
        )
    },
}  # fmt: skip
"""Model to the options it needs: sizes that its file leaves open."""
SAMPLE_RATE = 16_000
"""What models of speech take as the input ``sr``."""
OUR_OWN = {"exports/detector.onnx", "exports/outside.onnx"}
"""Made by ``exports.py``; all others by other people, or by their converters."""


@pytest.fixture(scope="session")
def zoo():
    """A folder with every model, made once for what ``packages.txt`` says."""
    wanted = (HERE / "packages.txt").read_bytes() + (HERE / "exports.py").read_bytes()
    folder = BUILD / hashlib.sha256(wanted).hexdigest()[:12]
    if not (folder / "ready").exists():
        _download(folder)
        (folder / "ready").touch()
    return folder


def _download(folder: Path) -> None:
    wheels, site = folder / "wheels", folder / "site"
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    listed = ["--no-deps", "--only-binary=:all:", "-r", HERE / "packages.txt"]
    counterparts.install([*pip, "download", *listed, "-d", wheels])
    for wheel in sorted(wheels.glob("*.whl")):
        if wheel.name.startswith(CONVERTERS):
            counterparts.install(
                [*pip, "install", "--no-deps", "--target", site, "--upgrade", wheel]
            )
            continue
        with zipfile.ZipFile(wheel) as packed:
            for name in packed.namelist():
                if name in SPECIMENS:
                    packed.extract(name, folder)
    own = Path(onnxruntime.__file__).parents[1]
    for name in SPECIMENS:
        if name.startswith("onnxruntime/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((own / name).read_bytes())
    (folder / "exports").mkdir(exist_ok=True)
    subprocess.run(
        [sys.executable, HERE / "exports.py", folder / "exports"],
        env=os.environ | {"PYTHONPATH": str(site)}, check=True, timeout=300,
    )  # fmt: skip


def directly(model: Path, inputs):
    """What the runtime answers to the model's own file, without anything of ours."""
    if model.suffix == ".onnx":
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(model), options)
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(None, inputs), strict=True))
    interpreter = importlib.import_module("ai_edge_litert.interpreter").Interpreter(
        model_path=str(model), num_threads=1
    )
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], inputs[detail["name"]])
    interpreter.invoke()
    return {
        detail["name"]: interpreter.get_tensor(detail["index"])
        for detail in interpreter.get_output_details()
    }


def requests(manifest, seed=7):
    """Inputs that the packer never saw, one row each or as many as the model fixes."""
    random = np.random.default_rng(seed)
    for _ in range(ROWS):
        made = {}
        for tensor in manifest.inputs:
            shape = tuple(1 if size == -1 else size for size in tensor.shape)
            if tensor.name == "sr":
                made["sr"] = np.array(SAMPLE_RATE)
                continue
            match tensor.datatype:
                case "BYTES":
                    words = np.array([b"calm", b"gust", b"storm"], object)
                    made[tensor.name] = random.choice(words, shape)
                case "INT64" | "INT32":
                    kind = tensor.datatype.lower()
                    made[tensor.name] = random.integers(0, 9, shape).astype(kind)
                case _:
                    kind = {"FP16": np.float16, "FP64": np.float64}.get(tensor.datatype, np.float32)
                    made[tensor.name] = np.asarray(random.random(shape)).astype(kind)
        yield made


def as_text(array):
    """Texts as the runtime takes them."""
    return np.vectorize(bytes.decode, otypes=[object])(array) if array.dtype.kind == "O" else array


def ask(client, manifest, inputs, *, binary):
    types = {tensor.name: tensor.datatype for tensor in manifest.inputs}
    body, header = oip.encode_request(inputs, binary=binary, binary_outputs=binary, datatypes=types)
    headers = {} if header is None else {"Inference-Header-Content-Length": str(header)}
    client.send("POST", f"/v2/models/{manifest.model}/infer", body, **headers)
    status, head, answer = client.receive()
    assert status == 200, answer[:500]
    length = head.get("inference-header-content-length")
    return oip.decode_response(answer, None if length is None else int(length))


def assert_same(got, want, manifest):
    """Every declared output that the file itself has is as the runtime alone gives it."""
    compared = 0
    for tensor in manifest.outputs:
        if tensor.name not in want or isinstance(want[tensor.name], list):
            continue  # a ZipMap's scores, which the file's own output hides
        expected = np.asarray(want[tensor.name])
        compared += 1
        if expected.dtype.kind in "OU":
            assert [item.decode() for item in got[tensor.name].ravel()] == expected.ravel().tolist()
            continue
        np.testing.assert_allclose(
            got[tensor.name].reshape(expected.shape), expected, rtol=1e-3, atol=1e-4
        )
    assert compared


@pytest.mark.parametrize("name", SPECIMENS)
def test_a_model_of_others_is_packed_checked_and_served_as_its_runtime_answers(zoo, tmp_path, name):
    model = zoo / name
    speech = np.random.default_rng(3).random((4, 512)).astype(np.float32)
    np.savez(tmp_path / "speech.npz", input=speech, sr=np.full(4, SAMPLE_RATE))
    options = dict(SPECIMENS[name])
    if "sample" in options:
        options["sample"] = str(tmp_path / options["sample"])
    packed = muster_client.pack(model, out=tmp_path / "bundle", name="specimen", **options)
    manifest = packed.manifest
    bundle.check_usable(manifest, packed.folder)
    checked = WorkerCheck(300.0)(packed.folder, manifest)
    assert checked.ok, checked.reason
    sha256 = hashlib.sha256((packed.folder / "manifest.json").read_bytes()).hexdigest()
    with Workers(tmp_path) as workers:
        runtime = manifest.builds[0].runtime
        worker = workers.start(packed.folder, manifest, sha256, runtime)
        workers.wait(worker, Ready)
        worker.accept()
        client = Client(workers.sockets.path)
        for inputs in requests(manifest):
            want = directly(model, {key: as_text(array) for key, array in inputs.items()})
            for binary in (False, True):
                assert_same(ask(client, manifest, inputs, binary=binary), want, manifest)


def test_the_zoo_holds_as_many_models_of_others_as_it_promises():
    assert len(set(SPECIMENS) - OUR_OWN) >= THIRD_PARTY_MIN
