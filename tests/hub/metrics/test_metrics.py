"""What Prometheus is told: numbers of the fleet, never a series by device."""

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import event

from muster_hub.metrics import looping
from muster_hub.metrics.reading import read
from muster_hub.settings.config import Http
from muster_hub.settings.loop import LoopTerms
from muster_hub.storage.models import Device
from support.hub_kit import API, open_kit
from support.metrics_fleet import fill

NOW = 1_800_000_000.0


@pytest.fixture
def kit(tmp_path):
    made = open_kit(tmp_path)
    yield made
    made.close()


def scraped(kit, **headers: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    answer = kit.http.get("/metrics", headers=headers or kit.as_("viewer"))
    assert answer.status_code == 200, answer.text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_a_scrape_counts_devices_models_inferences_alerts_and_rollouts(kit):
    fill(kit.hub, devices=3, now=NOW)
    found = scraped(kit)
    version = (("model", "pump"), ("version", "1.0.0"))
    assert found["muster_devices", (("state", "online"),)] == 3
    assert found["muster_devices", (("state", "awaiting_approval"),)] == 1
    assert found["muster_devices", (("state", "revoked"),)] == 1
    assert found["muster_model_devices", version] == 3
    assert found["muster_inferences_total", version] == 40
    assert found["muster_inference_errors_total", version] == 3
    assert found["muster_alerts_open", (("cause", "drift"), ("severity", "warning"))] == 1
    assert found["muster_drift_devices", (("feature", "heat"), ("model", "pump"))] == 1
    state = {"rollout": "1", "model": "pump"}
    for name, value in (("running", 1), ("paused", 0)):
        labels = tuple(sorted((state | {"state": name}).items()))
        assert found["muster_rollout_state", labels] == value
    for name, value in (("training", 1), ("closed", 0)):
        labels = (("model", "pump"), ("state", name))
        assert found["muster_loop_state", labels] == value
    own = (("model", "pump"),)
    assert found["muster_loop_since_timestamp_seconds", own] == NOW
    assert found["muster_loop_deadline_timestamp_seconds", own] == NOW + 9
    assert found["muster_loop_close_seconds", own] == 60
    assert found["muster_loops_ended", (*own, ("state", "closed"))] == 1
    for result in ("running", "succeeded"):
        assert found["muster_loop_trainings", (*own, ("result", result))] == 1
    ends = kit.hub.catalogue.expiries()["timestamp"]
    assert found["muster_metadata_expiry_timestamp_seconds", (("role", "timestamp"),)] == ends


def test_a_budget_of_trainings_is_counted_down_and_an_old_loop_no_longer_counts(kit):
    terms = LoopTerms(model="pump", pipeline="webhook", url="http://x", runs_per_30_days=4)
    fill(kit.hub, devices=1, now=NOW)
    with kit.hub.store.read() as session:
        soon = looping.read(session, [terms], NOW + 86_400)
        late = looping.read(session, [terms], NOW + 31 * 86_400)
    assert soon.trainings_left == {"pump": 2}
    assert late.trainings_left == {"pump": 4}
    assert (late.ended, late.deadlines) == ({}, {"pump": NOW + 9})


def test_no_series_names_a_device(kit):
    fill(kit.hub, devices=3, now=NOW)
    assert not [labels for _, labels in scraped(kit) if "device" in dict(labels)]


def test_a_scrape_asks_the_database_as_often_for_many_devices_as_for_few(kit):
    def statements() -> int:
        asked: list[object] = []

        def listen(*statement: object) -> None:
            asked.append(statement)

        event.listen(kit.hub.store.engine, "before_cursor_execute", listen)
        with kit.hub.store.read() as session:
            read(session, NOW)
        event.remove(kit.hub.store.engine, "before_cursor_execute", listen)
        return len(asked)

    empty = statements()
    fill(kit.hub, devices=50, now=NOW)
    assert statements() == empty


def test_the_time_of_answers_is_told_by_route_and_not_by_path(kit):
    fill(kit.hub, devices=1, now=NOW)
    viewer = kit.as_("viewer")
    kit.http.get(f"{API}/devices/d-0", headers=viewer)
    kit.http.get("/no/such/page", headers=viewer)
    routes = {
        dict(labels)["route"]
        for name, labels in scraped(kit)
        if name == "muster_http_request_duration_seconds_count"
    }
    assert "unmatched" in routes
    assert any(route.endswith("/devices/{device}") for route in routes)
    assert not [route for route in routes if "d-0" in route]


def test_a_scrape_without_a_token_is_refused_but_from_a_network_that_is_let_in(kit, tmp_path):
    assert kit.http.get("/metrics").status_code == 401
    (tmp_path / "other").mkdir()
    http = Http(metrics_networks=("127.0.0.0/8",))
    inside = open_kit(tmp_path / "other", settings={"http": http})
    try:
        assert inside.http.get("/metrics").status_code == 200
    finally:
        inside.close()


def test_scrapes_within_seconds_share_one_look_at_the_database(kit):
    fill(kit.hub, devices=1, now=NOW)
    before = scraped(kit)
    with kit.hub.store.write() as session:
        session.add(Device(id="late", created=NOW, approved=False))
    after = scraped(kit)
    asks = ("muster_devices", (("state", "awaiting_approval"),))
    assert before[asks] == after[asks] == 1
