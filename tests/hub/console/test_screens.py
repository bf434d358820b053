"""Each screen's key act, through its form: done as by the API, in the name of who is there."""

import re

import msgspec
import pytest
from sqlmodel import select

from muster_hub.access.scope import Scope
from muster_hub.monitoring import drift_map
from muster_hub.storage import models
from muster_hub.storage.alerting import Silence
from muster_protocol.wire import manifest, selectors
from support.console_kit import add_devices, signed_in
from support.hub_kit import Kit, open_kit
from wire_samples import MANIFEST


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    made = open_kit(tmp_path_factory.mktemp("console"))
    add_devices(made, ["cam-0", "cam-1", "cam-2"])
    with made.hub.store.write() as session:
        session.add(models.Model(name="digits", created=1.0))
        session.flush()
        for number in (1, 2):
            data = manifest.encode(
                msgspec.structs.replace(MANIFEST, model="digits", version=str(number))
            )
            session.add(
                models.Version(
                    model="digits", version=str(number), manifest_sha256=f"{number}" * 64,
                    manifest=data, status="published" if number == 1 else "awaiting_approval",
                    size_bytes=1000 * number, created=float(number), created_by="token:ci",
                    lineage={"source": "git.example", "metrics": {"accuracy": 0.9 + number / 100}},
                    check={"ok": True, "builds": [
                        {"runtime": "onnx", "ok": True, "latency_ms": 1.5 * number}]},
                )
            )  # fmt: skip
        for name in ("cam-0", "cam-1"):
            session.add(
                models.Alert(
                    key=f"drift/{name}", device=name, kind="drift", severity="warning",
                    state="open", opened=1.0, updated=1.0, title=f"{name}: image.brightness",
                    detail={"model": "digits", "cause": "sensor"},
                )
            )  # fmt: skip
    yield made
    made.close()


def text_of(answer) -> str:
    return re.sub(r"<[^>]+>|\s+", " ", answer.text)


def test_alerts_of_a_kind_stand_together_and_are_acknowledged_by_name(kit: Kit) -> None:
    client = signed_in(kit, "operator", "ben")
    shown = text_of(client.get("/inbox"))
    assert re.search(r"warning +drift *, +digits *: sensor +2", shown)
    numbers = re.findall(r'name="alert" value="(\d+)"', client.get("/inbox").text)
    answer = client.post("/inbox/acknowledge", data={"alert": numbers[:1]})
    assert (answer.status_code, answer.headers["location"]) == (303, "../inbox")
    with kit.hub.store.read() as session:
        assert session.get(models.Alert, int(numbers[0])).state == "acknowledged"
        assert session.get(models.Alert, int(numbers[1])).state == "open"
        logged = session.exec(select(models.Audit).order_by(models.Audit.id.desc())).first()
    assert (logged.actor, logged.action) == ("token:ben", "alert.acknowledge")
    assert client.post("/inbox/acknowledge", data={}).status_code == 422


def test_a_silence_is_begun_and_ended(kit: Kit) -> None:
    client = signed_in(kit, "operator", "ben")
    form = {"selector": "site=oslo", "hours": "2", "reason": "the oven is rebuilt"}
    assert client.post("/silences", data=form).status_code == 303
    assert "the oven is rebuilt" in client.get("/inbox").text
    with kit.hub.store.read() as session:
        row = session.exec(select(Silence)).one()
    assert row.until == kit.clock() + 7200
    assert client.post(f"/silences/{row.id}/end").status_code == 303
    assert "the oven is rebuilt" not in client.get("/inbox").text
    assert client.post("/silences", data={"hours": "-1"}).status_code == 422


def test_two_versions_are_compared_line_by_line(kit: Kit) -> None:
    page = signed_in(kit).get("/models/digits?left=1&right=2").text
    differing = re.findall(r'<tr class="differs"><th scope="row">([^<]+)<', page)
    assert {"status", "metric accuracy", "onnx latency ms", "size, bytes"} <= set(differing)
    assert "source" not in differing


def test_a_version_shows_where_it_comes_from_and_leads_to_its_rollout(kit: Kit) -> None:
    client = signed_in(kit)
    assert "git.example" in text_of(client.get("/models/digits/1"))
    assert "rollouts/new?model=digits&amp;version=1" in client.get("/models/digits/1").text
    assert "Approve for signing" in client.get("/models/digits/2").text
    form = client.get("/rollouts/new?model=digits&version=1").text
    assert 'value="digits"' in form


