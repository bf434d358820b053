"""Experiments on real databases: B gets the release, A doesn't, and what windows say of both."""

from pathlib import Path

import pytest

from muster_hub.rollouts import commands
from support.windows_fleet import GATE, WINDOW, Fleet

EXPERIMENT = {"share": 0.5, "match": ["line"], "min_seconds": 2 * WINDOW, "looks": 16}


@pytest.fixture
def fleet(tmp_path: Path, database: str):
    fleet = Fleet(tmp_path, database)
    yield fleet
    fleet.close()


def begun(fleet: Fleet, **more: float) -> tuple[int, list[str]]:
    """The rollout's number and who has the release: half of each line."""
    number = fleet.start("2", experiment=EXPERIMENT | more, gate=GATE)
    fleet.tick()
    b = fleet.all_report("2")
    fleet.tick()
    return number, b


def act(fleet: Fleet, action, number: int) -> None:
    with fleet.store.write() as session:
        action(session, number, by="test", now=fleet.now)


def until_settled(fleet: Fleet, number: int, harm: float) -> dict:
    for _ in range(16):
        fleet.windows(lambda version: harm if version == "2" else 1.0)
        fleet.tick()
        view = fleet.view(number)
        if view["experiment"]["outcome"] != "not enough evidence":
            break
    return view


def test_a_release_that_fails_twice_as_often_is_worse_and_b_goes_back(fleet: Fleet):
    number, b = begun(fleet)
    assert len(b) == 44, "22 pairs of 45 devices in each line"
    assert [sum(int(name[1:]) % 2 == line for name in b) for line in (0, 1)] == [22, 22]
    view = until_settled(fleet, number, 2.0)
    assert (view["state"], view["experiment"]["outcome"]) == ("stopped", "worse")
    assert "B is worse. Stopped: errors" in view["reason"]
    shown = view["experiment"]
    assert (shown["a"], shown["b"]) == (44, 44)
    (errors,) = [effect for effect in shown["effects"] if effect["metric"] == "errors"]
    assert 1.0 < errors["low"] < errors["effect"] < errors["high"]
    fleet.tick()
    assert fleet.versions() == dict.fromkeys(fleet.names, "1")


def test_a_release_that_is_alike_waits_with_its_verdict_until_an_operator_advances(fleet: Fleet):
    number, b = begun(fleet)
    view = until_settled(fleet, number, 1.0)
    assert view["experiment"]["outcome"] == "no difference"
    assert view["experiment"]["reason"].endswith("Waiting for an operator: advance, or roll back.")
    for _ in range(20):
        fleet.windows(lambda _: 1.0)
        fleet.tick()
    view = fleet.view(number)
    assert (view["state"], view["wave"]) == ("running", 0)
    assert view["experiment"]["outcome"] == "no difference", "a verdict stays"
    assert sorted(fleet.states(number)) == sorted(b)
    act(fleet, commands.advance_rollout, number)
    for _ in range(2):
        fleet.tick()
        fleet.all_report("2")
    fleet.tick()
    assert fleet.rollout(number).state == "completed"
    assert fleet.versions() == dict.fromkeys(fleet.names, "2")
    assert fleet.view(number)["experiment"]["outcome"] == "no difference", "and is kept"


def test_a_better_release_is_told_and_an_operator_may_still_take_it_back(fleet: Fleet):
    number, _ = begun(fleet)
    view = until_settled(fleet, number, 0.4)
    assert (view["state"], view["experiment"]["outcome"]) == ("running", "better")
    act(fleet, commands.abort_rollout, number)
    fleet.tick()
    assert fleet.rollout(number).state == "aborted"
    assert fleet.versions() == dict.fromkeys(fleet.names, "1")


def test_whoever_joins_or_is_relabelled_is_in_neither_arm_while_it_runs(fleet: Fleet):
    number, b = begun(fleet)
    before = fleet.rollout(number).judged["experiment"]
    fleet.change(b[0], labels={"line": "z"})
    fleet.change(before["a"][0], labels={"line": "z"})
    until_settled(fleet, number, 2.0)
    after = fleet.rollout(number).judged["experiment"]
    assert (after["a"], after["b"]) == (before["a"], before["b"])


def test_the_last_look_comes_no_sooner_than_the_time_that_the_experiment_has_to_last(fleet: Fleet):
    number, _ = begun(fleet, min_seconds=9.5 * WINDOW, looks=2)
    view = until_settled(fleet, number, 1.0)
    assert view["experiment"]["outcome"] == "no difference"
    assert fleet.rollout(number).judged["look"] == 10


def test_when_the_last_look_has_passed_undecided_it_says_so_and_goes_on_waiting(fleet: Fleet):
    number, b = begun(fleet, share=0.1, min_seconds=0, looks=2)
    assert len(b) == 8, "too few to tell more than harm"
    for _ in range(3):
        fleet.windows(lambda _: 1.0)
        fleet.tick()
    view = fleet.view(number)
    assert view["experiment"]["outcome"] == "not enough evidence"
    assert "The last look has passed. Waiting for an operator" in view["reason"]
    assert (view["state"], view["wave"]) == ("running", 0)
