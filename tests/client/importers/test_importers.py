"""Models that other tools keep become the bundles that `muster model pack` makes."""

import hashlib
import json

import numpy as np
import pytest
import yaml
from onnx import numpy_helper
from typer.testing import CliRunner

import muster_client
from muster_client.app import app
from muster_client.failures import OperatorError, Unreachable, WrongUsage
from muster_client.importers import download, importing
from muster_client.importers.registry import IMPORTERS, importer_of
from support import models as fixtures
from support.model_servers import TOKEN, HuggingFace, Mlflow
from support.ports import free_port

W, B = fixtures.weights()
MODEL = fixtures.dense_onnx(W, B)
ROWS = np.random.default_rng(3).normal(size=(20, 4)).astype(np.float32)
COLUMNS = ("flow", "temp", "p1", "p2")
RUN = {
    "info": {"run_id": "abc1", "end_time": 1767225600000, "artifact_uri": "mlflow-artifacts:/1/r"},
    "data": {
        "metrics": [{"key": "accuracy", "value": 0.97}, {"key": "auc", "value": float("nan")}],
        "params": [{"key": "depth", "value": "4"}],
        "tags": [
            {"key": "mlflow.source.git.commit", "value": "4f2a91c"},
            {"key": "line", "value": "2"},
        ],
    },
    "inputs": {
        "dataset_inputs": [
            {
                "dataset": {"name": "pump-2026", "digest": "9ac1"},
                "tags": [{"key": "mlflow.data.context", "value": "training"}],
            }
        ]
    },
}


def mlmodel(**flavors):
    signature = [{"type": "double", "name": name, "required": True} for name in COLUMNS]
    return yaml.safe_dump(
        {
            "flavors": flavors or {"onnx": {"data": "model.onnx"}, "python_function": {}},
            "run_id": "abc1",
            "saved_input_example_info": {"artifact_path": "input_example.json"},
            "signature": {"inputs": json.dumps(signature)},
        }
    ).encode()


def example(columns=COLUMNS):
    return json.dumps({"columns": list(columns), "data": ROWS.tolist()}).encode()


@pytest.fixture
def mlflow(monkeypatch):
    server = Mlflow(
        files={"MLmodel": mlmodel(), "model.onnx": MODEL, "input_example.json": example()},
        run=RUN,
    )
    with server.served() as url:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        yield server


@pytest.fixture
def hugging_face(monkeypatch):
    server = HuggingFace(
        files={"onnx/model.onnx": MODEL, "README.md": b"# pump"},
        card={"license": "apache-2.0", "datasets": ["plant/pumps"]},
    )
    with server.served() as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield server


def imported(tmp_path, uri, **options):
    return importing.import_model(uri, out=tmp_path / "bundle", cache=tmp_path / "cache", **options)


def brought(tmp_path, uri):
    """What an importer brings, not packed."""
    importer, place = importer_of(uri)
    room = tmp_path / "room"
    room.mkdir(exist_ok=True)
    return importer.bring(importer.find(place), room)


def refusal(tmp_path, uri, kind=WrongUsage, **options):
    with pytest.raises(kind) as caught:
        imported(tmp_path, uri, **options)
    return str(caught.value)


@pytest.mark.parametrize("place", ["models:/Pump 7@champion", "Pump 7@champion", "Pump 7/3"])
def test_an_alias_and_a_number_of_mlflow_stand_for_a_version(mlflow, place):
    assert importing.find(f"mlflow:{place}").identity == "models:/Pump 7/3"


