"""GTO and DVC themselves keep a model: its bundle knows version, stages and commit."""

import os
import subprocess

import pytest

from muster_client.importers import importing
from support import models as fixtures
from support.counterparts import environment

PACKAGES = ("gto==1.10.1", "dvc==3.67.1")

pytestmark = [pytest.mark.doors, pytest.mark.timeout(1800)]


def test_a_version_that_gto_registered_and_dvc_tracks_is_known_by_both(tmp_path):
    programs = environment("gto", *PACKAGES)
    plant = tmp_path / "plant"
    plant.mkdir()
    who = {f"GIT_{role}_{what}": "a@b.example" for role in ("AUTHOR", "COMMITTER")
           for what in ("NAME", "EMAIL")}  # fmt: skip
    variables = os.environ | who | {
        "PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(tmp_path), "DVC_NO_ANALYTICS": "1",
        "ITERATIVE_DO_NOT_TRACK": "1",
    }  # fmt: skip

    def run(*command):
        done = subprocess.run(command, cwd=plant, env=variables, capture_output=True, text=True,
                              timeout=300, check=False)  # fmt: skip
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def committed(seed):
        (plant / "pump.onnx").write_bytes(fixtures.dense_onnx(*fixtures.weights(seed=seed)))
        run("dvc", "add", "pump.onnx")
        run("git", "add", "-A")
        run("git", "commit", "-qm", "a model")
        return run("git", "rev-parse", "HEAD")

    run("git", "init", "-q")
    run("dvc", "init", "-q")
    first = committed(1)
    run("gto", "register", "pump", "--version", "v1.2.3")
    run("gto", "assign", "pump", "--version", "v1.2.3", "--stage", "prod")
    found = importing.find(f"folder:{plant}")
    assert (found.name, found.version, found.origin.commit) == ("pump", "v1.2.3", first)
    assert "DVC md5" in found.origin.source
    assert found.origin.notes == "GTO: pump v1.2.3, stages prod"

    second = committed(2)
    run("gto", "register", "pump", "--version", "v1.3.0")
    run("gto", "assign", "pump", "--version", "v1.3.0", "--stage", "prod")
    run("gto", "assign", "pump", "--version", "v1.3.0", "--stage", "dev")
    run("gto", "deprecate", "pump", "v1.3.0", "dev")
    found = importing.find(f"folder:{plant}")
    assert (found.version, found.origin.commit) == ("v1.3.0", second)
    assert found.origin.notes == "GTO: pump v1.3.0, stages prod"

    run("git", "checkout", "-q", first)
    run("dvc", "checkout", "-q")
    assert importing.find(f"folder:{plant}").origin.notes == "GTO: pump v1.2.3"
