"""Waves by share and label, holdback, approvals and gates: what passes, and what never does."""

from dataclasses import replace

import msgspec
import pytest

from muster_hub.rollouts.gates.plan import GatePlan
from muster_hub.rollouts.members import Judged, Member
from muster_hub.rollouts.plan import Plan, Wave, read_plan, stages
from muster_protocol.wire.errors import ProtocolError
from support.rollout_world import BAD, DONE, World


def go_on(world: World, steps: int = 3) -> None:
    for _ in range(steps):
        world.observe(DONE, *world.reached())
        world.step()


def judged(world: World, action: str, reason: str = "because.") -> None:
    verdict = Judged(wave=world.rollout.wave, action=action, reason=reason)
    world.rollout = replace(world.rollout, judged=verdict)


def test_waves_by_share_count_those_reached_before():
    world = World(20, canary=2, min_soak_seconds=0, waves=(Wave(share=0.25), Wave(share=0.5)))
    sizes = []
    for _ in range(12):
        world.step()
        if len(world.reached()) not in sizes:
            sizes.append(len(world.reached()))
        world.observe(DONE, *world.reached())
    assert sizes == [2, 5, 10, 20]
    assert world.rollout.state == "completed"


def test_a_wave_by_label_reaches_only_its_devices_and_an_empty_one_passes():
    world = World(
        8, canary=0, min_soak_seconds=0,
        waves=(Wave(selector="site=a", name="hall A"), Wave(selector="site=moon")),
    )  # fmt: skip
    world.step()
    assert {world.members[name].labels["site"] for name in world.reached()} == {"a"}
    assert world.reason.startswith("Wave 2 of 4 (hall A): 0 of 4 committed")
    go_on(world)
    assert len(world.reached()) == 8


def test_each_wave_soaks_for_its_own_time():
    world = World(8, canary=0, min_soak_seconds=5, waves=(Wave(share=0.5, soak_seconds=100),))
    world.step()
    go_on(world, 1)
    assert "soaking for 100 s more" in world.reason
    world.step(99)
    assert len(world.reached()) == 4
    world.step(1)
    assert len(world.reached()) == 8


def test_held_back_devices_come_last():
    world = World(10, canary=2, min_soak_seconds=0, holdback=3)
    world.step()
    go_on(world, 1)
    assert len(world.reached()) == 7
    go_on(world, 1)
    assert len(world.reached()) == 10
    assert stages(world.rollout.plan)[-1].name == "holdback"


def test_it_waits_for_approval_before_it_begins_and_before_a_wave():
    world = World(
        8, canary=2, min_soak_seconds=0, approve_start=True, waves=(Wave(share=0.5, approve=True),)
    )
    world.step()
    assert world.reached() == []
    assert world.reason == ("Wave 1 of 3 (canary): waiting for an operator's approval to begin.")
    world.rollout = replace(world.rollout, approved=0)
    world.step()
    assert len(world.reached()) == 2
    go_on(world)
    assert len(world.reached()) == 2
    assert "Wave 2 of 3 (50%): waiting for an operator's approval" in world.reason
    world.rollout = replace(world.rollout, approved=1)
    go_on(world)
    assert len(world.reached()) == 8


def test_approval_before_the_start_holds_a_rollout_without_a_canary_too():
    world = World(4, canary=0, approve_start=True)
    world.step()
    assert (world.reached(), world.decision.why) == ([], "approval")


def test_nothing_passes_a_gate_that_has_not_said_so():
    world = World(8, canary=2, min_soak_seconds=0, gate=GatePlan())
    world.step()
    go_on(world)
    assert "the gate has not looked yet" in world.reason
    judged(world, "wait", "Not enough evidence: nothing received yet about errors.")
    go_on(world)
    assert "at the gate: Not enough evidence: nothing received yet" in world.reason
    assert len(world.reached()) == 2
    judged(world, "advance")
    go_on(world)
    assert len(world.reached()) == 8


def test_the_word_of_an_earlier_wave_does_not_open_the_gate_of_this_one():
    world = World(12, canary=2, min_soak_seconds=0, gate=GatePlan(), waves=(Wave(share=0.5),))
    world.step()
    go_on(world, 1)
    judged(world, "advance")
    go_on(world)
    assert len(world.reached()) == 6
    assert world.decision.why == "gate"


def test_a_gate_that_stops_withdraws_the_release_even_while_paused():
    world = World(8, canary=2, gate=GatePlan())
    world.step()
    go_on(world, 1)
    world.rollout = replace(world.rollout, state="paused")
    judged(world, "stop", "Stopped: errors 2.1×.")
    world.step()
    assert world.rollout.state == "stopped"
    assert set(world.states().values()) == {"withdrawn"}
    assert world.reason == "Stopped in wave 1 of 2 (canary) by its gate. Stopped: errors 2.1×."


def test_an_operator_may_pass_a_gate_that_waits_but_not_one_that_stops():
    world = World(8, canary=2, min_soak_seconds=0, gate=GatePlan())
    world.step()
    go_on(world, 1)
    judged(world, "wait")
    world.rollout = replace(world.rollout, advanced=0)
    go_on(world)
    assert len(world.reached()) == 8
    world = World(8, canary=2, min_soak_seconds=0, gate=GatePlan())
    world.step()
    go_on(world, 1)
    judged(world, "stop")
    world.rollout = replace(world.rollout, advanced=0)
    world.step()
    assert world.rollout.state == "stopped"


def test_a_wave_of_allowed_failures_only_is_left_behind():
    world = World(8, canary=0, min_soak_seconds=0, failures_allowed=4, waves=(Wave(share=0.5),))
    world.step()
    world.observe(BAD, *world.reached())
    world.step()
    assert len(world.reached()) == 8


def test_a_device_enrolled_later_is_no_member_when_it_does_not_match():
    world = World(3, canary=0)
    world.step()
    world.members["late"] = Member(device="late", labels={}, online=True, matches=False)
    go_on(world)
    assert world.rollout.state == "completed"
    assert "late" not in world.reached()


@pytest.mark.parametrize(
    "values",
    [{"waves": [{"share": 0}]}, {"waves": [{"selector": "line in"}]}, {"gate": {"looks": 0}}],
)
def test_waves_that_make_no_sense_are_refused(values):
    with pytest.raises(ProtocolError, match="rollout plan"):
        read_plan(values)


def test_a_plan_survives_being_stored():
    plan = Plan(waves=(Wave(share=0.5),), gate=GatePlan(looks=8), holdback=50)
    assert read_plan(msgspec.json.decode(msgspec.json.encode(plan))) == plan
