"""`muster` against a real hub over HTTP: what an operator types, and what comes back."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from muster_client.app import app
from muster_client.failures import Exit, OperatorError
from muster_hub.storage.models import Alert, Device, EventRow, Version
from support import models as fixtures
from support.hub_kit import Kit, open_kit

REPORT = {
    "generation": 3,
    "facts": {"agent_version": "0.1.0", "machine": "aarch64", "runtimes": {"onnx": "1.32.0"}},
    "slots": {
        "vision": {
            "health": "check_function",
            "running": {"model": "digits", "version": "1", "runtime": "onnx"},
            "update": {
                "state": "failed", "version": "2", "refusal": "golden_mismatch",
                "detail": "case 3",
            },
        }
    },
}  # fmt: skip


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    made = open_kit(tmp_path)
    made.hub.start()
    yield made
    made.hub.releases.stop()
    made.close()


def muster(kit: Kit, *arguments: str, role: str = "admin") -> Result:
    token = kit.as_(role)["Authorization"].removeprefix("Bearer ")
    url = str(kit.http.base_url)
    return CliRunner().invoke(app, ["--hub", url, "--token", token, *arguments])


def muster_json(kit: Kit, *arguments: str) -> Any:
    ended = muster(kit, *arguments, "--json")
    assert ended.exit_code == 0, ended.output or ended.exception
    return json.loads(ended.stdout)


def shown(kit: Kit, *arguments: str) -> str:
    ended = muster(kit, *arguments)
    assert ended.exit_code == 0, ended.output or ended.exception
    return " ".join(ended.stdout.split())


def refused(kit: Kit, *arguments: str, role: str = "admin") -> OperatorError:
    ended = muster(kit, *arguments, role=role)
    assert isinstance(ended.exception, OperatorError), ended.output
    assert "\n" not in str(ended.exception)
    return ended.exception


def add_device(kit: Kit, name: str, **fields: Any) -> None:
    with kit.hub.store.write() as session:
        session.add(Device(id=name, created=kit.clock(), **fields))


def bundle(directory: Path, **fields: Any) -> Path:
    directory.mkdir()
    fixtures.write_bundle(directory, **fields)
    return directory


def test_devices_are_listed_with_what_they_report_to_run(kit: Kit) -> None:
    assert shown(kit, "device", "list") == "No device has enrolled yet."
    add_device(kit, "cam-1", labels={"site": "berlin"}, report=REPORT)
    add_device(kit, "cam-2", labels={"site": "rome"})
    text = shown(kit, "device", "list")
    assert "cam-1 offline site=berlin digits 1 check function failed" in text
    assert "cam-2" in text
    assert [item["id"] for item in muster_json(kit, "device", "list", "-s", "site=rome")] == [
        "cam-2"
    ]


def test_every_page_of_a_long_list_is_fetched(kit: Kit) -> None:
    names = [f"cam-{number:04d}" for number in range(450)]
    with kit.hub.store.write() as session:
        session.add_all([Device(id=name, created=kit.clock()) for name in names])
    assert [item["id"] for item in muster_json(kit, "device", "list")] == names
    assert len(muster_json(kit, "device", "list", "--limit", "3")) == 3


def test_a_device_is_shown_with_its_slots_and_why_it_refused(kit: Kit) -> None:
    add_device(kit, "cam-1", report=REPORT)
    text = shown(kit, "device", "show", "cam-1")
    assert "golden_mismatch: case 3" in text
    assert "aarch64" in text
    assert muster_json(kit, "device", "show", "cam-1")["counts"]["inferences"] == 0


def test_an_unknown_device_is_one_line_that_names_it(kit: Kit) -> None:
    assert "cam-9" in str(refused(kit, "device", "show", "cam-9"))


def test_a_selector_that_cannot_be_read_says_where(kit: Kit) -> None:
    assert refused(kit, "device", "list", "-s", "site=").code == Exit.REFUSED


def test_an_enrolment_token_lets_a_device_in(kit: Kit) -> None:
    answer = muster_json(kit, "device", "enroll-token", "-l", "site=berlin", "--device", "cam-1")
    assert kit.enrol(answer["token"]).status_code == 200
    assert muster_json(kit, "device", "list")[0]["labels"] == {"site": "berlin"}
    assert "muster-agent enroll" in shown(kit, "device", "enroll-token")


def test_a_label_without_a_value_is_refused_before_anything_is_sent(kit: Kit) -> None:
    assert refused(kit, "device", "enroll-token", "-l", "site").code == Exit.USAGE


def test_a_wrong_token_says_what_to_do(kit: Kit) -> None:
    url = str(kit.http.base_url)
    ended = CliRunner().invoke(app, ["--hub", url, "--token", "wrong", "device", "list"])
    assert "--token" in str(ended.exception)


def test_a_viewer_may_look_and_not_act(kit: Kit) -> None:
    assert "role" in str(refused(kit, "device", "enroll-token", role="viewer"))
    assert muster(kit, "device", "list", role="viewer").exit_code == 0


def test_a_version_is_pushed_checked_and_shown(kit: Kit, tmp_path: Path) -> None:
    answer = muster_json(kit, "model", "push", str(bundle(tmp_path / "b")))
    assert answer["status"] in {"signed", "published"}
    assert all(build["ok"] for build in answer["check"]["builds"])
    text = shown(kit, "model", "show", "dense", "1")
    assert "onnx ok 5" in text
    assert "tflite ok 5" in text
    assert "dense 1 1" in shown(kit, "model", "list")
    assert [item["version"] for item in muster_json(kit, "model", "list", "dense")["versions"]] == [
        "1"
    ]


def test_a_version_whose_golden_vectors_fail_is_told_with_the_reason(
    kit: Kit, tmp_path: Path
) -> None:
    golden = {
        "input:x": np.ones((2, 4), "float32"),
        "output:probabilities": np.ones((2, 3), "float32"),
    }
    error = refused(kit, "model", "push", str(bundle(tmp_path / "b", golden=golden)))
    assert "golden" in str(error)
    assert muster_json(kit, "model", "show", "dense", "1")["status"] == "rejected"


def test_waiting_for_the_check_has_an_end(kit: Kit, tmp_path: Path) -> None:
    kit.hub.releases.stop()
    folder = str(bundle(tmp_path / "b"))
    assert "look later" in str(refused(kit, "model", "push", folder, "--wait-seconds", "1"))


def test_a_bundle_whose_file_has_changed_is_not_sent(kit: Kit, tmp_path: Path) -> None:
    folder = bundle(tmp_path / "b")
    (folder / "model.onnx").write_bytes(b"short")
    assert "pack the bundle again" in str(refused(kit, "model", "push", str(folder)))
    assert muster_json(kit, "model", "list") == []


def published(kit: Kit, tmp_path: Path) -> None:
    muster_json(kit, "model", "push", str(bundle(tmp_path / "b")))
    with kit.hub.store.write() as session:
        row = session.get(Version, ("dense", "1"))
        assert row is not None
        row.status = "published"
        session.add(row)


def test_a_rollout_is_started_paused_resumed_and_aborted(kit: Kit, tmp_path: Path) -> None:
    published(kit, tmp_path)
    add_device(kit, "cam-1")
    view = muster_json(kit, "rollout", "start", "dense", "1", "--slot", "vision", "--canary", "1")
    number = str(view["id"])
    assert view["state"] == "running"
    assert muster_json(kit, "rollout", "pause", number)["state"] == "paused"
    assert muster_json(kit, "rollout", "resume", number)["state"] == "running"
    assert "aborted" in shown(kit, "rollout", "abort", number, "--yes")
    assert "dense 1 vision all aborted" in shown(kit, "rollout", "list")
    error = refused(kit, "rollout", "status", number, "--watch")
    assert f"rollout {number} aborted" in str(error)


def test_a_rollout_of_what_was_never_published_is_refused(kit: Kit) -> None:
    assert "dense" in str(refused(kit, "rollout", "start", "dense", "1"))


def add_alert(kit: Kit, key: str) -> None:
    with kit.hub.store.write() as session:
        if session.get(Device, "cam-3") is None:
            session.add(Device(id="cam-3", created=0))
            session.flush()
        session.add(
            Alert(
                key=key, device="cam-3", kind="drift", severity="warning", state="open",
                opened=time.time(), updated=time.time(), title="image.brightness has moved",
            )
        )  # fmt: skip


def test_alerts_are_listed_acknowledged_and_resolved(kit: Kit) -> None:
    assert shown(kit, "alert", "list") == "No alert."
    add_alert(kit, "drift/cam-3")
    assert "open warning cam-3 image.brightness has moved" in shown(kit, "alert", "list")
    number = str(muster_json(kit, "alert", "list", "--state", "open")[0]["id"])
    assert shown(kit, "alert", "ack", number) == f"alert {number}: acknowledged"
    assert muster_json(kit, "alert", "resolve", number)["state"] == "resolved"
    assert muster_json(kit, "alert", "list", "--state", "open") == []


def test_drift_wants_a_device_or_a_selector(kit: Kit) -> None:
    assert refused(kit, "drift", "show").code == Exit.USAGE
    add_device(kit, "cam-1")
    assert shown(kit, "drift", "show", "cam-1") == "No window has been received yet."
    assert muster_json(kit, "drift", "show", "-s", "site=x") == []


@contextmanager
def something_happening(kit: Kit) -> Iterator[None]:
    """Events, one after the other, until the block ends."""
    ended = threading.Event()

    def happen() -> None:
        while not ended.wait(0.05):
            with kit.hub.store.write() as session:
                session.add(EventRow(received=time.time(), kind="refused", refusal="chunk_altered"))

    thread = threading.Thread(target=happen)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_tail_prints_events_as_they_come(kit: Kit) -> None:
    with something_happening(kit):
        lines = muster(kit, "tail", "-n", "3", "--json").stdout.splitlines()
        text = shown(kit, "tail", "-n", "1", "--kind", "refused")
    assert [json.loads(line)["refusal"] for line in lines] == ["chunk_altered"] * 3
    assert "hub refused chunk altered" in text
