"""Kubeflow's own runner: the component that the page shows pushes a model."""

import os
import subprocess
from pathlib import Path

import pytest

from support import integration_pages
from support.counterparts import environment
from support.hub_kit import open_kit

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("kfp==2.17.3", *integration_pages.CLIENT)
RUN = """
from kfp import local
local.init(runner=local.SubprocessRunner(use_venv=False))
import sys
print("VERSION", release(model=sys.argv[1], data=sys.argv[2]).output)
"""

pytestmark = [pytest.mark.doors, pytest.mark.timeout(1800)]


@pytest.fixture
def kit(tmp_path):
    made = open_kit(tmp_path)
    made.hub.start()
    yield made
    made.hub.releases.stop()
    made.close()


def test_a_component_pushes_a_model_and_gives_its_version(kit, tmp_path):
    programs = environment("kubeflow", *PACKAGES)
    (tmp_path / "train.py").write_text(integration_pages.TRAINING)
    (tmp_path / "seed").write_text("5")
    variables = os.environ | {
        "MUSTER_HUB": str(kit.http.base_url),
        "MUSTER_TOKEN": kit.as_("releaser")["Authorization"].removeprefix("Bearer "),
        "PYTHONPATH": ":".join(str(ROOT / part) for part in ("protocol", "hub", "tests")),
    }
    # The runner here installs nothing: the package is this tree.
    shown = integration_pages.program("Kubeflow Pipelines")
    here = shown.replace('packages_to_install=["muster-edge[pack]"]', "install_kfp_package=False")
    assert here != shown
    (tmp_path / "pipeline.py").write_text(here + RUN)
    for words in (["train.py"], ["pipeline.py", tmp_path / "pump.onnx", tmp_path / "train.csv"]):
        done = subprocess.run([programs / "python", *words], cwd=tmp_path, env=variables, text=True,
                              capture_output=True, timeout=600, check=False)  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "VERSION 1" in done.stdout
