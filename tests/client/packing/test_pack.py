"""From a model file and a table to a bundle that a device proves, with nothing written by hand."""

import hashlib
import json

import numpy as np
import pytest
from typer.testing import CliRunner

import muster_client
from muster_agent.worker.startup import open_engine
from muster_client.app import app
from muster_client.failures import WrongUsage
from muster_client.packing import sampled
from muster_protocol.signals import baseline
from muster_protocol.wire import sampling
from muster_protocol.wire.errors import MusterError
from muster_protocol.wire.manifest import Fallback, Provider
from muster_protocol.wire.sampling import Blur, SampledFeature
from muster_protocol.wire.tensors import Tensor
from support import models as fixtures

W, B = fixtures.weights()
CLASSES = ("ok", "worn", "dry")
ROWS = np.random.default_rng(3).normal(size=(900, 4)).astype(np.float32)
TRUTH = [CLASSES[place] for place in fixtures.softmax(ROWS, W, B).argmax(axis=1)]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "Pump 7.onnx").write_bytes(fixtures.dense_onnx(W, B))
    (tmp_path / "pump.tflite").write_bytes(fixtures.dense_tflite(W, B))
    lines = (
        f"2026-01-01T{i // 60:02}:{i % 60:02}:00,{','.join(map(str, row))},{label},s{i}"
        for i, (row, label) in enumerate(zip(ROWS.tolist(), TRUTH, strict=True))
    )
    text = "at,flow,temp,p1,p2,state,serial\n" + "\n".join(lines) + "\n"
    (tmp_path / "train.csv").write_text(text)
    return tmp_path


def packed(folder, model="Pump 7.onnx", data="train.csv", **options):
    source = str(folder / data) if isinstance(data, str) else data
    return muster_client.pack(folder / model, source, out=folder / "bundle", **options)


def codes(found):
    return {each.code for each in found.advice}


@pytest.mark.parametrize("model", ["Pump 7.onnx", "pump.tflite"])
def test_a_model_and_a_csv_become_a_bundle_that_a_device_proves_and_serves(folder, model):
    found = packed(folder, model, labels="state", time="at", window_rows=6)
    assert found.manifest.inputs == (Tensor("x", "FP32", (-1, 4)),)
    assert found.manifest.outputs == (Tensor("probabilities", "FP32", (-1, 3)),)
    assert found.manifest.classifier.classes == CLASSES
    assert found.accuracy == 1.0
    with open_engine(found.folder) as engine:
        answer = engine.infer({"x": ROWS[:2]}).outputs["probabilities"]
        np.testing.assert_allclose(answer, fixtures.softmax(ROWS[:2], W, B), rtol=1e-3)
        engine.label("a", "worn")


def test_features_of_a_file_are_signed_with_the_model_and_a_wrong_one_is_named(folder):
    names = ["flow", "temp", "p1", "p2"]
    file = folder / "features.json"
    file.write_text(json.dumps({"features": [{"name": name, "unit": "bar"} for name in names]}))
    found = packed(folder, labels="state", time="at", features=str(file), no_baseline=True)
    assert [feature.name for feature in found.manifest.features] == names
    assert found.manifest.format == 2
    with open_engine(found.folder) as engine:
        assert engine.infer({"x": ROWS[:1]}).outputs["probabilities"].shape == (1, 3)
    file.write_text(json.dumps({"features": [{"name": "flow", "units": "bar"}]}))
    with pytest.raises(WrongUsage, match=r"features.json: .*unknown field `units`"):
        packed(folder, features=str(file))
    file.write_text(json.dumps({"features": [{"name": "flow"}]}))
    with pytest.raises(MusterError, match="1 features are 1 numbers"):
        packed(folder, labels="state", time="at", features=str(file), no_baseline=True)


