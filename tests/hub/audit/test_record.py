"""The auditor's export: what ran when, from which data, on whose approval, until when."""

import base64
import json
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from typer.testing import CliRunner

from muster_client.app import app
from muster_client.resources.record_page import page
from muster_hub.admin.main import app as hub_app
from muster_hub.audit import log
from muster_hub.errors import CatalogueError, Invalid
from muster_hub.signing import records, roles
from muster_hub.storage.models import (
    Alert,
    Device,
    EventRow,
    Model,
    Rollout,
    RolloutDevice,
    RolloutStep,
    Rollup,
    Version,
)
from muster_hub.storage.registry import LoopRow
from muster_hub.storage.sampling import SampleRow, SamplingPolicyRow
from muster_protocol.wire import manifest
from support import models as fixtures
from support.hub_kit import API, is_problem, open_kit

DAY = 86_400.0
START = 1_767_225_600.0  # 2026-01-01
PERIOD = {"since": START, "until": START + 30 * DAY}


@pytest.fixture
def kit(tmp_path):
    made = open_kit(tmp_path)
    fill(made, tmp_path)
    yield made
    made.close()


def fill(kit, folder):
    """A device that ran version 1, then 2 by a rollout; 2 is approved by ann and signed."""
    (folder / "b").mkdir()
    fixtures.write_bundle(folder / "b")
    parsed = manifest.decode((folder / "b" / "manifest.json").read_bytes())
    lineage = manifest.Lineage(data="pump-2026 (digest 9ac1)", commit="4f2a", metrics={"a": 0.9})
    encoded = manifest.encode(manifest.Manifest(**{
        name: getattr(parsed, name) for name in parsed.__struct_fields__
    } | {"lineage": lineage}))  # fmt: skip
    with kit.hub.store.write() as session:
        session.add(Model(name="pump", created=1))
        session.add(Device(id="cam-1", labels={"site": "berlin"}, created=1))
        session.add(Device(id="cam-2", created=1))
        session.flush()
        for number in ("1", "2"):
            session.add(Version(model="pump", version=number, manifest_sha256=number * 64,
                                manifest=encoded, status="published", size_bytes=1, created=START,
                                created_by="token:ci"))  # fmt: skip
        session.flush()
        for at, number, state in ((-5, "1", "committed"), (10, "2", "fetching"),
                                  (11, "2", "committed"), (40, "1", "committed")):  # fmt: skip
            session.add(EventRow(device="cam-1", kind="update", received=START + at * DAY,
                                 slot="main", model="pump", version=number, manifest=number * 64,
                                 data={"state": state}))  # fmt: skip
        session.add(Rollout(model="pump", version="2", manifest="2" * 64, slot="main", selector="",
                            state="completed", created=START + 9 * DAY, created_by="person:bob",
                            updated=1))  # fmt: skip
        session.flush()
        session.add(RolloutDevice(rollout=1, device="cam-1", wave=0, state="committed",
                                  targeted_at=START + 10 * DAY,
                                  changed_at=START + 11 * DAY))  # fmt: skip
        session.add(RolloutStep(rollout=1, at=START + 9 * DAY, state="running", wave=0, why="x",
                                reason="the first wave begins"))  # fmt: skip
        session.add(Alert(key="k", kind="drift", severity="warning", state="resolved",
                          opened=START + 12 * DAY, updated=START + 13 * DAY, device="cam-1",
                          title="flow <b>drifts</b>"))  # fmt: skip
        session.add(Rollup(level="day", device="cam-1", manifest="2" * 64, start=START + 12 * DAY,
                           model="pump", version="2", n=4000, errors=1, payload=b""))  # fmt: skip
        for who, did, to in (("person:ann", "version.approve", "pump/2"),
                             ("person:bob", "rollout.start", "rollout/1"),
                             ("person:eve", "device.rebaseline", "cam-1"),
                             ("person:eve", "alert.acknowledge", "alert/1"),
                             ("person:eve", "device.rebaseline", "cam-2")):  # fmt: skip
            log.append(session, actor=who, action=did, subject=to, now=START + 9 * DAY)


