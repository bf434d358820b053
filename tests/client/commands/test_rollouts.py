"""`muster rollout plan` and `explain` against a real hub."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from muster_client.app import app
from muster_client.failures import Exit, OperatorError
from muster_hub.fleet.fleet import Fleet
from muster_hub.rollouts.step import Rollouts
from muster_hub.storage.models import Device, Model, Rollout, SwapGrant, Version
from support.hub_kit import Kit, open_kit

START = ("digits", "1", "--slot", "vision", "--canary", "1")


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    made = open_kit(tmp_path)
    with made.hub.store.write() as session:
        session.add(Model(name="digits", created=1))
        session.add_all(
            Device(id=f"cam-{number}", labels={"line": "2"}, created=1, online=True)
            for number in range(3)
        )
        session.flush()
        session.add(
            Version(
                model="digits", version="1", manifest_sha256="d1", manifest=b"{}",
                status="published", size_bytes=2046, created=1, created_by="test",
            )
        )  # fmt: skip
    yield made
    made.close()


def muster(kit: Kit, *arguments: str):
    token = kit.as_("operator")["Authorization"].removeprefix("Bearer ")
    return CliRunner().invoke(app, ["--hub", str(kit.http.base_url), "--token", token, *arguments])


def shown(kit: Kit, *arguments: str) -> str:
    ended = muster(kit, *arguments)
    assert ended.exit_code == 0, ended.output or ended.exception
    return " ".join(ended.stdout.split())


def muster_json(kit: Kit, *arguments: str):
    ended = muster(kit, *arguments, "--json")
    assert ended.exit_code == 0, ended.output or ended.exception
    return json.loads(ended.stdout)


def engine_decides(kit: Kit) -> None:
    """One step of the rollouts, as the hub's engine makes it."""
    with kit.hub.store.write() as session:
        fleet = Fleet()
        changed = fleet.follow(session, kit.clock())
        Rollouts().step(session, fleet.known, changed, kit.clock(), 300.0)


def plan_file(directory: Path, **fields: object) -> str:
    file = directory / "plan.json"
    file.write_text(json.dumps(fields))
    return str(file)


def never_today(kit: Kit) -> dict[str, object]:
    """A window that is closed now and an hour around it."""
    days = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
    today = datetime.fromtimestamp(kit.clock(), UTC).weekday()
    return {"start": "10:00", "end": "11:00", "days": [days[(today + 3) % 7]], "time_zone": "UTC"}


def test_a_plan_tells_who_is_asked_how_many_bytes_and_what_binds(kit, tmp_path):
    file = plan_file(
        tmp_path,
        budgets=[{"group_by": ["line"], "max_unavailable": 1}],
        windows=[never_today(kit)],
    )
    text = shown(kit, "rollout", "plan", *START, "--plan", file)
    assert "devices 3, 0 of them offline now" in text
    assert "bytes for a device at most 2.0 KiB" in text
    assert "bytes over all devices at most 6.0 KiB" in text
    assert "pace limited by the budget of line=2: 1 of 3 at once, 3 rounds" in text
    assert "line=2 3 1 3" in text
    assert "canary 1 0 60 s no cam-" in text
    assert "could not swap now: 3 (" in text
    assert "window" in text.split("could not swap now", 1)[1]


def test_a_plan_starts_nothing_and_is_what_start_would_do(kit):
    found = muster_json(kit, "rollout", "plan", *START)
    assert muster_json(kit, "rollout", "list") == []
    view = muster_json(kit, "rollout", "start", *START)
    assert [wave["name"] for wave in view["waves"]] == [wave["name"] for wave in found["waves"]]
    assert view["plan"]["canary"] == 1


def test_a_shadow_is_planned_started_watched_and_passed_by_hand(kit):
    text = shown(kit, "rollout", "plan", *START, "--shadow", "2")
    assert "watch it in shadow cam-" in text
    assert "shadow and soaking take 3660 s at least" in text
    view = muster_json(kit, "rollout", "start", *START, "--shadow", "67%")
    assert view["plan"]["shadow"]["devices"] == 0.67
    engine_decides(kit)
    text = shown(kit, "rollout", "status", "1")
    assert "will watch it beside what they run" in text
    assert "DEVICE COMPARED DIFFERENT" in text
    passed = muster_json(kit, "rollout", "advance", "1", "--yes")
    assert passed["shadow"]["action"] == "advance"
    assert "passed by hand" in passed["shadow"]["reason"].lower()


