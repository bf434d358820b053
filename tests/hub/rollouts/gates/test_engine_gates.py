"""Gates over windows that devices sent: stop and roll back, advance, or say what is missing."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from muster_hub.errors import Invalid
from muster_hub.rollouts import commands
from muster_hub.rollouts.gates import readings, replay
from muster_hub.rollouts.gates.plan import GatePlan
from muster_hub.storage import models
from support.hub_engine import SLOT
from support.windows_fleet import GATE, PAST_WINDOWS, WINDOW, Fleet


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path, None)
    yield fleet
    fleet.close()


def test_a_harmful_release_is_stopped_by_its_gate_and_rolled_back(tmp_path: Path, database: str):
    fleet = Fleet(tmp_path, database)
    number = fleet.start("2", canary=24, gate=GATE, strata=["line"])
    fleet.tick()
    asked = fleet.all_report("2")
    assert len(asked) == 24
    for _ in range(8):
        fleet.windows(lambda version: 3.0 if version == "2" else 1.0)
        fleet.tick()
        if fleet.rollout(number).state == "stopped":
            break
    view = fleet.view(number)
    assert view["state"] == "stopped"
    assert "by its gate. Stopped: errors" in view["reason"]
    assert "chance of a false stop" in view["reason"]
    assert fleet.rollout(number).wave == 0
    fleet.tick()
    assert fleet.versions() == dict.fromkeys(fleet.names, "1")
    assert [item["why"] for item in view["history"]][:2] == ["started", "asking"]
    assert view["history"][-1]["why"] == "stopped"
    fleet.close()


def test_a_harmless_release_advances_on_evidence(fleet: Fleet):
    number = fleet.start("2", canary=24, gate=GATE, strata=["line"])
    fleet.tick()
    fleet.all_report("2")
    fleet.tick()
    assert "the gate has not looked yet" in fleet.rollout(number).reason
    looked = []
    for _ in range(16):
        fleet.windows(lambda _: 1.0)
        fleet.tick()
        row = fleet.rollout(number)
        looked.append(row.judged["look"])
        if row.wave == 1:
            break
    assert row.wave == 1
    assert looked == sorted(set(looked)), "one look a window"
    assert any("shown to be no worse" in item["reason"] for item in fleet.view(number)["history"])
    assert set(fleet.versions().values()) == {"2"}


def test_a_canary_that_falls_silent_blinds_the_gate(fleet: Fleet):
    number = fleet.start("2", canary=24, gate=GATE)
    fleet.tick()
    asked = fleet.all_report("2")
    for _ in range(5):
        fleet.windows(lambda _: 1.0, quiet=asked[:8])
        fleet.tick()
    assert "Blind: 8 of 24 devices silent; can't advance" in fleet.rollout(number).reason
    assert fleet.rollout(number).wave == 0


def test_a_gate_tried_on_the_fleets_own_past_stops_next_to_nothing(fleet: Fleet):
    since = fleet.now - PAST_WINDOWS * WINDOW
    with fleet.store.read() as session:
        history = replay.read(
            session, model="digits", selector="", since=since, until=fleet.now,
            window_seconds=WINDOW, strata=("line",),
        )  # fmt: skip
    assert history.errors.events.shape == (90, PAST_WINDOWS)
    assert history.missing.events.sum() == 0
    outcomes = replay.replay(history, GatePlan(), canaries=20, draws=20, seed=1)
    assert [item.metric.name for item in outcomes] == ["errors", "missing windows"]
    assert all(item.false_stops <= 2 for item in outcomes)
    assert "On this fleet's own past errors stopped" in outcomes[0].words
    with fleet.store.read() as session, pytest.raises(Invalid, match="no device has sent windows"):
        replay.read(
            session, model="digits", selector="line=z", since=since, until=fleet.now,
            window_seconds=WINDOW,
        )  # fmt: skip


# What only warns, and what the operator's own systems tell


WARY = GATE | {"metrics": ["errors"]}


def drift(fleet: Fleet, drifting: Callable[[str, str], int]) -> None:
    """Each device's monitor says how many of its ten features drift: ``(device, version)``."""
    with fleet.store.write() as session:
        for name, version in fleet.versions().items():
            manifest = fleet.directive(name).slots[SLOT].champion.manifest
            view = {
                "model": "digits", "version": version,
                "drifting": [f"f{n}" for n in range(drifting(name, version))],
                "calibration": {f"f{n}": "calibrated" for n in range(10)},
            }  # fmt: skip
            session.merge(
                models.DriftState(
                    device=name, manifest=manifest, state=b"", view=view, updated=fleet.now
                )
            )