def retrain(kit):
    """A loop of the model that the device's alert opened, and rows that it was asked for."""
    with kit.hub.store.write() as session:
        steps = [{"at": START + 12 * DAY, "state": "wanted", "reason": "drift", "by": "hub"}]
        session.add(LoopRow(
            model="pump", state="closed", opened=START + 12 * DAY, since=1, deadline=1,
            ended=START + 14 * DAY, cause="it drifts on 1 device(s)", opened_by="hub",
            approved_by="person:ann", run="muster-loop-1", version="2", history=steps,
            detail={"alerts": [{"id": 1, "device": "cam-1", "title": "x"}]},
        ))  # fmt: skip
        session.add(LoopRow(model="fan", state="closed", opened=START, since=1, deadline=1,
                            ended=START + DAY, cause="not its own", opened_by="hub"))  # fmt: skip
        for selector in ("site=berlin", "site=oslo"):
            session.add(SamplingPolicyRow(
                model="pump", version="1", manifest="1" * 64, selector=selector, bytes_max=1,
                created=START + 12 * DAY, created_by="person:bob", expires=START + 20 * DAY,
                asked={"features": {"flow": "plain"}}, reason="a new pump",
            ))  # fmt: skip
        session.flush()
        session.add(SampleRow(device="cam-1", epoch="e", sequence=1, policy=1, received=1.0))
        for who, did, to in (("person:ann", "loop.approve", "loop/1"),
                             ("person:bob", "sampling.begin", "sampling/1"),
                             ("person:bob", "sampling.begin", "sampling/2")):  # fmt: skip
            log.append(session, actor=who, action=did, subject=to, now=START + 12 * DAY)


def test_retraining_and_sampling_are_told_with_who_approved_them_and_what_was_sent(kit):
    retrain(kit)
    lines = lines_of(kit)
    (loop,) = of(lines, "loop")
    assert (loop["approved_by"], loop["candidate"], loop["state"]) == ("person:ann", "2", "closed")
    assert loop["alerts"] == [of(lines, "alert")[0]["alert"]]
    assert loop["steps"][0]["reason"] == "drift"
    (asked_for,) = of(lines, "sampling")
    assert (asked_for["begun_by"], asked_for["rows_of_device"]) == ("person:bob", 1)
    acts = {(act["who"], act["did"], act["to"]) for act in of(lines, "act")}
    assert ("person:ann", "loop.approve", "loop/1") in acts
    assert ("person:bob", "sampling.begin", "sampling/1") in acts
    assert ("person:bob", "sampling.begin", "sampling/2") not in acts, "it asked another site"
    text = page(lines)
    assert "it drifts on 1 device(s)" in text
    assert "a new pump" in text


def asked(kit, device="cam-1", role="admin", **period):
    path = f"{API}/devices/{device}/record"
    return kit.http.get(path, params=PERIOD | period, headers=kit.as_(role))


def lines_of(kit, **period):
    answer = asked(kit, **period)
    assert answer.status_code == 200, answer.text
    return records.verified(answer.content, director_keys(kit))


def director_keys(kit):
    return roles.director_keys(targets(kit).read_bytes())


def targets(kit) -> Path:
    return max(kit.hub.config.tuf.glob("*.targets.json"), key=lambda path: path.stat().st_mtime)


def of(lines, kind):
    return [line for line in lines if line["kind"] == kind]


def test_who_what_when_on_which_data_approved_by_whom_ran_where_until_when(kit):
    lines = lines_of(kit)
    (about,) = of(lines, "about")
    assert about["device"] == "cam-1"
    assert about["labels"] == {"site": "berlin"}
    assert [(r["version"], r["from"], r["until"]) for r in of(lines, "ran")] == [
        ("1", START - 5 * DAY, START + 11 * DAY), ("2", START + 11 * DAY, None),
    ]  # fmt: skip
    assert {v["version"]: v["data"] for v in of(lines, "version")} == {
        "1": "pump-2026 (digest 9ac1)", "2": "pump-2026 (digest 9ac1)",
    }  # fmt: skip
    acts = {(a["who"], a["did"], a["to"]) for a in of(lines, "act")}
    assert acts == {
        ("person:ann", "version.approve", "pump/2"),
        ("person:bob", "rollout.start", "rollout/1"),
        ("person:eve", "device.rebaseline", "cam-1"),
        ("person:eve", "alert.acknowledge", "alert/1"),
    }
    (rollout,) = of(lines, "rollout")
    assert rollout["started_by"] == "person:bob"
    assert rollout["steps"][0]["why"] == "the first wave begins"
    assert of(lines, "alert")[0]["opened"] == START + 12 * DAY
    assert of(lines, "used")[0]["inferences"] == 4000


