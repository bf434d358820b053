"""A loop lived against a real database: drift, a pipeline by HTTP, a candidate, a rollout."""

import base64
import json

import pytest
from sqlmodel import select

from muster_hub.alerts.channels.webhook import sign
from muster_hub.errors import ConfigError
from muster_hub.loop import loop_step
from muster_hub.loop.trainings import Trainings
from muster_hub.settings.loop import LoopTerms
from muster_hub.storage.models import Alert, Audit, Device, Model, Rollout, Version
from muster_hub.storage.registry import LoopRow
from support.hub_kit import API, is_problem, open_kit
from support.orchestrators import Server
from support.ports import free_port

HOUR = 3600.0
DAY = 24 * HOUR
SECRET = "a-secret"


def terms(**fields):
    usual = {"model": "pump", "pipeline": "webhook", "url": "http://127.0.0.1:9",
             "secret_file": "loop.key"}  # fmt: skip
    return LoopTerms(**(usual | fields))


class Orchestrator(Server):
    """Answers as Airflow does: a token, runs by their names, a state; or takes a webhook."""

    def __init__(self):
        self.runs = {}
        self.asked = []
        self.tokens = 0
        self.broken = 0
        """So many of the next requests are answered 500, and act all the same."""

    def answer(self, method, path, headers, body):
        self.asked.append((method, path, headers, body))
        status, said = self._answer(method, path, body)
        if self.broken:
            self.broken -= 1
            return 500, {"detail": "lost"}
        return status, said

    def _answer(self, method, path, body):
        if path == "/auth/token":
            self.tokens += 1
            return 201, {"access_token": f"token-{self.tokens}"}
        if path == "/hook":
            return 200, {}
        _, _, name = path.partition("/dagRuns")
        if method == "POST":
            run = body["dag_run_id"]
            if run in self.runs:
                return 409, {"detail": "DAGRun already exists"}
            self.runs[run] = "queued"
            return 200, {"dag_run_id": run, "state": "queued"}
        run = name.removeprefix("/")
        return (200, {"state": self.runs[run]}) if run in self.runs else (404, {"detail": "none"})


@pytest.fixture
def orchestrator():
    made = Orchestrator()
    with made.served() as url:
        made.url = url
        yield made


class Life:
    """A hub, its loop's terms, and somebody who steps time."""

    def __init__(self, tmp_path, **fields):
        self.kit = open_kit(tmp_path, settings={"loops": (terms(**fields),)})
        self.terms = self.kit.hub.config.loops
        (self.kit.hub.config.data / "loop.key").write_text(SECRET)
        self.trainings = Trainings(
            self.kit.hub.store, self.terms, self.kit.hub.config.data,
            hub_url="https://hub.example", now=self.kit.clock, uniform=lambda _, most: most,
        )  # fmt: skip
        with self.kit.hub.store.write() as session:
            session.add(Model(name="pump", created=1))
            session.add(Device(id="cam-1", created=1))

    def drifts(self, *, state="open"):
        with self.kit.hub.store.write() as session:
            session.add(Alert(key="k", kind="drift", severity="warning", state=state, opened=1,
                              updated=1, title="flow drifts", device="cam-1",
                              detail={"model": "pump"}))  # fmt: skip

    def step(self, seconds=0.0):
        self.kit.clock.now += seconds
        with self.kit.hub.store.write() as session:
            loop_step.step(session, self.terms, self.kit.clock())

    def pushed(self, version, status):
        with self.kit.hub.store.write() as session:
            session.merge(Version(
                model="pump", version=version, manifest_sha256=version, manifest=b"{}",
                status=status, size_bytes=1, created=self.kit.clock(), created_by="token:ci",
                check={"reason": "gate size: too large"} if status == "rejected" else {},
            ))  # fmt: skip

    def rollout(self, version, state):
        with self.kit.hub.store.write() as session:
            session.add(Rollout(model="pump", version=version, manifest=version, slot="main",
                                selector="", state=state, created=1, created_by="x",
                                updated=1))  # fmt: skip

    def post(self, path, role="admin", **body):
        return self.kit.http.post(f"{API}{path}", json=body, headers=self.kit.as_(role))

    @property
    def loops(self):
        with self.kit.hub.store.read() as session:
            return session.exec(select(LoopRow).order_by(LoopRow.id)).all()

    @property
    def loop(self):
        return self.loops[-1]