def test_what_may_be_sampled_is_signed_with_the_model_by_names_of_columns(folder):
    file = folder / "sampling.toml"
    text = (
        'rows_per_day = 5\nrows_max = 9\n[features]\ntemp = "plain"\nx = "hash"\n"x[3]" = "hash"\n'
    )
    file.write_text(text)
    found = packed(folder, labels="state", time="at", sampling=str(file), no_baseline=True)
    allowed = sampling.decode_limits((found.folder / sampling.FILE).read_bytes())
    sampling.check_limits(allowed, found.manifest)
    assert allowed.features == {
        "temp": SampledFeature("x", 1, 1), "x": SampledFeature("x", privacy="hash"),
        "x[3]": SampledFeature("x", 3, 1, "hash"),
    }  # fmt: skip
    file.write_text(text.replace("temp", "heat"))
    with pytest.raises(WrongUsage, match=r"sampling.toml: features.heat: .*there are flow, temp"):
        packed(folder, labels="state", time="at", sampling=str(file), no_baseline=True)


def test_a_grid_that_blurs_is_for_an_image_and_signed_with_its_height_and_width(folder):
    tensors = (Tensor("eye", "UINT8", (-1, 3, 64, 96)), Tensor("x", "FP32", (-1, 4)))
    file = folder / "sampling.toml"
    text = 'rows_per_day = 5\nrows_max = 9\n[features]\neye = "blur"\nx = "hash"\n[blur]\n'
    file.write_text(text + 'eye = "8x12"\n')
    allowed = sampled.read(file, tensors, {})
    assert allowed.features["eye"] == SampledFeature("eye", 0, 0, "blur", Blur(8, 12, 1, 2))
    for grid, says in {
        'x = "2x2"': r"blur\.x: it is no image",
        'ear = "2x2"': r"blur\.ear: it isn't among the features",
        'eye = "8x999"': r"blur\.eye: .*<= 64",
        'eye = "8"': r"blur",
    }.items():
        file.write_text(text + grid)
        with pytest.raises(WrongUsage, match=rf"sampling.toml: .*{says}"):
            sampled.read(file, tensors, {})


def test_the_baseline_watches_columns_by_their_names_in_order_of_time(folder):
    found = packed(folder, labels="state", time="at", window_rows=6)
    file = folder / "bundle" / found.manifest.baseline
    trained = baseline.decode(file.read_bytes())
    assert [feature.name for feature in trained.features] == [
        "flow", "temp", "p1", "p2", "probabilities.class", "probabilities.confidence",
    ]  # fmt: skip
    assert trained.normal.file.windows == 150
    assert [each.text for each in found.advice if each.code == "left_out"] == [
        "Columns of words are left out, as the model takes none: serial."
    ]


def test_a_frame_and_arrays_are_data_too(folder):
    frame = {f"c{place}": column for place, column in enumerate(ROWS.T)} | {"y": TRUTH}
    assert packed(folder, data=frame, labels="y", shuffled=True).accuracy == 1.0
    arrays = packed(folder, data={"x": ROWS}, shuffled=True)
    assert [feature.name for feature in arrays.baseline.features][:2] == ["x[0]", "x[1]"]
    assert packed(folder, data=ROWS, shuffled=True).rows == 900


def test_without_data_inputs_are_made_up_and_the_packer_says_so(folder):
    found = muster_client.pack(folder / "Pump 7.onnx", out=folder / "bundle")
    assert {"generated", "no_baseline"} <= codes(found)
    open_engine(found.folder).close()


def test_the_lineage_names_the_data_by_its_digest(folder):
    digest = hashlib.sha256((folder / "train.csv").read_bytes()).hexdigest()
    found = packed(folder, labels="state", time="at", no_baseline=True)
    assert found.manifest.lineage.data == f"train.csv, 900 rows, SHA-256 {digest}"


