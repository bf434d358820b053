"""A real MLflow server: what people log there becomes a bundle, and a new champion a candidate."""

import os
import signal
import subprocess
from pathlib import Path

import httpx
import numpy as np
import pytest

import muster_client
from muster_client.failures import WrongUsage
from muster_client.importers import importing
from support import models as fixtures
from support.counterparts import environment, until
from support.hub_kit import open_kit
from support.ports import free_port

HERE = Path(__file__).parent
PACKAGES = ("mlflow==3.17.0", "onnx", "onnxruntime")
COLUMNS = ("flow", "temp", "p1", "p2")

pytestmark = [pytest.mark.doors, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def programs():
    return environment("mlflow", *PACKAGES)


@pytest.fixture(scope="module")
def server(programs, tmp_path_factory):
    """A server that keeps and serves files itself; its address."""
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    command = [
        programs / "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder}/m.db",
        "--artifacts-destination", folder / "files", "--workers", "1", "--host", "127.0.0.1",
        "--port", str(port),
    ]  # fmt: skip
    quiet = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    with (folder / "log").open("wb") as log:
        running = subprocess.Popen(
            command, env=quiet, stdout=log, stderr=log, start_new_session=True, cwd=folder
        )
        try:
            url = f"http://127.0.0.1:{port}"
            until(lambda: _healthy(url))
            yield url
        finally:
            os.killpg(running.pid, signal.SIGTERM)
            running.wait(60)


def _healthy(url):
    try:
        return httpx.get(f"{url}/health", timeout=60).is_success
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module")
def log_model(programs, server, tmp_path_factory):
    """Logs a model and gives it an alias; its version and run."""
    folder = tmp_path_factory.mktemp("models")
    rows = np.random.default_rng(1).normal(size=(40, 4)).astype(np.float32)
    lines = [",".join(map(str, row)) for row in rows.tolist()]
    (folder / "rows.csv").write_text("\n".join([",".join(COLUMNS), *lines]) + "\n")

    def log(alias="champion", seed=7, accuracy="0.93"):
        w, b = fixtures.weights(seed=seed)
        (folder / "pump.onnx").write_bytes(fixtures.dense_onnx(w, b))
        arguments = [folder / "pump.onnx", folder / "rows.csv", alias, accuracy]
        done = subprocess.run(
            [programs / "python", HERE / "log_model.py", *arguments], capture_output=True,
            text=True, timeout=600, check=False,
            env=os.environ | {"MLFLOW_TRACKING_URI": server, "MLFLOW_DISABLE_TELEMETRY": "true"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout.strip().splitlines()[-1].split()

    return log


@pytest.fixture(autouse=True)
def tracked(server, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_what_was_logged_becomes_a_bundle_with_its_past(log_model, tmp_path):
    version, run, _ = log_model()
    found = muster_client.import_model("mlflow:models:/pump@champion", out=tmp_path / "bundle")
    lineage = found.manifest.lineage
    assert (found.manifest.model, found.manifest.version) == ("pump", version)
    assert run in lineage.source
    assert lineage.metrics["accuracy"] == 0.93
    assert lineage.data.startswith("pump-rows (digest ")
    assert lineage.data.endswith(", training")
    assert "line=2" in lineage.notes
    assert "depth=4" in lineage.notes
    assert lineage.trained_at.startswith("20")
    assert found.rows == 12, "golden vectors are those of the input example"
    by_run = importing.import_model(f"mlflow:runs:/{run}/model", out=tmp_path / "by-run")
    model = {file.path: file.sha256 for file in found.manifest.files}["model.onnx"]
    assert {file.path: file.sha256 for file in by_run.manifest.files}["model.onnx"] == model


def test_what_the_server_does_not_know_is_refused(log_model, server):
    with pytest.raises(WrongUsage, match="no alias 'best' of a model 'pump'"):
        importing.find("mlflow:models:/pump@best")
    with pytest.raises(WrongUsage, match="no version 99 of a model 'pump'"):
        importing.find("mlflow:models:/pump/99")
    with pytest.raises(WrongUsage, match="no run"):
        importing.find("mlflow:runs:/0123456789abcdef/model")


def test_a_new_champion_becomes_a_candidate(log_model, tmp_path):
    log_model(seed=8)
    kit = open_kit(tmp_path)
    kit.hub.start()
    token = kit.as_("releaser")["Authorization"].removeprefix("Bearer ")
    with muster_client.Hub(str(kit.http.base_url), token) as hub:
        hub.sources.add("mlflow:models:/pump@champion", "pump")
        (first,) = hub.sources.run(once=True)
        assert first.news, first.source["fault"]
        (again,) = hub.sources.run(once=True)
        assert not again.news
        newer, *_ = log_model(seed=9, accuracy="0.95")
        (second,) = hub.sources.run(once=True)
        assert (second.news, second.source["version"]) == (True, newer)
        kit.hub.releases.finish()
        assert hub.models.show("pump", newer)["status"] == "published"
        (alias,) = hub.aliases.list("pump")["aliases"]
        assert (alias["alias"], alias["version"]) == ("candidate", newer)
    kit.hub.releases.stop()
    kit.close()
