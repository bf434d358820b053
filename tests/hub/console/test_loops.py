"""Pages of loops: what each waits for, and acts by the same rules as the API's."""

import pytest

from muster_hub.settings.loop import LoopTerms
from muster_hub.storage.models import Model, Version
from muster_hub.storage.registry import LoopRow
from support.console_kit import signed_in
from support.hub_kit import open_kit

DAY = 86_400.0


@pytest.fixture
def kit(tmp_path):
    terms = LoopTerms(model="pump", pipeline="webhook", url="http://127.0.0.1:9",
                      secret_file="loop.key")  # fmt: skip
    made = open_kit(tmp_path, settings={"loops": (terms,)})
    with made.hub.store.write() as session:
        session.add(Model(name="pump", created=1.0))
    yield made
    made.close()


def opened(kit, **fields):
    now = kit.clock()
    usual = {
        "model": "pump", "state": "wanted", "opened": now, "since": now, "deadline": now + DAY,
        "cause": "it drifts on 2 device(s)", "opened_by": "hub", "pipeline": "airflow3",
        "detail": {"alerts": [{"id": 1, "device": "cam-1", "title": "cam-1: flow drifts"}]},
        "history": [{"at": now, "state": "wanted", "reason": "drift", "by": "hub"}],
    }  # fmt: skip
    with kit.hub.store.write() as session:
        session.add(LoopRow(**(usual | fields)))


def row(kit, number=1):
    with kit.hub.store.read() as session:
        return session.get(LoopRow, number)


def test_a_loop_is_approved_by_who_may_and_offered_to_nobody_else(kit):
    opened(kit)
    viewer = signed_in(kit, "viewer", "vic")
    page = viewer.get("/loops/1").text
    assert "cam-1: flow drifts" in page
    assert "Approve the training" not in page
    assert viewer.post("/loops/1/approve").status_code == 403
    assert viewer.get("/loops/1/abandon").status_code == 403
    operator = signed_in(kit, "operator", "olga")
    assert "Approve the training" in operator.get("/loops/1").text
    assert operator.post("/loops/1/approve").status_code == 303
    assert row(kit).approved_by == "token:olga"


def test_a_loop_is_abandoned_with_a_reason_once_asked(kit):
    opened(kit)
    client = signed_in(kit)
    assert "can't go on" in client.get("/loops/1/abandon").text
    assert client.post("/loops/1/abandon", data={"reason": "the sensor"}).status_code == 303
    assert (row(kit).state, row(kit).reason) == ("abandoned", "the sensor")
    assert client.post("/loops/1/abandon").status_code == 409


def test_one_is_opened_by_hand_where_hub_toml_knows_the_model(kit):
    client = signed_in(kit)
    assert "Open one by hand" in client.get("/loops").text
    assert "Open one by hand" not in signed_in(kit, "viewer", "vic").get("/loops").text
    made = client.post("/loops", data={"model": "pump", "reason": "a new pump"})
    assert made.status_code == 303
    assert made.headers["location"].endswith("loops/1")
    assert row(kit).cause == "a new pump"
    assert client.post("/loops", data={"model": "pump"}).status_code == 409
    assert client.post("/loops", data={"model": "fan"}).status_code == 404


def test_the_inbox_leads_to_loops_that_wait_for_somebody(kit):
    opened(kit)
    page = signed_in(kit).get("/inbox").text
    assert "somebody who approves the training" in page
    assert 'href="./loops/1"' in page
    other = signed_in(kit, "viewer", "vic", models=["fan"])
    assert "loops/1" not in other.get("/inbox").text
    assert other.get("/loops/1").status_code == 403


def test_a_candidate_s_gates_and_the_training_s_log_are_shown(kit):
    with kit.hub.store.write() as session:
        session.add(Version(
            model="pump", version="4", manifest_sha256="4" * 64, manifest=b"{}", size_bytes=1,
            status="rejected", created=1.0, created_by="token:ci",
            check={"gates": [{"gate": "size", "ok": False, "says": "5 MB is above 4 MB"}]},
        ))  # fmt: skip
    opened(kit, state="failed", ended=kit.clock(), version="4", run="muster-loop-1",
           run_state="succeeded", run_url="https://airflow.example/runs/1")  # fmt: skip
    page = signed_in(kit).get("/loops/1").text
    assert "5 MB is above 4 MB" in page
    assert '<a href="https://airflow.example/runs/1" rel="external noreferrer">' in page
    opened(kit, run_url="javascript:alert(1)", run="muster-loop-2")
    assert "javascript:" not in signed_in(kit).get("/loops/2").text
