"""The whole loop, by real programs: ``make story-loop``.

Two pumps are replaced, and the model that judges them is wrong from then on. The hub sees it and
opens a loop; people and an Airflow 3 do the rest: raw rows under a signed policy, labels, a forest
of scikit-learn trained anew, gates, a signature made off-line, a shadow, a canary. Two candidates
that shouldn't be released are stopped on the way. At the end an auditor is given the record.
"""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from muster_hub.demo.fleet import DemoDevice, DemoHub, DeviceSpec, program
from muster_hub.demo.processes import Child, run
from muster_protocol.wire.errors import MusterError
from support import airflow
from support.counterparts import converters
from support.offline_keys import OfflineKeys
from support.pump_line import COLUMNS, SHIFTS, Pump, state_of, write_history

HERE = Path(__file__).parent
DAG = "retrain_pump"
WINDOW_SECONDS = 2.0
QUIET_SECONDS = 12.0
COOLDOWN_SECONDS = 15.0
ENOUGH_SECONDS = 300.0
ROWS_OF_EACH = 300
TIMERS = {"report_seconds": 5.0, "metadata_wait_seconds": 2.0, "chunk_silence_seconds": 0.7}
LOOP = """
[[loops]]
model = "pump"
pipeline = "airflow3"
url = "{url}"
dag = "{dag}"
user = "{user}"
secret_file = "airflow.password"
drift_devices = 2
drift_after_seconds = 2
cooldown_seconds = {cooldown}
runs_per_30_days = 10
"""
POLICY = """
[[gates]]
gate = "metric"
metric = "accuracy"
min = 0.7
drop_max = 0.3
[[gates]]
gate = "fairness"
metric = "accuracy"
group = "device"
rows_min = 50
ratio_min = 0.9
[[gates]]
gate = "golden"
cases_min = 4
[[gates]]
gate = "size"
bytes_max = 5_000_000
[[gates]]
gate = "latency"
milliseconds_max = 500
[[gates]]
gate = "baseline"
[[gates]]
gate = "card"
fields = ["intended_use", "contact"]
"""
SAMPLING = """
rows_per_day = 24000
rows_max = 100000
[features]
flow = "plain"
temp = "plain"
pressure = "plain"
vibration = "plain"
"""
CARD = """
intended_use = "tells a worn or blocked pump from a sound one"
contact = "pumps@example.com"
"""
PLAN = {
    "slot": "main", "selector": "site=works", "canary": 1, "min_soak_seconds": 2.0,
    "timeout_seconds": ENOUGH_SECONDS, "window_seconds": WINDOW_SECONDS,
    "shadow": {"devices": 2, "min_seconds": 4.0, "compared_min": 100, "disagreed_max": 0.9},
}  # fmt: skip

pytestmark = [pytest.mark.doors, pytest.mark.timeout(1800)]


class Person:
    """Somebody with a token of their own and the `muster` command."""

    def __init__(self, hub: DemoHub, name: str, role: str, **more: str) -> None:
        with hub.api() as api:
            made = api.post("/tokens", {"name": name, "role": role, "owner": name})
        self.variables = {"MUSTER_HUB": hub.url, "MUSTER_TOKEN": made["token"],
                          "MUSTER_CA": str(hub.data / "ca.pem"), "COLUMNS": "300"}  # fmt: skip
        self._more = more

    def attempt(self, *words: object) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [program("muster"), *map(str, words)], env=os.environ | self.variables | self._more,
            capture_output=True, text=True, check=False, timeout=ENOUGH_SECONDS,
        )  # fmt: skip

    def does(self, *words: object) -> str:
        done = self.attempt(*words)
        assert done.returncode == 0, f"muster {' '.join(map(str, words))}: {done.stderr}"
        return done.stdout

    def asks(self, *words: object) -> Any:
        return json.loads(self.does(*words, "--json"))