def test_a_sample_proves_the_model_and_is_no_training(folder):
    np.savez(folder / "sample.npz", x=ROWS[:3])
    found = muster_client.pack(
        folder / "Pump 7.onnx", out=folder / "bundle", sample=str(folder / "sample.npz")
    )
    assert (found.rows, found.baseline) == (3, None)
    with np.load(found.folder / "golden.npz") as golden:
        np.testing.assert_array_equal(golden["input:x"], ROWS[:3])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"labels": "nothing"}, r"train\.csv: no column 'nothing' \(the labels\); there are at"),
        ({"drop": ["p2"]}, r"takes 4 columns, there are 3 \(flow, temp, p1\)"),
        ({"labels": "state", "classes": ["a", "b"]}, "names 2 classes, the model gives 3 scores"),
        ({"classifier": "nothing"}, "no such output; there are probabilities"),
        ({"shape": {"y": [1, 4]}}, "the model has no such input; it has x"),
        ({"shape": {"x": [1, 9]}}, r"--shape x=1,9: the model has \[batch, 4\]"),
        ({"fallback": ["constant=1,2"]}, "2 numbers, an answer of shape"),
        ({"fallback": ["maybe"]}, "write no-decision, last-good=SECONDS"),
        ({"colour": "red"}, "unknown field `colour`"),
        ({"window_rows": 0}, "window-rows"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_no_bundle(folder, options, says):
    with pytest.raises(MusterError, match=says):
        packed(folder, time="at", **options)
    assert not (folder / "bundle").exists()


def test_the_command_prints_what_it_found_and_a_file_beside_the_model_keeps_the_choices(folder):
    def run(*words):
        ended = CliRunner().invoke(app, ["model", *words])
        if ended.exception is not None and not isinstance(ended.exception, SystemExit):
            raise ended.exception
        return ended.stdout

    model = str(folder / "Pump 7.onnx")
    assert "reads it" in run("init", model)
    with pytest.raises(WrongUsage, match="is there already"):
        run("init", model)
    file = folder / "muster.toml"
    template = file.read_text()
    assert '# name = "pump-7"' in template
    file.write_text(
        template
        + 'data = "train.csv"\nlabels = "state"\ntime = "at"\nfallback = ["constant=0,0,1"]\n'
    )
    said = json.loads(run("pack", model, "-o", str(folder / "b"), "--version", "7", "--json"))
    assert (said["model"], said["version"], said["accuracy"]) == ("pump-7", "7", 1.0)
    assert said["classes"] == list(CLASSES)
    shown = run("pack", model, "-o", str(folder / "b"), "--classes", "c,a,b", "--explain")
    assert "scores of 3 classes: c, a, b" in shown
    assert "No label of the data is a class of the model" in " ".join(shown.split())


def test_an_earlier_bundle_is_replaced_and_a_folder_of_other_files_is_left_alone(folder):
    assert packed(folder, no_baseline=True, labels="state", time="at").baseline is None
    packed(folder, labels="state", time="at")
    (folder / "bundle" / "mine.txt").write_text("keep me")
    with pytest.raises(WrongUsage, match="holds files of no earlier bundle"):
        packed(folder, labels="state", time="at")
    assert (folder / "bundle" / "mine.txt").read_text() == "keep me"


def test_what_computes_it_is_in_the_words_of_the_command(folder):
    chosen = ["OpenVINO:device_type=CPU,precision=FP32", "CPU"]
    found = packed(folder, providers=chosen, threads=2)
    (build,) = found.manifest.builds
    assert build.providers == (
        Provider("OpenVINO", {"device_type": "CPU", "precision": "FP32"}), Provider("CPU"),
    )  # fmt: skip
    assert (build.threads, found.manifest.format) == (2, 2)
    for wrong, says in (("GPU", "Invalid enum value 'GPU'"), ("CPU:x", "write NAME or NAME:")):
        with pytest.raises(WrongUsage, match=says):
            packed(folder, providers=[wrong])
    with pytest.raises(MusterError, match="XNNPACK, which that runtime never has: choose of CPU"):
        packed(folder, providers=["XNNPACK"])


def test_a_fallback_is_in_the_words_of_the_command(folder):
    found = packed(folder, labels="state", time="at", fallback=["last-good=60", "constant=0,1,0"])
    assert found.manifest.fallbacks == (
        Fallback("last-good", "last_good", ttl_seconds=60.0),
        Fallback("constant", "constant", {"probabilities": [0.0, 1.0, 0.0]}),
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("data = 3\n", "data"),
        ("colour = 'red'\n", "unknown field `colour`"),
        ("no toml", "not TOML"),
    ],
)
def test_what_is_wrong_in_muster_toml_is_named(folder, text, says):
    (folder / "muster.toml").write_text(text)
    with pytest.raises(WrongUsage, match=f"{says}"):
        packed(folder)
