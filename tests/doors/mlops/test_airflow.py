"""A real Airflow 3: a loop starts the DAG that the page shows, and its candidate is rolled on."""

from pathlib import Path

import pytest
from sqlmodel import select

from muster_hub.loop import loop_step
from muster_hub.loop.trainings import Trainings
from muster_hub.settings.loop import LoopTerms
from muster_hub.storage.registry import LoopRow
from support import airflow, integration_pages
from support.counterparts import until
from support.hub_kit import API, open_kit

ROOT = Path(__file__).resolve().parents[3]

pytestmark = [pytest.mark.doors, pytest.mark.timeout(2400)]


@pytest.fixture
def kit(tmp_path):
    at = airflow.Address.new()
    terms = LoopTerms(model="pump", pipeline="airflow3", url=at.url, dag="train_pump",
                      user=airflow.USER, secret_file="airflow.password",
                      approval=False)  # fmt: skip
    made = open_kit(tmp_path, settings={"loops": (terms,)})
    (made.hub.config.data / terms.secret_file).write_text(at.password)
    made.hub.start()
    yield made
    made.hub.releases.stop()
    made.close()


@pytest.fixture
def server(kit, tmp_path):
    """A standalone Airflow whose tasks reach the hub."""
    (tmp_path / "train.py").write_text(integration_pages.TRAINING)
    (tmp_path / "seed").write_text("11")
    (terms,) = kit.hub.config.loops
    variables = {
        "MUSTER_HUB": str(kit.http.base_url),
        "MUSTER_TOKEN": kit.as_("releaser")["Authorization"].removeprefix("Bearer "),
        "PUMP_HOME": str(tmp_path),
        "PYTHONPATH": ":".join(str(ROOT / part) for part in ("protocol", "hub", "tests")),
    }
    at = airflow.Address(terms.url, (kit.hub.config.data / terms.secret_file).read_text())
    program = integration_pages.program("Airflow")
    with airflow.starting(tmp_path, at, terms.dag, program, variables) as made:
        made.wait()
        yield made


def test_a_loop_has_its_model_trained_pushed_and_named_by_airflow(kit, server):
    (terms,) = kit.hub.config.loops
    trainings = Trainings(kit.hub.store, (terms,), kit.hub.config.data, hub_url="http://hub",
                          now=kit.clock)  # fmt: skip
    asked = kit.http.post(f"{API}/loops", json={"model": "pump"}, headers=kit.as_("operator"))
    assert asked.status_code == 201, asked.text

    def went_on():
        kit.clock.now += 30
        with kit.hub.store.write() as session:
            loop_step.step(session, (terms,), kit.clock())
        trainings.do_due()
        with kit.hub.store.read() as session:
            row = session.exec(select(LoopRow)).one()
        assert row.state not in {"failed", "abandoned"}, (row.reason, server.said())
        return row if row.state == "rollout" else None

    row = until(went_on, 600)
    assert row.run == "muster-loop-1"
    assert row.version == "1"
    assert row.run_url.endswith("/dags/train_pump/runs/muster-loop-1")
    assert [step["state"] for step in row.history][:3] == ["wanted", "training", "checking"]
    # A hub that lost the answer asks again: it is the same run.
    with kit.hub.store.write() as session:
        kept = session.get(LoopRow, 1)
        kept.state, kept.run, kept.run_state, kept.run_due = "training", "", "", 0.0
        session.add(kept)
    trainings.do_due()
    with kit.hub.store.read() as session:
        assert session.get(LoopRow, 1).run == "muster-loop-1"
