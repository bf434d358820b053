"""A real Airflow 3: a loop starts the DAG that the page shows, and its candidate is rolled on."""

import json
import os
import signal
import subprocess
from pathlib import Path

import httpx
import pytest
from sqlmodel import select

from muster_hub.loop import loop_step
from muster_hub.loop.trainings import Trainings
from muster_hub.settings.loop import LoopTerms
from muster_hub.storage.registry import LoopRow
from support import integration_pages
from support.counterparts import environment, until
from support.hub_kit import API, open_kit
from support.ports import free_port

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("apache-airflow==3.3.2", *integration_pages.CLIENT)

pytestmark = [pytest.mark.doors, pytest.mark.timeout(2400)]


@pytest.fixture
def kit(tmp_path):
    port = free_port()
    terms = LoopTerms(model="pump", pipeline="airflow3", url=f"http://127.0.0.1:{port}",
                      dag="train_pump", user="admin", secret_file="airflow.password",
                      approval=False)  # fmt: skip
    made = open_kit(tmp_path, settings={"loops": (terms,)})
    made.hub.start()
    yield made
    made.hub.releases.stop()
    made.close()


@pytest.fixture
def airflow(kit, tmp_path):
    """A standalone Airflow whose tasks reach the hub; the folder of its logs."""
    programs = environment("airflow", *PACKAGES)
    home, dags = tmp_path / "airflow", tmp_path / "dags"
    for folder in (home, dags):
        folder.mkdir()
    (dags / "train_pump.py").write_text(integration_pages.program("Airflow"))
    (tmp_path / "train.py").write_text(integration_pages.TRAINING)
    (tmp_path / "seed").write_text("11")
    (terms,) = kit.hub.config.loops
    port = terms.url.rpartition(":")[2]
    token = kit.as_("releaser")["Authorization"].removeprefix("Bearer ")
    variables = os.environ | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": port,
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__TRIGGERER__DEFAULT_CAPACITY": "4",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
        "MUSTER_HUB": str(kit.http.base_url),
        "MUSTER_TOKEN": token,
        "PUMP_HOME": str(tmp_path),
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": ":".join(str(ROOT / part) for part in ("protocol", "hub", "tests")),
    }
    subprocess.run([programs / "airflow", "db", "migrate"], env=variables, check=True, timeout=600,
                   capture_output=True)  # fmt: skip
    with (tmp_path / "log").open("wb") as log:
        running = subprocess.Popen([programs / "airflow", "standalone"], env=variables, stdout=log,
                                   stderr=log, start_new_session=True)  # fmt: skip
        try:
            passwords = home / "simple_auth_manager_passwords.json.generated"
            until(passwords.exists, 300)
            password = json.loads(passwords.read_text())["admin"]
            (kit.hub.config.data / "airflow.password").write_text(password)
            until(lambda: _knows_the_dag(terms.url, password), 300)
            yield home / "logs"
        finally:
            os.killpg(running.pid, signal.SIGTERM)
            try:
                running.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(running.pid, signal.SIGKILL)
                running.wait(60)


def _knows_the_dag(url, password):
    try:
        asked = {"username": "admin", "password": password}
        token = httpx.post(f"{url}/auth/token", json=asked, timeout=60).json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.get(f"{url}/api/v2/dags/train_pump", headers=headers, timeout=60).is_success
    except (httpx.HTTPError, ValueError, KeyError):
        return False


def said(logs):
    """The ends of the tasks' logs."""
    return "\n".join(path.read_text()[-3000:] for path in sorted(logs.rglob("attempt*.log")))


def test_a_loop_has_its_model_trained_pushed_and_named_by_airflow(kit, airflow):
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
        assert row.state not in {"failed", "abandoned"}, (row.reason, said(airflow))
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
