"""What GTO's tags and git say of a model's file becomes its name, version and lineage."""

import hashlib
import subprocess

import pytest

from muster_client.importers import importing
from muster_client.importers.git_tags import Registered, registered
from support import models as fixtures

MODEL = fixtures.dense_onnx(*fixtures.weights())


class Repository:
    """A git repository with a model in it."""

    def __init__(self, folder):
        self.folder = folder
        self.git("init", "-q")

    def git(self, *arguments):
        who = ("-c", "user.name=a", "-c", "user.email=a@b.example", "-c", "commit.gpgsign=false")
        done = subprocess.run(
            ["git", "-C", self.folder, *who, *arguments], capture_output=True, text=True,
            timeout=60, check=True,
        )  # fmt: skip
        return done.stdout.strip()

    def committed(self, **files):
        for name, data in files.items():
            (self.folder / name.replace("__", ".")).write_bytes(data)
        self.git("add", "-A")
        self.git("commit", "-qm", "a model")
        return self.git("rev-parse", "HEAD")

    def tag(self, name):
        self.git("tag", "-a", name, "-m", name)


@pytest.fixture
def repository(tmp_path):
    (tmp_path / "plant").mkdir()
    return Repository(tmp_path / "plant")


def test_a_tagged_commit_gives_name_version_stages_and_commit(tmp_path, repository):
    commit = repository.committed(pump__onnx=MODEL)
    for tag in ("pump@v1.2.3", "pump#prod#1", "pump#dev#2", "a-release"):
        repository.tag(tag)
    made = importing.import_model(
        f"folder:{repository.folder}", out=tmp_path / "bundle", cache=tmp_path / "cache"
    )
    assert (made.manifest.model, made.manifest.version) == ("pump", "v1.2.3")
    assert made.manifest.lineage.commit == commit
    assert "GTO: pump v1.2.3, stages dev, prod" in made.manifest.lineage.notes


def test_a_file_that_dvc_tracks_is_of_its_notes_commit(repository):
    note = f"outs:\n- md5: {hashlib.md5(MODEL).hexdigest()}\n  path: pump.onnx\n".encode()
    (repository.folder / "pump.onnx").write_bytes(MODEL)
    commit = repository.committed(pump__onnx__dvc=note, __gitignore=b"/pump.onnx\n")
    repository.tag("pump@v2.0.0")
    found = importing.find(f"folder:{repository.folder}")
    assert (found.origin.commit, found.version) == (commit, "v2.0.0")


def test_a_file_that_was_changed_or_never_committed_is_of_no_commit(repository):
    repository.committed(pump__onnx=MODEL)
    repository.tag("pump@v1.0.0")
    (repository.folder / "pump.onnx").write_bytes(MODEL + b"\0")
    assert importing.find(f"folder:{repository.folder}").origin.commit == ""
    (repository.folder / "new.onnx").write_bytes(MODEL)
    found = importing.find(f"folder:{repository.folder / 'new.onnx'}")
    assert (found.name, found.version, found.origin.commit) == ("new", "", "")


def test_a_folder_outside_of_git_is_read_all_the_same(tmp_path):
    (tmp_path / "pump.onnx").write_bytes(MODEL)
    assert importing.find(f"folder:{tmp_path}").name == "pump"


HERE, ELSEWHERE = "a" * 40, "b" * 40


@pytest.mark.parametrize(
    ("tags", "means"),
    [
        (["pump@v1.0.0"], Registered("pump", "v1.0.0")),
        (["pump@v1.0.0#1"], Registered("pump", "v1.0.0")),
        (["pump@v1.9.0", "pump@v1.10.0"], Registered("pump", "v1.10.0")),
        (["pump@v1.0.0", "pump@v1.0.0!#2"], None),
        (["pump#prod#1"], Registered("pump", "", ("prod",))),
        (["pump#prod"], Registered("pump", "", ("prod",))),
        (["pump@v1.0.0", "pump#prod#1", "pump#prod!#2"], Registered("pump", "v1.0.0")),
        (["pump#prod!#1", "pump#prod#2"], Registered("pump", "", ("prod",))),
        (["models=pump@v1.0.0"], Registered("pump", "v1.0.0")),
        (["fan@v1.0.0"], Registered("fan", "v1.0.0")),
        (["fan@v1.0.0", "pump@v2.0.0"], Registered("pump", "v2.0.0")),
        (["fan@v1.0.0", "motor@v2.0.0"], None),
        (["v1.0.0", "pump@1.0", "pump@vx", "Pump@v1.0.0", "pump#", "@v1.0.0"], None),
    ],
)
def test_tags_mean_what_gto_means_by_them(tags, means):
    assert registered([(tag, HERE) for tag in tags], HERE, "pump") == means


def test_a_stage_that_went_on_to_another_commit_is_not_this_ones_any_more():
    tags = [("pump@v1.0.0", HERE), ("pump#prod#1", HERE), ("pump#prod#2", ELSEWHERE)]
    assert registered(tags, HERE, "pump") == Registered("pump", "v1.0.0")
    assert registered(tags, ELSEWHERE, "pump") == Registered("pump", "", ("prod",))