@pytest.fixture
def life(tmp_path):
    made = []

    def make(**fields):
        made.append(Life(tmp_path, **fields))
        return made[0]

    yield make
    for each in made:
        each.kit.close()


def test_drift_is_retrained_checked_signed_rolled_out_and_closed(life, orchestrator):
    lived = life(pipeline="airflow3", url=orchestrator.url, dag="train", user="ann")
    lived.drifts()
    lived.step()
    lived.step(2 * HOUR)
    assert lived.loop.state == "wanted"
    assert lived.loop.detail["alerts"][0]["title"] == "flow drifts"
    lived.step(HOUR)
    lived.trainings.do_due()
    assert orchestrator.asked == [], "nothing starts before somebody agrees"
    assert lived.post("/loops/1/approve").status_code == 200
    lived.step()
    lived.trainings.do_due()
    assert orchestrator.runs == {"muster-loop-1": "queued"}
    started = [body for method, path, _, body in orchestrator.asked if "dagRuns" in path]
    assert started[0]["logical_date"] is None
    assert started[0]["conf"]["loop"] == 1
    assert started[0]["conf"]["candidate"] == "https://hub.example/api/v1/loops/1/candidate"
    assert lived.loop.run_url.endswith("/dags/train/runs/muster-loop-1")
    orchestrator.runs["muster-loop-1"] = "success"
    lived.kit.clock.now += 60
    lived.trainings.do_due()
    assert lived.loop.run_state == "succeeded"
    lived.pushed("4", "checking")
    assert lived.post("/loops/1/candidate", "releaser", version="4").status_code == 200
    for status, state in (("checking", "checking"), ("awaiting_signatures", "signing"),
                          ("published", "rollout")):  # fmt: skip
        lived.pushed("4", status)
        lived.step()
        assert lived.loop.state == state
    lived.rollout("4", "completed")
    lived.step()
    found = lived.kit.http.get(f"{API}/loops/1", headers=lived.kit.as_("viewer")).json()
    assert found["state"] == "closed"
    assert [step["state"] for step in found["history"]] == [
        "wanted", "training", "checking", "signing", "rollout", "closed",
    ]  # fmt: skip
    with lived.kit.hub.store.read() as session:
        acts = [row.action for row in session.exec(select(Audit)) if row.subject == "loop/1"]
    assert acts[0] == "loop.open"
    assert acts[-1] == "loop.closed"
    lived.step(5 * DAY)
    assert len(lived.loops) == 1, "one drift opens one loop"


def test_an_answer_that_was_lost_starts_no_second_training(life, orchestrator):
    lived = life(pipeline="airflow2", url=orchestrator.url, dag="train", approval=False)
    lived.post("/loops", model="pump")
    lived.step()
    orchestrator.broken = 1
    lived.trainings.do_due()
    assert lived.loop.run == ""
    assert "HTTP 500" in lived.loop.run_fault
    lived.kit.clock.now += 60
    lived.trainings.do_due()
    assert orchestrator.runs == {"muster-loop-1": "queued"}
    assert (lived.loop.run, lived.loop.run_state) == ("muster-loop-1", "running")
    posts = [headers for method, _, headers, _ in orchestrator.asked if method == "POST"]
    assert posts[0]["authorization"] == f"Bearer {SECRET}"


def test_airflow_two_is_asked_with_user_and_password(life, orchestrator):
    lived = life(pipeline="airflow2", url=orchestrator.url, dag="t", user="ann", approval=False)
    lived.post("/loops", model="pump")
    lived.step()
    lived.trainings.do_due()
    (_, path, headers, body), *_ = orchestrator.asked
    assert path == "/api/v1/dags/t/dagRuns"
    assert "logical_date" not in body
    assert base64.b64decode(headers["authorization"].split()[1]).decode() == f"ann:{SECRET}"


def test_a_webhook_is_signed_with_the_loops_key(life, orchestrator):
    lived = life(url=f"{orchestrator.url}/hook", approval=False)
    lived.post("/loops", model="pump", reason="a new pump")
    lived.step()
    lived.trainings.do_due()
    ((_, _, headers, body),) = orchestrator.asked
    assert (body["type"], body["loop"], body["cause"]) == ("train", 1, "a new pump")
    assert headers["x-muster-delivery"] == "muster-loop-1"
    stamp = int(headers["x-muster-timestamp"])
    raw = json.dumps(body, separators=(",", ":")).encode()
    signature = sign(SECRET.encode(), "muster-loop-1", stamp, raw)
    assert headers["x-muster-signature"] == signature
    lived.kit.clock.now += DAY / 2
    lived.trainings.do_due()
    assert len(orchestrator.asked) == 1


