"""Aliases, policies, sources, loops and waiting, as an operator or a pipeline types them."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from muster_client.app import app
from muster_client.failures import Exit, OperatorError, Rejected, WrongUsage
from muster_client.resources.sources import seconds_of
from muster_hub.settings.loop import LoopTerms
from muster_hub.storage.models import Model, Rollout, Version
from muster_hub.storage.registry import LoopRow
from support import models as fixtures
from support.hub_kit import open_kit
from support.model_servers import Mlflow

LOOP = LoopTerms(model="pump", pipeline="webhook", url="http://127.0.0.1:9", secret_file="x",
                 approval=False)  # fmt: skip


@pytest.fixture
def kit(tmp_path):
    made = open_kit(tmp_path, settings={"loops": (LOOP,)})
    (tmp_path / "b").mkdir()
    fixtures.write_bundle(tmp_path / "b")
    made.hub.start()
    with made.hub.store.write() as session:
        session.add(Model(name="pump", created=1))
    yield made
    made.hub.releases.stop()
    made.close()


def muster(kit, *arguments, role="admin"):
    token = kit.as_(role)["Authorization"].removeprefix("Bearer ")
    return CliRunner().invoke(app, ["--hub", str(kit.http.base_url), "--token", token, *arguments])


def shown(kit, *arguments, role="admin"):
    ended = muster(kit, *arguments, role=role)
    assert ended.exit_code == 0, ended.output or ended.exception
    return " ".join(ended.stdout.split())


def answered(kit, *arguments, role="admin"):
    return json.loads(shown(kit, *arguments, "--json", role=role))


def refused(kit, *arguments, role="admin"):
    ended = muster(kit, *arguments, role=role)
    assert isinstance(ended.exception, OperatorError), ended.output
    return ended.exception


def add_version(kit, number, status, **more):
    encoded = (kit.hub.config.data.parent / "b" / "manifest.json").read_bytes()
    with kit.hub.store.write() as session:
        session.add(Version(
            model="pump", version=number, manifest_sha256=number, manifest=encoded, status=status,
            size_bytes=1, created=kit.clock(), created_by="token:ci", **more,
        ))  # fmt: skip


def test_an_alias_is_set_listed_and_removed(kit):
    add_version(kit, "1", "published")
    assert "pump@champion is version 1" in shown(kit, "alias", "set", "pump", "champion", "1",
                                                 "--reason", "first")  # fmt: skip
    assert "champion 1" in shown(kit, "alias", "list", "pump")
    shown(kit, "alias", "remove", "pump", "champion")
    assert "taken away" in shown(kit, "alias", "list", "pump")


def test_a_policy_is_read_from_the_file_that_the_page_shows(kit, tmp_path):
    file = tmp_path / "registry.toml"
    file.write_text('[[gates]]\ngate = "metric"\nmetric = "accuracy"\nmin = 0.9\n')
    assert "pass 1 gates" in shown(kit, "policy", "set", "pump", str(file))
    assert "metric=accuracy min=0.9" in shown(kit, "policy", "show", "pump")
    file.write_text('[gates]\ngate = "metric"\n')
    assert refused(kit, "policy", "set", "pump", str(file)).code == Exit.USAGE
    shown(kit, "policy", "remove", "pump")
    assert "no policy" in str(refused(kit, "policy", "show", "pump"))


def test_a_pipeline_waits_until_a_version_is_signed_and_no_longer_than_it_says(kit):
    add_version(kit, "1", "published")
    assert "is signed" in shown(kit, "release", "wait", "pump", "1")
    add_version(kit, "2", "awaiting_signatures")
    words = str(refused(kit, "release", "wait", "pump", "2", "--seconds", "1"))
    assert "after 1 s: it is awaiting signatures" in words
    add_version(kit, "3", "rejected", check={"ok": False, "reason": "gate size: too large"})
    error = refused(kit, "release", "wait", "pump", "3")
    assert isinstance(error, Rejected)
    assert "gate size: too large" in str(error)
    assert refused(kit, "release", "wait", "pump", "1", "--for", "luck").code == Exit.USAGE


def test_a_pipeline_waits_for_a_rollout_to_end_and_fails_when_it_was_stopped(kit):
    add_version(kit, "1", "published")
    wait = ("release", "wait", "pump", "1", "--for", "rolled-out", "--seconds", "1")
    assert "no rollout of it was started" in str(refused(kit, *wait))
    for state, says in (("stopped", "errors 2.1x"), ("completed", "")):
        with kit.hub.store.write() as session:
            session.add(Rollout(model="pump", version="1", manifest="1", slot="main", selector="",
                                state=state, reason=says, created=1, created_by="x",
                                updated=1))  # fmt: skip
        if says:
            assert says in str(refused(kit, *wait))
        else:
            assert "is rolled out" in shown(kit, *wait)


def test_loops_are_started_shown_and_abandoned(kit):
    assert "There was no loop." in shown(kit, "loop", "list")
    made = answered(kit, "loop", "start", "pump", "--reason", "a new pump", role="operator")
    assert made["state"] == "wanted"
    assert "a new pump" in shown(kit, "loop", "show", "1")
    assert "wanted" in shown(kit, "loop", "list")
    assert answered(kit, "loop", "approve", "1")["approved_by"] == "token:a-admin"
    shown(kit, "loop", "abandon", "1", "--yes", "--reason", "enough")
    assert "enough" in shown(kit, "loop", "show", "1")


def test_a_new_champion_is_pushed_once_as_candidate_and_of_the_loop_that_waits(
    kit, tmp_path, monkeypatch
):
    w, b = fixtures.weights()
    rows = np.random.default_rng(3).normal(size=(20, 4)).tolist()
    example = json.dumps({"columns": ["a", "b", "c", "d"], "data": rows}).encode()
    server = Mlflow(files={
        "MLmodel": b"flavors: {onnx: {data: model.onnx}}\n"
                   b"saved_input_example_info: {artifact_path: input_example.json}\n",
        "model.onnx": fixtures.dense_onnx(w, b), "input_example.json": example,
    }, aliases={"champion": "3"})  # fmt: skip
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with kit.hub.store.write() as session:
        session.add(LoopRow(model="pump", state="training", opened=kit.clock() - 9, since=1,
                            deadline=2e9, cause="drift", opened_by="hub"))  # fmt: skip
    with server.served() as url:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        made = answered(kit, "source", "add", "mlflow:models:/Pump 7", "--alias", "champion",
                        "--every", "5min", "--model", "pump", role="releaser")  # fmt: skip
        assert made["uri"] == "mlflow:models:/Pump 7@champion"
        assert made["every_seconds"] == 300
        look = ("source", "run", "--once")
        assert "pump 3 is a candidate" in shown(kit, *look, role="releaser")
        assert shown(kit, *look, role="releaser") == "", "there is nothing new"
        server.aliases.clear()
        assert "no alias 'champion'" in shown(kit, *look, role="releaser")
        assert "no alias 'champion'" in shown(kit, "source", "list")
    kit.hub.releases.finish()
    assert [a["alias"] for a in answered(kit, "alias", "list", "pump")["aliases"]] == ["candidate"]
    assert answered(kit, "loop", "show", "1")["version"] == "3"
    assert answered(kit, "model", "show", "pump", "3")["status"] == "published"
    shown(kit, "source", "remove", "1")
    assert "There is no source." in shown(kit, "source", "list")


def test_a_source_that_nothing_can_come_from_is_refused_at_once(kit):
    add = ("source", "add", "--model", "pump")
    assert "there is no importer 's3'" in str(refused(kit, *add, "s3:bucket/model"))
    assert refused(kit, *add, "folder:x", "--option", "colour=red").code == Exit.USAGE
    assert refused(kit, *add, "folder:x", "--every", "soon").code == Exit.USAGE
    kept = answered(kit, *add, "folder:x", "--option", "labels=fault", "--option", "drop=a")
    assert kept["options"] == {"labels": "fault", "drop": ["a"]}
    assert "is a source already" in str(refused(kit, *add, "folder:x"))


@pytest.mark.parametrize(
    ("text", "seconds"), [("60s", 60), ("5min", 300), ("1.5h", 5400), ("1d", 86_400)]
)
def test_times_are_written_with_their_unit(text, seconds):
    assert seconds_of(text) == seconds
    with pytest.raises(WrongUsage):
        seconds_of(text[:-1] + "x")
