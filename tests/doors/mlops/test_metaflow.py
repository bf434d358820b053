"""Metaflow's own local runner: the flow that the page shows pushes a model."""

import os
import subprocess
from pathlib import Path

import pytest

from support import integration_pages
from support.counterparts import environment
from support.hub_kit import open_kit

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("metaflow==2.19.39", *integration_pages.CLIENT)

pytestmark = [pytest.mark.doors, pytest.mark.timeout(1800)]


@pytest.fixture
def kit(tmp_path):
    made = open_kit(tmp_path)
    made.hub.start()
    yield made
    made.hub.releases.stop()
    made.close()


def test_a_step_pushes_a_model_and_hands_its_version_on(kit, tmp_path):
    programs = environment("metaflow", *PACKAGES)
    (tmp_path / "train.py").write_text(integration_pages.TRAINING)
    (tmp_path / "seed").write_text("5")
    (tmp_path / "flow.py").write_text(integration_pages.program("Metaflow"))
    variables = os.environ | {
        "MUSTER_HUB": str(kit.http.base_url),
        "MUSTER_TOKEN": kit.as_("releaser")["Authorization"].removeprefix("Bearer "),
        "PYTHONPATH": ":".join(str(ROOT / part) for part in ("protocol", "hub", "tests")),
        "METAFLOW_USER": "ci",
        "METAFLOW_HOME": str(tmp_path / "metaflow"),
        "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(tmp_path),
    }
    flow = ["flow.py", "run", "--model", tmp_path / "pump.onnx", "--data", tmp_path / "train.csv"]
    for words in (["train.py"], flow):
        done = subprocess.run([programs / "python", *words], cwd=tmp_path, env=variables, text=True,
                              capture_output=True, timeout=600, check=False)  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "VERSION 1" in done.stdout