def looks(fleet: Fleet, number: int, count: int, **counts: Any) -> models.Rollout:
    """``count`` windows pass, with drift or posted values as ``told`` says."""
    for _ in range(count):
        fleet.windows(lambda _: 1.0)
        if "drifting" in counts:
            drift(fleet, counts["drifting"])
        fleet.tick()
    return fleet.rollout(number)


def test_features_that_drift_with_a_release_warn_and_stop_nothing(tmp_path: Path, database: str):
    fleet = Fleet(tmp_path, database)
    number = fleet.start("2", canary=24, gate=WARY, strata=["line"])
    fleet.tick()
    fleet.all_report("2")
    row = looks(fleet, number, 4, drifting=lambda _, version: 6 if version == "2" else 0)
    assert row.state == "running"
    (warning,) = fleet.view(number)["warnings"]
    assert warning.startswith("drifting features ")
    assert "against devices without the release" in warning
    assert "24 of 24 devices are outliers" in warning
    reasons = [item["reason"] for item in fleet.view(number)["history"] if item["why"] == "warning"]
    assert len(reasons) == 1, "said once"
    assert " warns: drifting features " in reasons[0]
    fleet.close()


def test_drift_that_was_asked_to_stop_stops(fleet: Fleet):
    number = fleet.start("2", canary=24, gate=GATE | {"metrics": ["errors", "drift"]})
    fleet.tick()
    fleet.all_report("2")
    row = looks(fleet, number, 2, drifting=lambda _, version: 6 if version == "2" else 0)
    assert row.state == "stopped"
    assert "Stopped: drifting features" in row.reason


def test_drift_of_the_whole_fleet_or_of_one_device_is_no_fault_of_the_release(fleet: Fleet):
    gate = GATE | {"metrics": ["errors", "drift"]}
    number = fleet.start("2", canary=24, gate=gate)
    fleet.tick()
    (sick, *_) = fleet.all_report("2")
    row = looks(fleet, number, 8, drifting=lambda name, _: 9 if name == sick else ord(name[-1]) % 3)
    assert row.state == "running"
    assert fleet.view(number)["warnings"] == []


def test_a_challenger_that_answers_otherwise_too_often_is_told(fleet: Fleet):
    number = fleet.start("2", canary=24, gate=WARY)
    fleet.tick()
    fleet.all_report("2")
    manifest = fleet.rollout(number).manifest
    with fleet.store.write() as session:
        for place, name in enumerate(fleet.names[:20]):
            session.add(
                models.SummaryWindow(
                    device=name, epoch="11" * 8, sequence=1, model="digits", version="2",
                    manifest=manifest, start=fleet.now + 1, seconds=0.0, received=fleet.now,
                    payload=b"", folded=True, compared=1000, disagreed=180 + 5 * place,
                )
            )  # fmt: skip
    row = looks(fleet, number, 2)
    assert row.state == "running"
    (warning,) = fleet.view(number)["warnings"]
    assert warning.startswith("disagreement 23 % on 20 devices, above the 5 % that the plan")


SCRAP = {"name": "scrap rate", "unit": "difference", "margin": 0.02}


