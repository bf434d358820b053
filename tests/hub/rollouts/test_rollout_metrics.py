"""Values that the operator's own systems post for a rollout's custom metrics."""

import pytest
from sqlmodel import select

from muster_hub.api.routes import metrics
from muster_hub.api.schemas.metrics import VALUES_MAX
from muster_hub.storage.models import Audit, Device, MetricValue, Model, Rollout, Version
from support.hub_kit import API, is_problem, open_kit

PLAN = {
    "model": "digits", "version": "1",
    "gate": {"custom": [{"name": "scrap rate", "margin": 1.2}], "past_seconds": 3600},
}  # fmt: skip


@pytest.fixture
def kit(tmp_path):
    made = open_kit(tmp_path)
    with made.hub.store.write() as session:
        for name, site in (("cam-1", "berlin"), ("cam-2", "oslo")):
            session.add(Device(id=name, labels={"site": site}, created=1))
        session.add(Model(name="digits", created=1))
        session.flush()
        session.add(
            Version(
                model="digits", version="1", manifest_sha256="x", manifest=b"{}",
                status="published", size_bytes=1000, created=1, created_by="test",
            )
        )  # fmt: skip
    yield made
    made.close()


@pytest.fixture
def post(kit):
    headers = kit.as_("operator")

    def posting(number, *values, metric="scrap rate", headers=headers, **more):
        body = {"metric": metric, "values": list(values)}
        return kit.http.post(f"{API}/rollouts/{number}/metrics", json=body, headers=headers | more)

    return posting


def start(kit, **more):
    answer = kit.http.post(f"{API}/rollouts", json=PLAN | more, headers=kit.as_("operator"))
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def kept(kit):
    with kit.hub.store.read() as session:
        rows = session.exec(select(MetricValue).order_by(MetricValue.device, MetricValue.at))
        return [(row.device, row.at, row.value) for row in rows]


def test_values_are_taken_once_however_often_they_are_posted(kit, post):
    number = start(kit)
    now = kit.clock()
    values = [
        {"device": "cam-1", "value": 0.013, "at": now - 1800},
        {"device": "cam-1", "value": 0.015, "at": now},
        {"device": "cam-2", "value": 0.011},
    ]
    assert post(number, *values).json() == {"metric": "scrap rate", "taken": 3, "kept": 3}
    assert post(number, *values).json() == {"metric": "scrap rate", "taken": 0, "kept": 3}
    values[0]["value"] = 0.02
    assert post(number, values[0]).json()["taken"] == 1
    assert kept(kit) == [
        ("cam-1", now - 1800, 0.02), ("cam-1", now, 0.015), ("cam-2", now, 0.011),
    ]  # fmt: skip
    with kit.hub.store.read() as session:
        rows = session.exec(select(Audit).where(Audit.action == "rollout.metrics")).all()
    assert [row.detail["taken"] for row in rows] == [3, 0, 1]


def test_what_no_gate_would_look_at_is_refused_whole(kit, post):
    number = start(kit)
    now = kit.clock()
    good = {"device": "cam-1", "value": 1.0}
    for bad, says in (
        ({"device": "cam-9", "value": 1.0}, "no device 'cam-9'"),
        ({"device": "cam-1", "value": 1.0, "at": now - 3601}, "outside of what the gate looks at"),
        ({"device": "cam-1", "value": 1.0, "at": now + 301}, "outside of what the gate looks at"),
    ):
        assert says in is_problem(post(number, good, bad), 422, "invalid")
    says = is_problem(post(number, good, metric="yield"), 422, "invalid")
    assert "no metric 'yield', but 'scrap rate'" in says
    plain = start(kit, gate=None, slot="other")
    assert "but none" in is_problem(post(plain, good), 422, "invalid")
    is_problem(post(number), 422, "invalid")
    is_problem(post(number, *[good] * (VALUES_MAX + 1)), 422, "invalid")
    raw = '{"metric": "scrap rate", "values": [{"device": "cam-1", "value": NaN}]}'
    headers = kit.as_("operator") | {"Content-Type": "application/json"}
    path = f"{API}/rollouts/{number}/metrics"
    is_problem(kit.http.post(path, content=raw, headers=headers), 422, "invalid")
    is_problem(post(number + 100, good), 404, "not_found")
    assert kept(kit) == []


def test_nobody_posts_beyond_their_role_their_models_or_their_devices(kit, post):
    number = start(kit)
    good = {"device": "cam-1", "value": 1.0}
    for role in ("viewer", "releaser"):
        is_problem(post(number, good, headers=kit.as_(role)), 403, "forbidden")

    def limited(**scope):
        body = {"name": "limited", "role": "operator"} | scope
        made = kit.http.post(f"{API}/tokens", json=body, headers=kit.as_("admin")).json()
        return {"Authorization": f"Bearer {made['token']}"}

    berlin = limited(selector="site=berlin")
    assert post(number, good, headers=berlin).status_code == 201, "a plant tells of its own"
    is_problem(post(number, {"device": "cam-2", "value": 1.0}, headers=berlin), 403, "refused")
    is_problem(post(number, good, headers=limited(models=["pump"])), 403, "refused")


def test_a_rollout_that_has_ended_takes_no_more_values(kit, post):
    number = start(kit)
    kit.http.post(f"{API}/rollouts/{number}/abort", headers=kit.as_("operator"))
    assert "its gate looks no more" in is_problem(
        post(number, {"device": "cam-1", "value": 1.0}), 409, "conflict"
    )


def test_values_of_a_rollout_are_bounded(kit, post, monkeypatch):
    monkeypatch.setattr(metrics, "VALUES_PER_ROLLOUT_MAX", 3)
    number = start(kit)
    now = kit.clock()
    values = [{"device": "cam-1", "value": 1.0, "at": now - n} for n in range(4)]
    assert post(number, *values[:3]).status_code == 201
    assert "3 values at most" in is_problem(post(number, values[3]), 409, "conflict")
    assert len(kept(kit)) == 3
    assert post(number, values[2]).status_code == 201, "what is there may be repeated"


def test_a_plan_whose_metric_cannot_be_meant_is_not_started(kit):
    plan = PLAN | {"gate": {"custom": [{"name": "errors", "margin": 1.2}]}}
    answer = kit.http.post(f"{API}/rollouts", json=plan, headers=kit.as_("operator"))
    assert "name of another metric" in is_problem(answer, 422, "invalid")
    with kit.hub.store.read() as session:
        assert session.exec(select(Rollout)).all() == []