def test_what_ran_ends_with_the_next_that_ran(kit):
    (first, second, third) = of(lines_of(kit, until=START + 60 * DAY), "ran")
    assert (second["until"], third["from"], third["until"]) == (
        START + 40 * DAY, START + 40 * DAY, None,
    )  # fmt: skip
    assert first["version"] == "1"


def test_a_time_in_which_nothing_happened_says_what_ran_all_along(kit):
    lines = lines_of(kit, since=START + 20 * DAY, until=START + 21 * DAY)
    assert [r["version"] for r in of(lines, "ran")] == ["2"]
    assert of(lines, "event") == of(lines, "used") == of(lines, "rollout") == []


def test_an_export_is_an_admins_and_leaves_a_row_in_the_audit_log(kit):
    is_problem(asked(kit, role="operator"), 403, "forbidden")
    is_problem(asked(kit, device="cam-9"), 404, "not_found")
    is_problem(asked(kit, until=START), 422, "invalid")
    assert asked(kit).status_code == 200
    rows = kit.http.get(f"{API}/audit", headers=kit.as_("admin")).json()["items"]
    assert rows[-1]["action"] == "record.read" or "record.read" in {r["action"] for r in rows}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data.replace(b"person:bob", b"person:eve"), "was changed"),
        (lambda data: data.split(b"\n", 1)[1], "was changed"),
        (lambda data: data + data, "was changed|no signature"),
        (lambda data: data.rsplit(b"\n", 2)[0] + b"\n", "no signature"),
        (lambda data: b"", "no signature"),
    ],
)
def test_a_record_that_was_changed_is_found(kit, change, words):
    data = asked(kit).content
    with pytest.raises(Invalid, match=words):
        records.verified(change(data), director_keys(kit))


def test_another_key_or_another_kind_of_statement_is_no_signature(kit):
    data = asked(kit).content
    with pytest.raises(Invalid, match="none of the keys"):
        records.verified(data, [CryptoSigner.generate_ed25519().public_key])
    *_, last = data.splitlines()
    envelope = json.loads(last)["envelope"]
    envelope["payloadType"] = "application/vnd.muster.directive+json"
    forged = data.replace(last, json.dumps({"kind": "signature", "envelope": envelope}).encode())
    with pytest.raises(Invalid, match="signed as"):
        records.verified(forged, director_keys(kit))
    envelope["payloadType"] = records.PAYLOAD_TYPE
    envelope["payload"] = base64.b64encode(b'{"sha256":"","lines":0}').decode()
    forged = data.replace(last, json.dumps({"kind": "signature", "envelope": envelope}).encode())
    with pytest.raises(Invalid, match="none of the keys"):
        records.verified(forged, director_keys(kit))
    with pytest.raises(CatalogueError):
        roles.director_keys(b"{}")


def test_the_command_writes_lines_and_a_page_and_another_checks_them(kit, tmp_path):
    token = kit.as_("admin")["Authorization"].removeprefix("Bearer ")
    done = CliRunner().invoke(
        app,
        ["--hub", str(kit.http.base_url), "--token", token, "audit", "export", "cam-1",
         "--since", "2026-01-01", "--until", "2026-01-31", "-o", str(tmp_path / "out")],
    )  # fmt: skip
    assert done.exit_code == 0, done.output or done.exception
    text = (tmp_path / "out" / "record.html").read_text()
    assert "flow &lt;b&gt;drifts&lt;/b&gt;" in text
    assert "still" in text
    assert "version.approve" in text
    checked = CliRunner().invoke(
        hub_app,
        ["record-verify", str(tmp_path / "out" / "record.jsonl"), "--targets", str(targets(kit))],
    )
    assert checked.exit_code == 0, checked.output or checked.exception
    assert "about cam-1, as signed" in checked.stdout


def test_a_page_says_nothing_of_what_there_is_none_of(kit):
    lines = lines_of(kit, since=START + 20 * DAY, until=START + 21 * DAY)
    assert page(lines).count("<p>Nothing.</p>") >= 3