def started_with_scrap(fleet: Fleet, **custom: Any) -> int:
    gate = GATE | {"metrics": ["errors"], "custom": [SCRAP | custom]}
    number = fleet.start("2", canary=24, gate=gate)
    own = {name: 0.05 + 0.02 * fleet.rng.random() for name in fleet.names}
    with fleet.store.write() as session:
        for name in fleet.names:
            for hour in range(1, 4):
                session.add(
                    models.MetricValue(
                        rollout=number, metric="scrap rate", device=name,
                        at=fleet.now - 900 * hour, value=own[name],
                    )
                )  # fmt: skip
    fleet.tick()
    fleet.all_report("2")
    fleet.tick()
    fleet.own = own
    return number


def scrap_looks(fleet: Fleet, number: int, count: int, harm: float) -> models.Rollout:
    for _ in range(count):
        fleet.windows(lambda _: 1.0)
        held = fleet.versions()
        with fleet.store.write() as session:
            for name in fleet.names:
                more = harm if held[name] == "2" else 0.0
                session.add(
                    models.MetricValue(
                        rollout=number, metric="scrap rate", device=name, at=fleet.now - 1,
                        value=fleet.own[name] + more + 0.003 * float(fleet.rng.normal()),
                    )
                )  # fmt: skip
        fleet.tick()
        row = fleet.rollout(number)
        if row.state == "stopped" or row.wave == 1:
            break
    return row


def test_a_metric_of_the_operators_own_stops_what_makes_it_worse(tmp_path: Path, database: str):
    fleet = Fleet(tmp_path, database)
    number = started_with_scrap(fleet)
    row = scrap_looks(fleet, number, 8, harm=0.03)
    assert row.state == "stopped"
    assert "Stopped: scrap rate +0.0" in row.reason
    fleet.close()


def test_a_metric_of_the_operators_own_lets_pass_what_keeps_it(fleet: Fleet):
    number = started_with_scrap(fleet)
    row = scrap_looks(fleet, number, 16, harm=0.0)
    assert row.state != "stopped"
    assert row.wave == 1
    reasons = [item["reason"] for item in fleet.view(number)["history"]]
    assert any("errors and scrap rate shown to be no worse" in item for item in reasons)


def test_higher_may_be_the_better_and_warning_all_that_is_wanted(fleet: Fleet):
    number = started_with_scrap(fleet, better="higher", warn=True)
    row = scrap_looks(fleet, number, 4, harm=-0.03)
    assert row.state == "running"
    assert [warning.split()[:2] for warning in fleet.view(number)["warnings"]] == [
        ["scrap", "rate"]
    ]


def test_without_a_value_the_gate_says_what_it_waits_for(fleet: Fleet):
    number = fleet.start("2", canary=24, gate=GATE | {"custom": [SCRAP]})
    fleet.tick()
    fleet.all_report("2")
    row = looks(fleet, number, 2)
    assert "nothing received yet about scrap rate" in row.reason


def test_values_are_dropped_long_after_their_rollout_has_ended(fleet: Fleet):
    number = started_with_scrap(fleet)
    with fleet.store.write() as session:
        readings.forget(session, fleet.now + 1e9)
        assert readings.values_of(session, number) > 0, "while it runs they stay"
        session.get_one(models.Rollout, number).state = "aborted"
        readings.forget(session, fleet.now + readings.VALUES_KEPT_SECONDS - 60)
        assert readings.values_of(session, number) > 0
        readings.forget(session, fleet.now + readings.VALUES_KEPT_SECONDS + 60)
        assert readings.values_of(session, number) == 0


def test_too_few_devices_say_what_would_settle_it_and_wait_for_a_hand(fleet: Fleet):
    number = fleet.start("2", canary=4, gate=GATE)
    fleet.tick()
    fleet.all_report("2")
    for _ in range(2):
        fleet.windows(lambda _: 1.0)
        fleet.tick()
    assert "4 devices in this wave" in fleet.rollout(number).reason
    assert "advance by hand" in fleet.rollout(number).reason
    with fleet.store.write() as session:
        commands.advance_rollout(session, number, by="anna", now=fleet.now)
    fleet.tick()
    assert fleet.rollout(number).wave == 1
    reasons = [item["reason"] for item in fleet.view(number)["history"]]
    assert "Wave 1 passed by hand by anna, without its gate's word." in reasons