class Works:
    """The hub, its two devices with their pumps, the people, and the orchestrator."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self._stack = folder, stack
        self._began = time.monotonic()
        self._children: list[Child] = []
        (folder / "processes").mkdir()
        self.keys = OfflineKeys(folder / "vault")
        self.hub = DemoHub(
            folder / "hub", window_seconds=WINDOW_SECONDS, keys=self.keys.public
        )  # fmt: skip
        self.keys.sign(self.hub.data)
        at = airflow.Address.new()
        (self.hub.data / "airflow.password").write_text(at.password)
        with (self.hub.data / "hub.toml").open("a") as file:
            file.write(LOOP.format(url=at.url, dag=DAG, user=airflow.USER,
                                   cooldown=COOLDOWN_SECONDS))  # fmt: skip
        self._start(self.hub)
        self.api = stack.enter_context(self.hub.api())
        self.wait("the hub answers", self._answers)
        site = str(converters())
        self.anna = Person(self.hub, "anna", "admin")
        self.olga = Person(self.hub, "olga", "operator")
        self.otto = Person(self.hub, "otto", "operator")
        self.pipeline = Person(self.hub, "pipeline", "releaser", PYTHONPATH=site)
        self.home = folder / "training"
        self.home.mkdir()
        for name, text in {"sampling.toml": SAMPLING, "card.toml": CARD,
                           "registry.toml": POLICY}.items():  # fmt: skip
            (self.home / name).write_text(text)
        (self.home / "train_pump.py").write_text((HERE / "train_pump.py").read_text())
        variables = self.pipeline.variables | {
            "PUMP_HOME": str(self.home), "TRAINING_PYTHON": sys.executable,
            "TRAINING_PYTHONPATH": site, "MUSTER": program("muster"),
        }  # fmt: skip
        dag = (HERE / f"{DAG}.py").read_text()
        self.airflow = stack.enter_context(airflow.starting(folder, at, DAG, dag, variables))
        self.devices = [self._device(name) for name in SHIFTS]
        self.pumps: list[Pump] = []

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self._began:6.1f} s  {text}", flush=True)

    def wait(self, what: str, look: Callable[[], Any], seconds: float = ENOUGH_SECONDS) -> Any:
        """What ``look`` found, once it finds something; every process lives meanwhile."""
        ends = time.monotonic() + seconds
        while not (found := look()):
            for child in self._children:
                child.check()
            assert time.monotonic() < ends, f"{what}: did not come in {seconds:.0f} s"
            time.sleep(0.3)  # looked for from outside
        return found

    def retrain(self, how: str) -> None:
        (self.home / "how").write_text(how)

    def loop(self, number: int, *states: str) -> dict[str, Any]:
        """A loop once it is in one of these states, or has ended otherwise, which fails."""

        def there() -> dict[str, Any] | None:
            found: dict[str, Any] = self.api.get(f"/loops/{number}")
            if found["state"] in states:
                return found
            why = found["reason"], found["run_fault"]
            assert found["ended"] is None, (why, self.airflow.said())
            return None

        found: dict[str, Any] = self.wait(f"loop {number} is {' or '.join(states)}", there)
        return found

    def feed(self) -> None:
        for seed, device in enumerate(self.devices):
            pump = Pump(device.name, device.socket("main"), seed)
            pump.start()
            self._stack.callback(pump.finish)
            self.pumps.append(pump)

    def accuracy(self, version: str) -> float:
        """Of a version on both pumps since they were replaced."""
        answers = sum(pump.tally.answers.get(version, 0) for pump in self.pumps)
        right = sum(pump.tally.right.get(version, 0) for pump in self.pumps)
        return right / max(answers, 1)

    def drift_alerts(self) -> list[dict[str, Any]]:
        return [each for each in self.api.pages("/alerts") if each["kind"] == "drift"]

    def _answers(self) -> bool:
        with contextlib.suppress(MusterError):
            return self.api.get("/health") is not None
        return False

    def _device(self, name: str) -> DemoDevice:
        device = DemoDevice(DeviceSpec(name, {"site": "works"}), self.folder / name, self.hub)
        self._stack.callback(device.wire.close)
        body = {"labels": {"site": "works"}, "uses": 1, "expires_seconds": 600, "device": name}
        device.enrol(self.api.post("/enroll-tokens", body)["token"], TIMERS)
        self._start(device)
        return device

    def _start(self, program_: DemoHub | DemoDevice) -> None:
        child = Child(program_.name, program_.command, self.folder / "processes")
        self._children.append(child)
        self._stack.callback(child.stop)


@pytest.fixture
def works(tmp_path: Path) -> Iterator[Works]:
    with ExitStack() as stack:
        yield Works(tmp_path, stack)


def first_release(works: Works) -> None:
    works.anna.does("policy", "set", "pump", works.home / "registry.toml")
    write_history(works.home / "rows.csv", 9_000)
    works.retrain("with care")
    subprocess.run([sys.executable, "train_pump.py"], cwd=works.home, check=True, timeout=300)
    made = works.pipeline.asks(
        "model", "push", works.home / "pump.joblib", "--trust-pickle", "--name", "pump",
        "--data", works.home / "rows.csv", "--labels", "label", "--group", "device",
        "--drop", "sha256", "--drop", "stratum", "--window-rows", "60", "--window-seconds", "2",
        "--probation-seconds", "1", "--sampling", works.home / "sampling.toml",
        "--card", works.home / "card.toml",
    )  # fmt: skip
    assert made["status"] == "awaiting_signatures", made
    works.keys.sign(works.hub.data)
    works.pipeline.does("release", "wait", "pump", "1", "--for", "signed", "--seconds", "120")
    works.anna.does("alias", "set", "pump", "champion", "1", "--reason", "the first")
    first = works.olga.asks("rollout", "start", "pump", "1", "--slot", "main", "--canary", "0",
                            "--selector", "site=works", "--min-soak-seconds", "0")  # fmt: skip
    works.wait("version 1 serves", lambda: rolled_out(works, first["id"]))
    works.say("version 1 is signed off-line and serves both pumps")


def rolled_out(works: Works, number: int) -> bool:
    found = works.api.get(f"/rollouts/{number}")
    assert found["state"] in {"running", "completed"}, found["reason"]
    return bool(found["state"] == "completed")


def drift_opens_a_loop(works: Works) -> None:
    works.feed()
    time.sleep(QUIET_SECONDS)  # what is normal is seen first
    assert not works.drift_alerts()
    assert not works.olga.asks("loop", "list")
    for pump in works.pumps:
        pump.replace()
    works.say("both pumps are replaced")
    works.wait("alerts of both", lambda: {a["device"] for a in works.drift_alerts()} == {*SHIFTS})
    works.say(f"alerts: {', '.join(alert['title'] for alert in works.drift_alerts())}")
    works.wait("a loop opens", lambda: [*works.api.pages("/loops")])
    loop = works.loop(1, "wanted")
    assert loop["opened_by"] == "hub"
    assert loop["detail"]["alerts"]
    works.say(f"loop 1 is opened by the hub ({loop['cause']}); it waits for somebody to approve it")


def rows_come_and_are_labelled(works: Works) -> None:
    features = [word for name in COLUMNS for word in ("--feature", name)]
    works.olga.does("sampling", "begin", "pump", "1", *features, "--rows-per-day", "24000",
                    "--strata", "random,by_class", "--where", "site=works", "--days", "1",
                    "--reason", "new pumps")  # fmt: skip
    most = 2 * ROWS_OF_EACH
    works.wait("rows", lambda: works.api.get("/sampling/1")["rows"] >= most)
    works.olga.does("sampling", "end", "1", "--reason", "enough", "--yes")
    works.olga.does("sampling", "download", "1", "-o", works.folder / "unlabelled.jsonl")
    samples = [json.loads(line) for line in (works.folder / "unlabelled.jsonl").open()]
    with (works.folder / "labels.csv").open("w") as file:
        file.write("sha256,label\n")
        for sample in samples:
            row = (sample["features"][name] for name in COLUMNS)
            file.write(f"{sample['sha256']},{state_of(sample['device'], row)}\n")
    works.olga.does("sampling", "label", "1", works.folder / "labels.csv")
    works.say(f"{len(samples)} rows came under a signed policy, and a person labelled them")


def a_bad_candidate_is_stopped(works: Works, number: int, how: str, gate: str) -> None:
    works.retrain(how)
    works.otto.does("loop", "approve", number)
    works.say(f"loop {number} is approved; Airflow trains {how}")
    failed = works.loop(number, "failed")
    assert gate in failed["reason"], (failed["reason"], works.airflow.said())
    assert failed["run"] == f"muster-loop-{number}"
    works.say(f"loop {number} failed: {failed['reason']}")
    refused = works.olga.attempt("loop", "start", "pump")
    assert refused.returncode == 1
    assert "cooling down" in refused.stderr
    assert works.keys.sign(works.hub.data) == "", "nobody may even be asked to sign it"
    over = failed["ended"] + COOLDOWN_SECONDS
    works.wait("the cool-down's end", lambda: time.time() > over)
    works.olga.does("loop", "start", "pump", "--reason", f"better than loop {number}")


def a_good_candidate_is_released(works: Works, number: int) -> str:
    works.retrain("with care")
    works.otto.does("loop", "approve", number)
    works.say(f"loop {number} is approved; Airflow trains with care")
    version: str = works.loop(number, "signing")["version"]
    signed = works.keys.sign(works.hub.data)
    assert f"pump/{version}" in signed or version in signed, signed
    works.say(f"version {version} passed the gates; a person signed off-line: {signed.strip()}")
    works.loop(number, "rollout")
    (works.folder / "plan.json").write_text(json.dumps(PLAN))
    started = works.otto.asks("rollout", "start", "pump", version, "--plan",
                              works.folder / "plan.json")  # fmt: skip
    works.wait("the rollout's end", lambda: rolled_out(works, started["id"]))
    explained = works.otto.asks("rollout", "explain", started["id"])
    steps = " ".join(step["reason"] for step in explained["history"])
    assert "hadow passed" in steps, steps
    closed = works.loop(number, "closed")
    assert closed["rollout"] == started["id"]
    works.anna.does("alias", "set", "pump", "champion", version, "--reason", f"loop {number}")
    works.say(f"shadow and canary passed, rolled out; loop {number} is closed")
    return version


def accuracy_is_back(works: Works, version: str) -> None:
    def judged() -> bool:
        return all(pump.tally.answers.get(version, 0) >= 150 for pump in works.pumps)

    works.wait("answers of the new version", judged)
    before, after = works.accuracy("1"), works.accuracy(version)
    works.say(f"accuracy on labelled answers: {before:.1%} by version 1, {after:.1%} by {version}")
    assert before < 0.8
    assert after > 0.95

    def at_hub() -> bool:
        found = [works.api.get(f"/devices/{name}/counts")["label_accuracy"] for name in SHIFTS]
        own = [each.get(f"pump/{version}") for each in found]
        return all(each and each["labels"] >= 40 and each["accuracy"] > 0.95 for each in own)

    works.wait("the hub has counted the labels", at_hub)


def the_record_answers_an_auditor(works: Works, version: str, loop: int) -> None:
    today = datetime.now(UTC).date()
    out = works.folder / "record"
    works.anna.does("audit", "export", "pump-1", "--since", today - timedelta(1), "--until",
                    today + timedelta(1), "-o", out)  # fmt: skip
    targets = max((works.hub.data / "tuf").glob("*.targets.json"), key=lambda p: p.stat().st_mtime)
    run([program("muster-hub"), "record-verify", str(out / "record.jsonl"),
         "--targets", str(targets)])  # fmt: skip
    lines = [json.loads(line) for line in (out / "record.jsonl").open()]

    def of(kind: str, **fields: object) -> list[dict[str, Any]]:
        return [line for line in lines if line["kind"] == kind and fields.items() <= line.items()]

    # Ran where, until when.
    (old,), (new,) = of("ran", version="1"), of("ran", version=version)
    assert old["until"] == new["from"]
    assert new["until"] is None
    # What, on which data, judged how.
    (what,) = of("version", version=version)
    digest = hashlib.sha256((works.home / "rows.csv").read_bytes()).hexdigest()
    assert digest in what["data"]
    assert what["pushed_by"] == "token:pipeline"
    assert {"fairness accuracy by device", "metric accuracy"} <= {g["gate"] for g in what["gates"]}
    assert all(gate["ok"] for gate in what["gates"])
    (rows,) = of("sampling")
    assert (rows["begun_by"], rows["reason"]) == ("token:olga", "new pumps")
    assert rows["rows_of_device"] >= 100
    # Why, approved by whom, and what became of the others.
    first, second, third = of("loop")
    assert (first["opened_by"], first["state"], second["state"]) == ("hub", "failed", "failed")
    assert set(first["alerts"]) & {alert["alert"] for alert in of("alert", what="drift")}
    assert (third["loop"], third["state"], third["candidate"]) == (loop, "closed", version)
    assert third["approved_by"] == "token:otto"
    acts = {(act["who"], act["did"], act["to"]) for act in of("act")}
    assert {
        ("token:otto", "loop.approve", f"loop/{loop}"),
        ("token:olga", "sampling.begin", "sampling/1"),
        ("token:olga", "sampling.label", "sampling/1"),
        ("token:otto", "rollout.start", f"rollout/{third['rollout']}"),
        ("token:pipeline", "version.push", f"pump/{version}"),
    } <= acts, acts
    (published,) = of("act", did="version.published", to=f"pump/{version}")
    assert "release.key" in published["detail"]["signed_by"].values()
    (rollout,) = of("rollout", version=version)
    assert rollout["started_by"] == "otto"
    page = (out / "record.html").read_text()
    assert "Retraining: why, who approved it" in page
    works.say(f"the record of pump-1: {len(lines)} signed lines, verified without the hub")


def test_from_drift_to_a_better_model_and_to_the_auditor(works: Works) -> None:
    works.say("hub, broker, two agents; Airflow starts")
    first_release(works)
    drift_opens_a_loop(works)
    rows_come_and_are_labelled(works)
    works.airflow.wait()
    a_bad_candidate_is_stopped(works, 1, "on one pump only", "gate fairness accuracy by device")
    a_bad_candidate_is_stopped(works, 2, "with labels out of step", "gate metric accuracy")
    version = a_good_candidate_is_released(works, 3)
    accuracy_is_back(works, version)
    faults = [fault for pump in works.pumps for fault in pump.tally.faults]
    assert not faults
    the_record_answers_an_auditor(works, version, 3)
    works.say("STORY OK")