def test_a_champion_of_mlflow_becomes_a_bundle_with_its_lineage(tmp_path, mlflow):
    found = imported(tmp_path, "mlflow:models:/Pump 7@champion")
    assert (found.manifest.model, found.manifest.version) == ("pump-7", "3")
    lineage = found.manifest.lineage
    assert lineage.source.startswith("mlflow:models:/Pump 7/3 at 127.0.0.1:")
    assert lineage.source.endswith("run abc1")
    assert lineage.commit == "4f2a91c"
    assert lineage.data == "pump-2026 (digest 9ac1), training"
    assert lineage.trained_at == "2026-01-01T00:00:00+00:00"
    assert lineage.metrics == {"accuracy": 0.97}
    assert "line=2" in lineage.notes
    assert "model.team=hydraulics" in lineage.notes
    assert "depth=4" in lineage.notes
    assert [*(tmp_path / "cache").iterdir()] == []


def test_golden_vectors_are_the_input_example_with_its_columns_in_the_signatures_order(
    tmp_path, mlflow
):
    shuffled = [2, 0, 3, 1]
    mlflow.files["input_example.json"] = json.dumps(
        {
            "columns": [COLUMNS[place] for place in shuffled],
            "data": ROWS[:, shuffled].tolist(),
        }
    ).encode()
    found = imported(tmp_path, "mlflow:Pump 7@champion")
    with np.load(found.folder / "golden.npz") as golden:
        given = next(golden[name] for name in golden.files if golden[name].shape[-1] == 4)
    assert {tuple(row) for row in given.reshape(-1, 4)} <= {tuple(row) for row in ROWS}


def test_an_alias_that_mlflow_does_not_know_is_refused_in_its_words(tmp_path, mlflow):
    words = refusal(tmp_path, "mlflow:models:/Pump 7@best")
    assert "no alias 'best' of a model 'Pump 7'" in words
    assert "Registered model alias best not found" in words


@pytest.mark.parametrize(
    ("uri", "store"), [("s3://b/m", "Amazon S3"), ("gs://b/m", "Google"), ("/srv/m", "a path")]
)
def test_files_in_a_store_that_is_not_mlflows_own_are_refused(tmp_path, mlflow, uri, store):
    mlflow.artifact_uri = uri
    words = refusal(tmp_path, "mlflow:Pump 7@champion")
    assert store in words
    assert "--artifacts-destination" in words


def test_a_model_that_is_no_onnx_is_refused_with_what_to_log(tmp_path, mlflow):
    mlflow.files["MLmodel"] = mlmodel(sklearn={}, python_function={})
    assert "mlflow.onnx.log_model" in refusal(tmp_path, "mlflow:Pump 7@champion")


def test_a_version_that_is_not_ready_is_refused(tmp_path, mlflow):
    mlflow.status = "PENDING_REGISTRATION"
    assert "not READY" in refusal(tmp_path, "mlflow:Pump 7@champion", OperatorError)


@pytest.mark.parametrize("name", ["../model.onnx", "a/../../b.onnx", "/etc/passwd", "a\\b"])
def test_a_file_outside_of_the_models_folder_is_refused(tmp_path, mlflow, name):
    mlflow.files["MLmodel"] = mlmodel(onnx={"data": name})
    assert "outside of the model's folder" in refusal(tmp_path, "mlflow:Pump 7@champion")


