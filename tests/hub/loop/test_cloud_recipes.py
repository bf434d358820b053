"""The lines and functions of docs/clouds.md, with scripts and a server in place of the clouds'."""

import json
import os
import re
import subprocess
import time
import urllib.error
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from muster_client.app import app
from muster_hub.loop.pipelines.base import Order
from muster_hub.loop.pipelines.webhook import PIPELINE
from muster_hub.settings.loop import LoopTerms
from support import models as fixtures
from support.orchestrators import Server

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "clouds.md").read_text(encoding="utf-8")
KEY = "a-key"
ORDER = {"key": "muster-loop-12", "loop": 12, "model": "pump", "candidate": "https://hub/c"}
STUBS = {
    "az": 'mkdir -p "$9/pump/model" && cp "$MODEL_FILE" "$9/pump/model/model.onnx"',
    "gcloud": 'test "$1" = ai && echo gs://models/pump && exit; '
              'mkdir -p "$5/pump" && cp "$MODEL_FILE" "$5/pump/saved.onnx"',
    "mlflow": 'mkdir -p "$6" && cp "$MODEL_FILE" "$6/model.onnx" && echo flavors: > "$6/MLmodel"',
    "curl": 'cp "$ZIP_FILE" "$5"',
    "muster": 'printf "%s\\n" "$@" > called',
}  # fmt: skip
"""Each leaves what the real tool's documentation says that it leaves; `muster` notes its words."""


def block(heading, language):
    text = PAGE.split(f"### {heading}\n")[1]
    return re.search(rf"```{language}\n(.*?)```", text, re.DOTALL)[1]


@pytest.mark.parametrize(
    "cloud", ["Azure Machine Learning", "Vertex AI", "Databricks", "DataRobot"]
)
def test_what_a_cloud_gives_as_a_file_becomes_a_bundle(cloud, tmp_path, monkeypatch):
    stubs = tmp_path / "stubs"
    stubs.mkdir()
    for name, does in STUBS.items():
        (stubs / name).write_text(f"#!/bin/sh -eu\n{does}\n")
        (stubs / name).chmod(0o755)
    model = tmp_path / "a-model"
    model.write_bytes(fixtures.dense_onnx(*fixtures.weights()))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as files:
        files.write(model, "custom/pump.onnx")
        files.writestr("custom/custom.py", "")
    room = tmp_path / "room"
    room.mkdir()
    variables = {
        "PATH": f"{stubs}:{os.environ['PATH']}", "MODEL_FILE": str(model),
        "ZIP_FILE": str(tmp_path / "a.zip"), "MODEL_ID": "4", "VERSION_ID": "5", "REGION": "r",
        "DATAROBOT_ENDPOINT": "https://app.example/api/v2", "DATAROBOT_API_TOKEN": "t",
    }  # fmt: skip
    subprocess.run(["/bin/sh", "-euc", block(cloud, "sh")], cwd=room, env=os.environ | variables,
                   check=True, timeout=60)  # fmt: skip
    monkeypatch.chdir(room)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    done = CliRunner().invoke(app, [*(room / "called").read_text().splitlines(), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["model"] == "pump"
    assert (room / "pump-bundle" / "manifest.json").is_file()


class Cloud(Server):
    """Takes any request, or answers what it is given."""

    def __init__(self):
        self.asked = []
        self.status = 200

    def answer(self, method, path, headers, body):
        self.asked.append((path, headers, body))
        return self.status, {"name": "a run"}


@pytest.fixture
def cloud():
    made = Cloud()
    with made.served() as url:
        made.url = url
        yield made


def functions(*headings):
    names = {}
    for heading in ("The order", *headings):
        exec(block(heading, "python"), names)  # what the page shows is what is tried
    return names


def test_the_function_takes_the_hubs_order_and_no_other(cloud):
    terms = LoopTerms(model="pump", pipeline="webhook", url=cloud.url, secret_file="key")
    PIPELINE.start(terms, KEY, Order("muster-loop-12", {"loop": 12}, time.time()))
    PIPELINE.start(terms, KEY, Order("muster-loop-12", {"loop": 12}, time.time() - 3600))
    (_, fresh, body), (_, old, _) = cloud.asked
    raw = json.dumps(body, separators=(",", ":")).encode()
    order_of = functions()["order_of"]

    def given(headers):
        return {name: headers[name.lower()] for name in
                ("X-Muster-Delivery", "X-Muster-Timestamp", "X-Muster-Signature")}  # fmt: skip

    order = order_of(given(fresh), raw, KEY.encode())
    assert (order["type"], order["key"], order["loop"]) == ("train", "muster-loop-12", 12)
    for headers, data, key, words in [
        (fresh, raw, b"another", "not signed"), (fresh, raw + b" ", KEY.encode(), "not signed"),
        (old, raw, KEY.encode(), "too long ago"),
        (fresh | {"x-muster-signature": "v1,é"}, raw, KEY.encode(), "not signed"),
    ]:  # fmt: skip
        with pytest.raises(PermissionError, match=words):
            order_of(given(headers), data, key)


def test_azure_is_asked_for_a_batch_job_with_literal_inputs(cloud):
    functions("A batch endpoint of Azure")["start"](f"{cloud.url}/jobs", "t", ORDER)
    ((path, headers, body),) = cloud.asked
    assert (path, headers["authorization"]) == ("/jobs", "Bearer t")
    loop = body["properties"]["InputData"]["loop"]
    assert loop == {"JobInputType": "Literal", "Value": "12"}


def test_vertex_is_asked_for_a_job_of_the_orders_name_and_a_repeat_is_taken_for_done(cloud):
    start = functions("A pipeline job of Vertex")["start"]
    jobs = f"{cloud.url}/v1/projects/p/locations/r/pipelineJobs"
    assert start(jobs, "t", ORDER, "https://t", "gs://r") == {"name": "a run"}
    ((path, _, body),) = cloud.asked
    assert path.endswith("/pipelineJobs?pipelineJobId=muster-loop-12")
    assert body["runtimeConfig"]["parameterValues"]["loop"] == 12
    cloud.status = 409
    assert start(jobs, "t", ORDER, "https://t", "gs://r") == {}
    cloud.status = 403
    with pytest.raises(urllib.error.HTTPError):
        start(jobs, "t", ORDER, "https://t", "gs://r")


def test_databricks_is_asked_for_a_run_under_a_token_that_tells_a_repeat(cloud):
    functions("A job of Databricks")["start"](cloud.url, "t", ORDER, 7)
    ((path, _, body),) = cloud.asked
    assert path == "/api/2.1/jobs/run-now"
    assert (body["job_id"], body["idempotency_token"]) == (7, "muster-loop-12")


def test_datarobot_is_asked_for_a_run_of_a_retraining_policy(cloud):
    functions("A retraining policy of DataRobot")["start"](cloud.url, "t", ORDER, "d1", "p1")
    assert cloud.asked[0][0] == "/deployments/d1/retrainingPolicies/p1/runs/"