def test_the_audit_log_is_filtered_and_verified(kit: Kit) -> None:
    client = signed_in(kit)
    client.post("/silences", data={"selector": "line=1", "hours": "1"})
    shown = text_of(client.get("/audit?action=silence.begin&actor=ada"))
    assert "silence.begin" in shown
    assert "audit.key" not in shown
    assert "Every row's seal holds" in client.get("/audit/verify").text
    assert signed_in(kit, "operator", "ben").get("/audit").status_code == 403


def test_a_refused_page_leaves_a_row_in_the_audit_log(kit: Kit) -> None:
    signed_in(kit, "viewer", "eve").get("/audit")
    assert "audit.read" in signed_in(kit).get("/audit?action=access.refused&actor=eve").text


def test_trust_says_what_is_signed_until_when_and_by_whom(kit: Kit) -> None:
    shown = text_of(signed_in(kit).get("/trust"))
    for role in ("root", "targets"):
        assert re.search(rf"{role} +\d+ +in \d+ d", shown), role
    assert signed_in(kit).get("/trust/requests/root").status_code == 404
    files = {"files": ("root.json", b"not json")}
    answer = signed_in(kit).post("/trust/signatures", files=files)
    assert answer.status_code == 422
    assert "is not a file of a signing request" in answer.text


def test_a_device_is_approved_and_revoked_only_once_asked(kit: Kit) -> None:
    add_devices(kit, ["new"], approved=False)
    client = signed_in(kit, "operator", "ben")
    assert "devices/new/approve" in client.get("/devices/new").text
    assert client.post("/devices/new/approve").headers["location"] == "../../devices/new"
    asked = text_of(client.get("/devices/new/revoke"))
    assert "for good" in asked
    assert "digits 1 in slot" not in asked, "only what is proved is said to run"
    with kit.hub.store.read() as session:
        assert session.get(models.Device, "new").approved
        assert not session.get(models.Device, "new").revoked
    assert client.post("/devices/new/revoke").status_code == 303
    with kit.hub.store.read() as session:
        assert session.get(models.Device, "new").revoked
    assert client.post("/devices/cam-0/retry").status_code == 409, "its agent knows no retries"
    viewer = signed_in(kit, "viewer", "eve")
    assert "devices/cam-0/revoke" not in viewer.get("/devices/cam-0").text
    assert viewer.post("/devices/cam-0/revoke").status_code == 403


def test_drift_is_a_map_of_sites_then_of_devices(kit: Kit) -> None:
    view = {
        "model": "digits", "version": "1", "drifting": ["brightness"], "findings": {},
        "calibration": {"brightness": "calibrated", "contrast": "calibrating"},
    }  # fmt: skip
    with kit.hub.store.write() as session:
        for name, drifting in (("cam-0", ["brightness"]), ("cam-1", []), ("cam-2", [])):
            session.add(
                models.DriftState(
                    device=name, manifest="a" * 64, state=b"", updated=1.0,
                    view=view | {"drifting": drifting},
                )
            )  # fmt: skip
    client = signed_in(kit)
    shown = text_of(client.get("/drift"))
    assert re.search(r"berlin +1 of 2 +0 of 2 +oslo +0 of 1 +0 of 1", shown)
    shown = text_of(client.get("/drift?model=digits&by=site&site=berlin"))
    assert re.search(r"cam-0 +drifting +calibrating +cam-2 +calibrated +calibrating", shown)
    assert client.get("/drift/digits/cam-0/brightness").status_code == 404, "no windows came"
    assert "cam-0" not in signed_in(kit, "viewer", "eve", selector="site=oslo").get("/drift").text


@pytest.mark.parametrize("newest", ["c", "f"])
def test_the_map_of_drift_has_of_each_model_the_version_seen_last(kit: Kit, newest: str) -> None:
    name = f"swapped-{newest}"
    add_devices(kit, [name])
    with kit.hub.store.write() as session:
        for sign in "cf":
            view = {"model": "digits", "version": sign, "calibration": {"x": "calibrated"}}
            session.add(
                models.DriftState(device=name, manifest=sign * 64, state=b"", view=view,
                                  updated=2.0 if sign == newest else 1.0)
            )  # fmt: skip
    with kit.hub.store.read() as session:
        found = drift_map.read(session, Scope(), selectors.parse(""))
    assert [item.version for item in found if item.device == name] == [newest]


def test_the_api_s_page_shows_every_operation_with_a_command(kit: Kit) -> None:
    page = signed_in(kit).get("/docs").text
    paths = kit.http.get("/api/v1/openapi.json").json()["paths"]
    for path, methods in paths.items():
        for method in methods:
            assert f"<b>{method.upper()}</b> {path}<" in page
    assert page.count("<pre") == sum(len(methods) for methods in paths.values())