def test_without_a_server_it_says_which_variable_names_it(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert "MLFLOW_TRACKING_URI" in refusal(tmp_path, "mlflow:x@champion")


def test_a_server_that_is_not_there_is_unreachable(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    refusal(tmp_path, "mlflow:x@champion", Unreachable)


def test_a_model_of_hugging_face_is_the_one_of_its_commit(tmp_path, hugging_face):
    found = importing.find("huggingface:plant/pump")
    lineage = found.origin
    assert found.name == "pump"
    assert found.version == lineage.commit[:12] == "4" * 12
    assert lineage.source == "huggingface:plant/pump/onnx/model.onnx"
    assert lineage.data == "plant/pumps"
    assert "license: apache-2.0" in lineage.notes


def test_a_download_that_broke_off_goes_on_where_it_ended(tmp_path, hugging_face, monkeypatch):
    monkeypatch.setattr(download, "WAIT_SECONDS", 0.01)
    hugging_face.break_off_at = 100
    assert brought(tmp_path, "huggingface:plant/pump").model.read_bytes() == MODEL
    ranges = [headers["range"] for _, headers in hugging_face.asked if "range" in headers]
    assert ranges == ["bytes=100-"]


def test_a_file_that_is_not_the_one_announced_is_thrown_away(tmp_path, hugging_face):
    hugging_face.digests["onnx/model.onnx"] = "0" * 64
    assert "SHA-256" in refusal(tmp_path, "huggingface:plant/pump", OperatorError)
    assert not [*(tmp_path / "cache").rglob("*.onnx*")]


def test_a_file_larger_than_a_bundle_is_refused_before_it_is_fetched(tmp_path):
    server = HuggingFace(files={"model.onnx": MODEL})
    with server.served() as url, download.Web("a hub", url, headers={}) as web:
        wanted = f"/plant/pump/resolve/{server.commit}/model.onnx"
        with pytest.raises(OperatorError, match="larger than the 100 bytes"):
            web.file(wanted, tmp_path / "model.onnx", download.Expected(len(MODEL)), 100)
        assert server.asked == []
        with pytest.raises(OperatorError, match="larger than the 100 bytes"):
            web.file(wanted, tmp_path / "model.onnx", download.Expected(), 100)
    assert [*tmp_path.iterdir()] == []


def test_a_private_repository_asks_for_a_token(tmp_path, hugging_face, monkeypatch):
    hugging_face.private = True
    assert "HF_TOKEN" in refusal(tmp_path, "huggingface:plant/pump", OperatorError)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert brought(tmp_path, "huggingface:plant/pump").model.read_bytes() == MODEL


def test_a_token_does_not_follow_a_redirect_to_another_server(tmp_path, monkeypatch):
    other = HuggingFace(files={"model.onnx": MODEL})
    with other.served() as elsewhere:
        server = HuggingFace(files={"model.onnx": MODEL}, moved_to=elsewhere)
        with server.served() as url:
            monkeypatch.setenv("HF_ENDPOINT", url)
            monkeypatch.setenv("HF_TOKEN", TOKEN)
            assert brought(tmp_path, "huggingface:plant/pump").model.read_bytes() == MODEL
    assert {headers.get("authorization") for _, headers in server.asked} == {f"Bearer {TOKEN}"}
    assert [headers.get("authorization") for _, headers in other.asked] == [None]


def test_a_store_that_does_not_know_sizes_is_read_all_the_same(tmp_path, mlflow):
    mlflow.knows_sizes = False
    assert brought(tmp_path, "mlflow:Pump 7@champion").model.read_bytes() == MODEL


def test_folders_without_an_end_are_refused(tmp_path, mlflow):
    mlflow.files["a/" * 40 + "b"] = b""
    assert "more than 16 folders" in refusal(tmp_path, "mlflow:Pump 7@champion", OperatorError)


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("plant/other", "no revision 'main' of 'plant/other'"),
        ("plant/pump@v9", "no revision 'v9'"),
        ("plant/pump@main/other.onnx", "models in it: onnx/model.onnx"),
        ("pump", "write huggingface:ORGANISATION/NAME"),
    ],
)
def test_what_hugging_face_does_not_have_is_refused(tmp_path, hugging_face, place, words):
    assert words in refusal(tmp_path, f"huggingface:{place}")


@pytest.fixture
def pump(tmp_path):
    folder = tmp_path / "pump"
    (folder / "1").mkdir(parents=True)
    (folder / "10").mkdir()
    (folder / "1" / "model.onnx").write_bytes(MODEL)
    (folder / "10" / "model.onnx").write_bytes(MODEL)
    (folder / "labels.txt").write_text("ok\nworn\ndry\n")
    (folder / "config.pbtxt").write_text(
        'name: "pump"  # ours\nplatform: "onnxruntime_onnx"\nmax_batch_size: 8\n'
        'input [ { name: "x", data_type: TYPE_FP32, dims: [ 4 ] } ]\n'
        'output [ { name: "probabilities" data_type: TYPE_FP32 dims: [ 3 ]\n'
        '  label_filename: "labels.txt" } ]\n'
    )
    return folder


