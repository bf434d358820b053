"""Experiments: who takes part, what is found in either direction, and that people decide."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_hub.rollouts.experiments import Arms, ExperimentPlan, judge_experiment, mirrored
from muster_hub.rollouts.gates.judge import Gate, Verdict, judge
from muster_hub.rollouts.gates.look import Rates
from muster_hub.rollouts.gates.metrics.errors import RULE as ERRORS
from muster_hub.rollouts.gates.metrics.missing_windows import RULE as MISSING
from muster_hub.rollouts.members import Judged, Member, StagedRollout
from muster_hub.rollouts.plan import CANARY, Plan, read_plan, stages
from muster_hub.rollouts.targets import arms_of, draw_arms, targets
from muster_protocol.wire.errors import ProtocolError
from support.gates_samples import evidence, rates
from support.rollout_world import BAD, DONE, World

HALF = ExperimentPlan(share=0.5, match=("site",), min_seconds=600.0)


# Who takes part


def rollout(share=0.5, match=("site",), number=3):
    plan = Plan(experiment=ExperimentPlan(share=share, match=match))
    return StagedRollout(id=number, state="running", wave=CANARY, plan=plan)


def group_of(members, names):
    sites = [member.labels["site"] for member in members if member.device in names]
    return {site: sites.count(site) for site in sites}


fleets = st.lists(
    st.tuples(st.sampled_from("abcde"), st.booleans(), st.booleans()), max_size=40
).map(
    lambda rows: [
        Member(device=f"d{number:02}", labels={"site": site}, online=online, matches=matches)
        for number, (site, online, matches) in enumerate(rows)
    ]
)


shares = st.sampled_from([0.5, 0.5, 0.1]) | st.floats(0.01, 0.5)


@given(members=fleets, share=shares, number=st.integers(1, 50))
def test_arms_are_pairs_within_each_group_and_nobody_is_in_both(members, share, number):
    drawn = draw_arms(rollout(share, number=number), members)
    assert not set(drawn.a) & set(drawn.b)
    assert {*drawn.a, *drawn.b} <= {member.device for member in members if member.matches}
    sizes = group_of(
        [member for member in members if member.matches], {member.device for member in members}
    )
    pairs = group_of(members, drawn.b)
    assert pairs == group_of(members, drawn.a)
    for site, size in sizes.items():
        got = pairs.get(site, 0)
        assert min(size // 2, 1) <= got <= size // 2
        assert abs(got - share * size) <= 1


@given(members=fleets, data=st.data())
def test_arms_are_alike_in_whatever_order_and_state_devices_come(members, data):
    shuffled = data.draw(st.permutations(members))
    turned = [replace(item, online=not item.online) for item in shuffled]
    assert draw_arms(rollout(), turned) == draw_arms(rollout(), members)


def test_another_experiment_draws_other_arms_and_one_that_began_keeps_its_own():
    members = [Member(device=f"d{n}", labels={}, online=True) for n in range(40)]
    assert draw_arms(rollout(number=3), members) != draw_arms(rollout(number=4), members)
    begun = replace(rollout(), arms=Arms(a=("d1",), b=("d2",)))
    assert arms_of(begun, members) == begun.arms
    assert targets(begun, members) == ("d2",)


def test_strata_match_where_the_experiment_names_no_label():
    plan = Plan(strata=("site",), experiment=ExperimentPlan())
    assert plan.groups == ("site",)
    assert Plan(strata=("site",), experiment=ExperimentPlan(match=("line",))).groups == ("line",)


def test_an_experiment_takes_the_canarys_place_and_has_a_gate():
    plan = read_plan({"experiment": {"share": 0.25}})
    assert plan.gate is not None
    assert [stage.name for stage in stages(plan)] == ["experiment", "all"]
    with pytest.raises(ProtocolError, match=r"<= 0.5 - at `\$.experiment.share`"):
        read_plan({"experiment": {"share": 0.6}})


# What is found


GATE = Gate(metrics=(ERRORS,))


def found(seed=1, *, arms=40, gate=GATE, more=None, **options):
    arguments = {key: options.pop(key) for key in ("look", "soaked", "canaries") if key in options}
    data = {"errors": rates(seed, canaries=arms, controls=arms, **options)} | (more or {})
    return judge_experiment(
        gate, evidence(data, canaries=arguments.pop("canaries", arms), **arguments)
    )


def test_a_release_that_fails_twice_as_often_is_worse_and_stops():
    result = found(factor=2.0)
    assert (result.action, result.outcome) == ("stop", "worse")
    assert result.reason.startswith("B is worse. Stopped: errors")
    (effect,) = result.effects
    assert 1.0 < effect.low < effect.effect < effect.high
    assert effect.low < 2.0 < effect.high


def test_harm_stops_before_the_experiments_time_and_nothing_else_is_told_by_then():
    assert found(factor=2.0, soaked=False).action == "stop"
    early = found(factor=0.4, soaked=False)
    assert (early.action, early.outcome) == ("wait", "not enough evidence")
    assert "last longer" in early.reason


def test_a_release_that_fails_half_as_often_is_better_and_waits_for_an_operator():
    result = found(factor=0.5)
    assert (result.action, result.outcome) == ("wait", "better")
    assert result.reason.startswith("B is better: errors 0.")
    assert result.effects[0].high < 1.0


def test_a_release_that_is_alike_makes_no_difference():
    result = found(spread=0.2, hours=48)
    assert (result.action, result.outcome) == ("wait", "no difference")
    assert result.reason.startswith("No difference larger than the margin: errors ")
    assert result.effects[0].low < 1.0 < result.effects[0].high


def test_too_little_evidence_is_told_as_such_never_as_no_difference():
    few = found(arms=12)
    assert few.outcome == "not enough evidence"
    assert "20" in few.reason, "how many devices it takes"
    short = found(hours=1, per_hour=5)
    assert (short.action, short.outcome) == ("wait", "not enough evidence")
    between = found(factor=0.5, look=95)
    assert between.outcome == "not enough evidence", "only harm is told between checkpoints"


def test_better_in_one_metric_is_not_better_where_another_is_worse_or_unknown():
    both = Gate(metrics=(ERRORS, MISSING))
    worse = {"missing windows": rates(2, canaries=40, controls=40, factor=2.0, rate=0.1)}
    assert found(factor=0.5, gate=both, more=worse).outcome == "worse"
    assert found(factor=0.5, gate=both).outcome == "not enough evidence"


def test_mirrored_evidence_changes_the_arms_and_leaves_installs_out():
    data = {"errors": rates(1, canaries=20, controls=40)}
    mirrored_evidence = mirrored(evidence(data))
    swapped = mirrored_evidence.data["errors"]
    assert isinstance(swapped, Rates)
    assert (swapped.canary, swapped.control) == (data["errors"].control, data["errors"].canary)
    assert mirrored_evidence.installs is None
    assert isinstance(judge(GATE, mirrored_evidence), Verdict)


# That people decide


def experiment(count=12, **more):
    world = World(count, experiment=HALF, **more)
    world.step()
    world.rollout = replace(
        world.rollout, arms=draw_arms(world.rollout, list(world.members.values()))
    )
    return world


def judged(world, action, reason):
    world.rollout = replace(
        world.rollout, judged=Judged(wave=world.rollout.wave, action=action, reason=reason)
    )


def test_only_b_gets_the_release_however_long_it_waits():
    world = experiment()
    world.observe(DONE, *world.reached())
    judged(world, "wait", "B is better. Waiting for an operator: advance, or roll back.")
    for _ in range(20):
        world.step(86_400.0)
    assert tuple(world.reached()) == world.rollout.arms.b
    assert len(world.reached()) == 6
    assert (world.decision.why, world.rollout.wave) == ("experiment", CANARY)
    assert world.reason.endswith("Waiting for an operator: advance, or roll back.")


def test_an_operator_who_advances_brings_it_to_all_others_arm_a_too():
    world = experiment(13)
    world.observe(DONE, *world.reached())
    world.rollout = replace(world.rollout, advanced=CANARY)
    for _ in range(3):
        world.step()
        world.observe(DONE, *world.reached())
    assert len(world.reached()) == 13
    assert world.rollout.state == "completed"


def test_harm_takes_b_back_and_a_never_had_it():
    world = experiment()
    world.observe(DONE, *world.reached())
    world.step()
    judged(world, "stop", "B is worse.")
    world.step()
    assert world.rollout.state == "stopped"
    assert world.states() == dict.fromkeys(world.rollout.arms.b, "withdrawn")


def test_an_experiment_all_of_whose_devices_fail_stops():
    world = experiment(failures_allowed=99)
    world.observe(BAD, *world.reached())
    world.step()
    assert world.rollout.state == "stopped"


def test_who_joins_later_is_in_neither_arm():
    world = experiment()
    arms = world.rollout.arms
    world.members["new"] = Member(device="new", labels={"site": "a"}, online=True)
    world.observe(DONE, *world.reached())
    for _ in range(3):
        world.step()
    assert tuple(world.reached()) == arms.b
    assert "new" not in arms.a


def test_where_no_group_has_two_devices_it_says_why_nobody_is_asked():
    world = World(2, experiment=HALF)
    world.step()
    assert world.reached() == []
    assert "no two matching devices are alike in site" in world.reason