def test_an_experiment_is_planned_started_watched_and_passed_by_hand(kit):
    text = shown(kit, "rollout", "plan", *START, "--experiment", "50%")
    assert "experiment 1 0 86400 s no cam-" in text
    view = muster_json(kit, "rollout", "start", *START, "--experiment", "0.5")
    assert view["plan"]["experiment"]["share"] == 0.5
    assert view["experiment"] is None
    engine_decides(kit)
    text = shown(kit, "rollout", "status", "1")
    assert "experiment not enough evidence; 1 devices with it (B), 1 without (A)" in text
    assert "nothing compared yet" in text
    with kit.hub.store.write() as session:
        row = session.get_one(Rollout, 1)
        effect = {"metric": "errors", "unit": "ratio", "effect": 1.98, "low": 1.5, "high": 2.61}
        row.judged = row.judged | {
            "experiment": row.judged["experiment"]
            | {"outcome": "worse", "reason": "B is worse.", "effects": [effect]}
        }
        session.add(row)
    view = muster_json(kit, "rollout", "status", "1")
    assert (view["experiment"]["a"], view["experiment"]["b"]) == (1, 1)
    assert view["experiment"]["effects"] == [effect]
    assert "errors ratio 1.98 1.5 2.61" in shown(kit, "rollout", "status", "1")
    muster_json(kit, "rollout", "advance", "1", "--yes")


@pytest.mark.parametrize("share", ["3", "60%", "0", "half"])
def test_an_experiment_on_more_than_half_is_refused_before_anything_is_sent(kit, share):
    ended = muster(kit, "rollout", "start", *START, "--experiment", share)
    assert isinstance(ended.exception, OperatorError)
    assert ended.exception.code == Exit.USAGE
    assert "up to one half (0.5 or 50%)" in str(ended.exception)


def test_start_follows_the_plan_of_a_file(kit, tmp_path):
    file = plan_file(tmp_path, model="digits", version="1", canary=2, in_flight_max=1)
    view = muster_json(kit, "rollout", "start", "digits", "1", "--plan", file)
    assert (view["plan"]["canary"], view["plan"]["in_flight_max"]) == (2, 1)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not a readable plan"),
        ("[]", "one JSON object"),
        ('{"version": "2"}', "version is '2' there and '1' on the command line"),
    ],
)
def test_a_plan_that_cannot_be_meant_is_refused_before_anything_is_sent(kit, tmp_path, text, says):
    file = tmp_path / "plan.json"
    file.write_text(text)
    ended = muster(kit, "rollout", "plan", *START, "--plan", str(file))
    assert isinstance(ended.exception, OperatorError)
    assert ended.exception.code == Exit.USAGE
    assert says in str(ended.exception)


def test_a_wave_is_approved_and_passed_by_hand(kit, tmp_path):
    file = plan_file(tmp_path, approve_start=True, canary=1)
    number = str(muster_json(kit, "rollout", "start", "digits", "1", "--plan", file)["id"])
    muster_json(kit, "rollout", "approve", number)
    muster_json(kit, "rollout", "advance", number, "--yes")
    text = shown(kit, "rollout", "explain", number)
    assert "by a-operator" in text
    with kit.hub.store.read() as session:
        row = session.get_one(Rollout, int(number))
        assert (row.approved, row.advanced) == (0, 0)


def test_nothing_is_rolled_back_unless_somebody_says_yes(kit):
    number = str(muster_json(kit, "rollout", "start", *START)["id"])
    ended = muster(kit, "rollout", "rollback", number)
    assert isinstance(ended.exception, OperatorError)
    assert ended.exception.code == Exit.USAGE
    assert "say --yes" in str(ended.exception)
    assert muster_json(kit, "rollout", "status", number)["state"] == "running"
    assert muster_json(kit, "rollout", "rollback", number, "--yes")["state"] != "running"


def test_watching_a_rollout_that_was_aborted_fails_and_says_why(kit):
    number = str(muster_json(kit, "rollout", "start", *START)["id"])
    muster_json(kit, "rollout", "abort", number, "--yes")
    ended = muster(kit, "rollout", "watch", number)
    assert isinstance(ended.exception, OperatorError)
    assert ended.exception.code == Exit.REFUSED
    assert f"rollout {number} aborted: Aborted by a-operator" in str(ended.exception)


def test_explain_tells_each_step_and_who_waits_for_leave(kit):
    number = muster_json(kit, "rollout", "start", *START)["id"]
    muster_json(kit, "rollout", "pause", str(number))
    with kit.hub.store.write() as session:
        manifest = session.get_one(Rollout, number).manifest
        common = {
            "slot": "vision", "nonce": "n", "manifest": manifest, "generation": 1, "asked_at": 9.0
        }  # fmt: skip
        session.add(SwapGrant(device="cam-0", given_at=9.0, given_manifest=manifest, **common))
        session.add(SwapGrant(device="cam-1", reason="the budget of line=2 is spent", **common))
    text = shown(kit, "rollout", "explain", str(number))
    steps = [text.rindex(word) for word in ("Started by a-operator", "Paused by a-operator")]
    assert "cam-0 may swap since 1970-01-0" in text or "cam-0 may swap since 1969-12-31" in text
    assert "cam-1 waits: the budget of line=2 is spent" in text
    found = muster_json(kit, "rollout", "explain", str(number))
    assert found["history"][0]["reason"].startswith("Started")
    assert [permit["device"] for permit in found["permits"]] == ["cam-0", "cam-1"]
    assert steps == sorted(steps)