def test_the_highest_version_of_a_triton_repository_is_taken_with_its_labels(tmp_path, pump):
    found = imported(tmp_path, f"triton:{pump}")
    assert (found.manifest.model, found.manifest.version) == ("pump", "10")
    assert found.manifest.classifier.classes == ("ok", "worn", "dry")
    assert "Triton repository, pump/10" in found.manifest.lineage.source


def test_a_named_version_of_a_triton_repository_is_taken(tmp_path, pump):
    assert importing.find(f"triton:{pump}@1").version == "1"
    assert "there are 1, 10" in refusal(tmp_path, f"triton:{pump}@7")


def test_a_triton_model_of_a_backend_that_no_device_has_is_refused(tmp_path, pump):
    (pump / "config.pbtxt").write_text('backend: "python"\n')
    assert "'python'" in refusal(tmp_path, f"triton:{pump}")


def test_test_data_of_a_model_zoo_become_the_sample(tmp_path):
    folder = tmp_path / "pump"
    (folder / "test_data_set_0").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(MODEL)
    tensor = numpy_helper.from_array(ROWS, "x")
    (folder / "test_data_set_0" / "input_0.pb").write_bytes(tensor.SerializeToString())
    with np.load(brought(tmp_path, f"zoo:{folder}").options["sample"]) as sample:
        np.testing.assert_array_equal(sample["x"], ROWS)
    assert importing.find(f"zoo:{folder}").name == "pump"


def test_a_folder_is_checked_by_the_note_that_dvc_keeps_beside_its_model(tmp_path):
    folder = tmp_path / "pump"
    folder.mkdir()
    (folder / "pump.onnx").write_bytes(MODEL)
    digest = hashlib.md5(MODEL).hexdigest()
    (folder / "pump.onnx.dvc").write_text(f"outs:\n- md5: {digest}\n  path: pump.onnx\n")
    assert f"DVC md5 {digest}" in importing.find(f"folder:{folder}").origin.source
    (folder / "pump.onnx.dvc").write_text(f"outs:\n- md5: {'0' * 32}\n")
    assert "dvc checkout" in refusal(tmp_path, f"folder:{folder}", OperatorError)


def test_a_folder_with_several_models_asks_which(tmp_path):
    (tmp_path / "a.onnx").write_bytes(MODEL)
    (tmp_path / "b.onnx").write_bytes(MODEL)
    assert "which of a.onnx, b.onnx" in refusal(tmp_path, f"folder:{tmp_path}")


def test_another_file_than_the_digest_names_is_refused(tmp_path):
    (tmp_path / "a.onnx").write_bytes(MODEL)
    uri = f"folder:{tmp_path / 'a.onnx'}"
    assert "not " + "0" * 64 in refusal(tmp_path, uri, OperatorError, sha256="0" * 64)
    digest = hashlib.sha256(MODEL).hexdigest()
    assert imported(tmp_path, uri, sha256=digest).manifest.model == "a"


@pytest.mark.parametrize("uri", ["s3://bucket/model", "ftp:x", "model.onnx", "mlflow:"])
def test_a_source_of_an_unknown_kind_is_refused_with_the_list(tmp_path, uri):
    words = refusal(tmp_path, uri)
    assert all(f"{scheme}:" in words for scheme in IMPORTERS)


def test_the_command_makes_the_bundle_that_python_makes(tmp_path, mlflow):
    done = CliRunner().invoke(
        app,
        ["model", "import", "mlflow:Pump 7@champion", "-o", str(tmp_path / "b"), "--json",
         "--cache", str(tmp_path / "cache"), "--version", "3.1"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output or done.exception
    assert json.loads(done.stdout)["version"] == "3.1"
    assert callable(muster_client.import_model)