def test_a_training_that_failed_fails_the_loop_and_it_cools_down(life, orchestrator):
    lived = life(pipeline="airflow3", url=orchestrator.url, dag="train", approval=False)
    lived.post("/loops", model="pump")
    lived.step()
    lived.trainings.do_due()
    orchestrator.runs["muster-loop-1"] = "failed"
    lived.kit.clock.now += 60
    lived.trainings.do_due()
    lived.step()
    assert lived.loop.state == "failed"
    assert "muster-loop-1 failed" in lived.loop.reason
    assert "cooling down" in is_problem(lived.post("/loops", model="pump"), 409, "conflict")
    lived.kit.clock.now += 8 * DAY
    assert lived.post("/loops", model="pump").status_code == 201


def test_an_orchestrator_that_says_no_for_good_fails_the_loop(life, orchestrator):
    lived = life(pipeline="airflow3", url=f"{orchestrator.url}/gone", dag="x", approval=False)
    orchestrator._answer = lambda *_: (404, {"detail": "DAG not found"})
    lived.post("/loops", model="pump")
    lived.step()
    lived.trainings.do_due()
    lived.step()
    assert lived.loop.state == "failed"
    assert "DAG not found" in lived.loop.reason


def test_an_orchestrator_that_is_down_is_tried_again_until_the_deadline(life):
    lived = life(pipeline="airflow3", url=f"http://127.0.0.1:{free_port()}", dag="x",
                 approval=False)  # fmt: skip
    lived.post("/loops", model="pump")
    lived.step()
    lived.trainings.do_due()
    first = lived.loop.run_due
    lived.trainings.do_due()
    assert lived.loop.attempts == 1, "not before it is due"
    lived.kit.clock.now = first
    lived.trainings.do_due()
    assert lived.loop.attempts == 2
    lived.step(2 * DAY)
    assert lived.loop.state == "abandoned"
    assert "no run could be started" in lived.loop.reason


def test_a_candidate_that_the_gates_reject_fails_the_loop(life):
    lived = life(approval=False)
    lived.post("/loops", model="pump")
    lived.step()
    lived.pushed("4", "rejected")
    lived.post("/loops/1/candidate", version="4")
    lived.step()
    assert lived.loop.state == "failed"
    assert "gate size" in lived.loop.reason


def test_nothing_opens_while_a_rollout_of_the_model_is_under_way(life):
    lived = life()
    lived.pushed("3", "published")
    lived.rollout("3", "running")
    lived.drifts()
    lived.step()
    lived.step(3 * HOUR)
    assert lived.loops == []
    assert "rollout 1" in is_problem(lived.post("/loops", model="pump"), 409, "conflict")


def test_a_candidate_must_be_newer_than_the_loop_and_be_there(life):
    lived = life(approval=False)
    lived.pushed("3", "published")
    lived.kit.clock.now += 60
    lived.post("/loops", model="pump")
    lived.step()
    is_problem(lived.post("/loops/1/candidate", version="9"), 404, "not_found")
    said = is_problem(lived.post("/loops/1/candidate", version="3"), 409, "conflict")
    assert "before loop 1 was opened" in said


def test_people_end_a_loop_and_nothing_more_can_be_done_with_it(life):
    lived = life()
    lived.post("/loops", model="pump")
    assert lived.post("/loops/1/abandon", reason="the sensor was broken").status_code == 200
    assert lived.loop.reason == "the sensor was broken"
    is_problem(lived.post("/loops/1/approve"), 409, "conflict")
    is_problem(lived.post("/loops/1/abandon"), 409, "conflict")
    is_problem(lived.post("/loops/1/candidate", version="4"), 409, "conflict")


def test_a_model_without_terms_has_no_loops(life):
    lived = life()
    assert "[[loops]]" in is_problem(lived.post("/loops", model="fan"), 404, "not_found")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"secret_file": ""}, "needs a `secret_file`"),
        ({"pipeline": "airflow3", "dag": ""}, "needs a `dag`"),
        ({"secret_file": "nothing.key"}, "No such file"),
    ],
)
def test_a_loop_that_can_not_be_used_is_refused_at_the_start(tmp_path, fields, words):
    (tmp_path / "loop.key").write_text(SECRET)
    with pytest.raises(ConfigError, match=words):
        Trainings(None, [terms(**fields)], tmp_path, hub_url="")
