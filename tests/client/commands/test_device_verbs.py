"""`muster device`: labels, names, finding, replacing and deleting, against a real hub."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import select
from typer.testing import CliRunner

from muster_client.app import app
from muster_client.failures import OperatorError, Refused, WrongUsage
from muster_hub.identity import enrolment
from muster_hub.settings.config import Http
from muster_hub.storage.models import Alert, Assignment, Audit, Certificate, Device, Model, Version
from support.hub_kit import API, Kit, new_key, open_kit


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    made = open_kit(tmp_path)
    yield made
    made.close()


def muster(kit: Kit, *arguments: str, role: str = "operator") -> Any:
    token = kit.as_(role)["Authorization"].removeprefix("Bearer ")
    flags = ["--hub", str(kit.http.base_url), "--token", token]
    return CliRunner().invoke(app, [*flags, *arguments])


def shown(kit: Kit, *arguments: str) -> str:
    ended = muster(kit, *arguments)
    assert ended.exit_code == 0, ended.output or ended.exception
    return " ".join(ended.stdout.split())


def refused(kit: Kit, *arguments: str) -> OperatorError:
    ended = muster(kit, *arguments)
    assert isinstance(ended.exception, OperatorError), ended.output
    return ended.exception


def ids(kit: Kit, *arguments: str) -> list[str]:
    return [item["id"] for item in json.loads(muster(kit, *arguments, "--json").stdout)]


def labels(kit: Kit, device: str) -> dict[str, str]:
    with kit.hub.store.read() as session:
        return session.get_one(Device, device).labels


def done(kit: Kit) -> list[str]:
    with kit.hub.store.read() as session:
        return [f"{row.action} {row.subject}" for row in session.exec(select(Audit))]


def fill(kit: Kit) -> None:
    with kit.hub.store.write() as session:
        for name, site in (("cam-1", "Berlin"), ("cam-2", "oslo"), ("press_10%", "oslo")):
            session.add(Device(id=name, labels={"site": site}, created=1))


def test_labels_of_a_device_are_set_and_taken_away_and_the_others_stay(kit):
    fill(kit)
    assert shown(kit, "device", "label", "cam-1", "line=2", "bay=a") == (
        "1 of 1 devices are changed."
    )
    assert labels(kit, "cam-1") == {"site": "Berlin", "line": "2", "bay": "a"}
    assert shown(kit, "device", "label", "cam-1", "line-", "site=rome").startswith("1 of 1")
    assert labels(kit, "cam-1") == {"site": "rome", "bay": "a"}
    assert shown(kit, "device", "label", "cam-1", "line-") == "0 of 1 devices are changed."
    assert done(kit).count("device.relabel cam-1") == 2


@pytest.mark.parametrize("words", [["cam-1"], ["cam-1", "line"], ["cam-1", "=2"], ["cam-1", "-"]])
def test_a_label_that_is_none_says_how_to_write_it_and_nothing_is_sent(kit, words):
    fill(kit)
    wrong = refused(kit, "device", "label", *words)
    assert isinstance(wrong, WrongUsage)
    assert "KEY=VALUE" in str(wrong)


def test_labels_of_many_devices_change_after_a_count_and_a_yes(kit):
    fill(kit)
    assert shown(kit, "device", "label", "-s", "site=oslo", "line=2", "--dry-run") == (
        "2 of 2 devices would be changed."
    )
    assert "2 of 2 devices with 'site=oslo' get line=2" in str(
        refused(kit, "device", "label", "-s", "site=oslo", "line=2")
    )
    assert labels(kit, "cam-2") == {"site": "oslo"}
    shown(kit, "device", "label", "-s", "site=oslo", "line=2", "--yes")
    assert ids(kit, "device", "list", "-s", "line=2") == ["cam-2", "press_10%"]


def test_a_hub_that_asks_to_come_back_in_a_moment_is_asked_again(tmp_path):
    slow = Http(reads_per_second=1e6, writes_per_second=1.0, strangers_per_second=1e6)
    kit = open_kit(tmp_path, settings={"http": slow})
    try:
        with kit.hub.store.write() as session:
            for number in range(6):
                session.add(Device(id=f"cam-{number}", labels={}, created=1))
        assert "6 of 6" in shown(kit, "device", "label", "-s", "", "line=2", "--yes")
        assert len(ids(kit, "device", "list", "-s", "line=2")) == 6
    finally:
        kit.close()


def test_a_name_is_a_label_that_no_two_devices_have(kit):
    fill(kit)
    shown(kit, "device", "rename", "cam-1", "press-4")
    shown(kit, "device", "rename", "cam-1", "press-4")
    assert labels(kit, "cam-1")["name"] == "press-4"
    assert "cam-1 has the name press-4 already" in str(
        refused(kit, "device", "rename", "cam-2", "press-4")
    )
    assert ids(kit, "device", "search", "PRESS-4") == ["cam-1"]


def test_devices_are_found_by_part_of_an_id_or_label_in_any_case_and_as_it_is_written(kit):
    fill(kit)
    assert ids(kit, "device", "search", "CAM") == ["cam-1", "cam-2"]
    assert ids(kit, "device", "search", "berl") == ["cam-1"]
    assert ids(kit, "device", "search", "_10%") == ["press_10%"]
    assert ids(kit, "device", "search", "%") == ["press_10%"]
    assert "No device has 'x9'" in shown(kit, "device", "search", "x9")
    scoped = kit.http.post(
        f"{API}/tokens", headers=kit.as_("admin"),
        json={"name": "oslo", "role": "viewer", "selector": "site=oslo"},
    ).json()["token"]  # fmt: skip
    answer = kit.http.get(
        f"{API}/devices?holding=cam", headers={"Authorization": f"Bearer {scoped}"}
    )
    assert [item["id"] for item in answer.json()["items"]] == ["cam-2"]


def test_another_machine_takes_over_a_name_with_its_labels_and_history(kit):
    assert kit.enrol(kit.enrol_token(labels={"site": "berlin"}), name="cam-1").status_code == 200
    answer = muster(kit, "device", "replace", "cam-1", "--yes", "--json")
    with kit.hub.store.read() as session:
        (old,) = session.exec(select(Certificate)).all()
        assert old.revoked is not None  # at once, not when the new machine comes
        assert not session.get_one(Device, "cam-1").revoked
    token = json.loads(answer.stdout)["token"]
    assert kit.enrol(token, new_key(), name="cam-1").status_code == 200
    assert labels(kit, "cam-1") == {"site": "berlin"}
    assert "device.replace cam-1" in done(kit)
    assert "device.enrol-again cam-1" in done(kit)
    shown(kit, "device", "revoke", "cam-1", "--yes")
    assert "revoked" in str(refused(kit, "device", "replace", "cam-1", "--yes"))


def test_only_a_device_that_is_out_of_service_is_deleted_and_it_stays_shut_out(kit):
    assert kit.enrol(kit.enrol_token(), name="cam-1").status_code == 200
    with kit.hub.store.write() as session:
        session.get_one(Device, "cam-1").last_seen = kit.clock()
        session.add(Alert(key="offline/cam-1", kind="offline", severity="warning", state="open",
                          opened=1, updated=1, title="cam-1 is offline", device="cam-1",
                          ))  # fmt: skip
    assert "revoke it first" in str(refused(kit, "device", "delete", "cam-1", "--yes"))
    shown(kit, "device", "revoke", "cam-1", "--yes")
    shown(kit, "device", "delete", "cam-1", "--yes")
    assert ids(kit, "device", "list") == []
    assert ids(kit, "device", "search", "cam") == []
    gone = refused(kit, "device", "show", "cam-1")
    assert isinstance(gone, Refused)
    assert gone.status == 404
    assert ids(kit, "alert", "list", "--state", "open") == []
    assert "device.delete cam-1" in done(kit)
    with kit.hub.store.read() as session:
        listed = enrolment.revoked_certificates(session, kit.clock())
        assert [device for _, _, device in listed] == ["cam-1"]
    again = kit.enrol(kit.enrol_token(), new_key(), name="cam-1")
    assert again.status_code == 409  # the name of what was shut out stays taken


def test_the_name_of_a_device_that_nobody_ever_heard_of_is_free_once_it_is_deleted(kit):
    first = new_key()
    assert kit.enrol(kit.enrol_token(labels={"line": "1"}), first, name="cam-1").status_code == 200
    shown(kit, "device", "delete", "cam-1", "--yes")
    assert ids(kit, "device", "list") == []
    token = kit.enrol_token(labels={"line": "2"})
    assert kit.enrol(token, new_key(), name="cam-1").status_code == 200
    assert ids(kit, "device", "list", "-s", "line=2") == ["cam-1"]
    with kit.hub.store.read() as session:
        revoked = {row.key_fingerprint: row.revoked for row in session.exec(select(Certificate))}
    assert sorted(value is None for value in revoked.values()) == [False, True]


def test_a_deleted_device_counts_nowhere(kit):
    with kit.hub.store.write() as session:
        session.add(Model(name="digits", created=1))
        session.flush()
        session.add(Version(model="digits", version="1", manifest_sha256="1", manifest=b"{}",
                            status="published", size_bytes=1, created=1,
                            created_by="test"))  # fmt: skip
    fill(kit)
    shown(kit, "device", "delete", "cam-2", "--yes")
    body = {"model": "digits", "version": "1", "slot": "main", "selector": ""}
    plan = kit.http.post(f"{API}/assignments/plan", json=body, headers=kit.as_("operator")).json()
    assert plan == {"before": None, "devices": 2}
    with kit.hub.store.read() as session:
        assert session.exec(select(Assignment)).all() == []
    status = json.loads(muster(kit, "status", "--json").stdout)
    assert (status["devices"], status["standings"]) == (
        2, [{"standing": "offline", "meaning": "isn't connected", "devices": 2}],
    )  # fmt: skip
