"""Whatever devices, operators, gates and clocks do: budgets hold, gates hold, and it says why.

A state machine over the decisions, with devices that ask for a permit to swap and the hub's memory
as the engine keeps it: what is stored is all that survives a restart.
"""

from dataclasses import replace
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from muster_hub.rollouts import permits
from muster_hub.rollouts.budgets import Budget, BudgetUnit, unsatisfiable
from muster_hub.rollouts.experiments import ExperimentPlan
from muster_hub.rollouts.gates.plan import GatePlan
from muster_hub.rollouts.members import Judged
from muster_hub.rollouts.permits import Goal, Permit, PermitRequest
from muster_hub.rollouts.plan import CANARY, Plan, Wave, read_plan, stages
from muster_hub.rollouts.targets import draw_arms
from support.rollout_world import BAD, BUSY, DONE, World

COUNT = 9
NAMES = [f"d{number:02}" for number in range(COUNT)]
names = st.sampled_from(NAMES)
some_names = st.lists(names, min_size=4, max_size=COUNT, unique=True)
plans = st.builds(
    Plan,
    canary=st.sampled_from([0, 0.25, 2]),
    min_soak_seconds=st.sampled_from([0.0, 30.0]),
    timeout_seconds=st.just(300.0),
    failures_allowed=st.integers(0, 2),
    in_flight_max=st.sampled_from([0, 3]),
    strata=st.sampled_from([(), ("site",)]),
    waves=st.sampled_from([(), (Wave(share=0.5),), (Wave(selector="site=a", approve=True),)]),
    holdback=st.sampled_from([0, 2]),
    budgets=st.sampled_from(
        [
            (Budget(max_unavailable=1),),
            (Budget(group_by=("site",), max_unavailable="34%"),),
            (Budget(group_by=("site",), min_available=2), Budget(max_unavailable=3)),
        ]
    ),
    gate=st.sampled_from([None, GatePlan()]),
    experiment=st.sampled_from([None, None, ExperimentPlan(share=0.3, match=("site",))]),
    approve_start=st.sampled_from([False, False, True]),
).map(lambda plan: read_plan(msgspec.to_builtins(plan)))


class Rollouts(RuleBasedStateMachine):
    @initialize(plan=plans)
    def begin(self, plan: Plan) -> None:
        self.world = World(COUNT)
        self.world.rollout = replace(self.world.rollout, plan=plan)
        if plan.experiment is not None:
            arms = draw_arms(self.world.rollout, self.world.members.values())
            self.world.rollout = replace(self.world.rollout, arms=arms)
        self.permits: dict[str, Permit] = {}
        self.reports: dict[str, tuple[dict[str, Any], float]] = {}
        self.swapping: set[str] = set()
        self.passed_by_hand: set[int] = set()
        self.opened: set[int] = set()
        self.stopped = False
        self.step()

    # What the engine does.

    def step(self, seconds: float = 1.0) -> None:
        before = self.world.rollout
        decision = self.world.step(seconds)
        after = self.world.rollout
        if decision.target:
            assert (before.state, after.state) == ("running", "running")
        if before.state == after.state == "running" and before.plan.gate is not None:
            for wave in range(before.wave, after.wave):
                members = self.world.members.values()
                here = [
                    member.reached
                    for member in members
                    if member.reached and member.reached.wave == wave
                ]
                committed = any(item.state == "committed" for item in here)
                assert not committed or wave in self.opened | self.passed_by_hand, "passed its gate"
        if before.arms is not None:
            assert set(self.world.reached(CANARY)) <= set(before.arms.b), "A got the release"
            gone_on = before.wave == CANARY < after.wave
            assert not gone_on or CANARY in self.passed_by_hand, "went on without an operator"
        for wave in range(after.wave + 1):
            if self.world.reached(wave) and stages(after.plan)[wave].approve:
                assert after.approved >= wave, "asked without approval"
        if self.stopped:
            assert after.state in ("stopped", "aborted", "rolled_back", "completed")

    def down(self) -> set[str]:
        return {
            name
            for name, permit in self.permits.items()
            if permits.is_down(permit, *self.reports.get(name, (None, None)))
        }

    def units(self) -> list[BudgetUnit]:
        return [
            BudgetUnit(member.device, member.labels, member.online)
            for member in self.world.members.values()
        ]

    def report(self, name: str, state: str) -> None:
        update = {"manifest": "m", "state": state}
        self.reports[name] = {"slots": {"main": {"update": update}}}, self.world.now

    # What devices do.

    @rule(some=some_names)
    def power_up_together(self, some: list[str]) -> None:
        self.world.turn(True, *some)
        self.step()
        for name in some:
            self.ask_for_permit(name)

    @rule(name=names)
    def ask_for_permit(self, name: str) -> None:
        member = self.world.members[name]
        asked_of = member.reached and member.reached.state in ("targeted", "in_progress")
        if not asked_of or not member.online or name in self.swapping:
            return
        self.world.observe(BUSY, name)
        rollout = self.world.rollout
        held = f"rollout {rollout.id} is paused" if rollout.state == "paused" else ""
        goal = Goal(manifest="m", generation=1, plan=rollout.plan, held=held)
        asked = PermitRequest(device=name, slot="main", manifest="m", generation=1)
        down = self.down() - {name}
        answer = permits.answer(asked, goal, self.units(), down, self.world.now)
        self.permits.pop(name, None)
        if answer.given:
            assert rollout.state != "paused"
            self.permits[name] = Permit(
                device=name, slot="main", manifest="m", given_at=self.world.now
            )
            self.swapping.add(name)
        else:
            assert answer.reason
        self.step()

    @rule(name=names, good=st.sampled_from([True, True, True, False]))
    def finish_the_swap(self, name: str, good: bool) -> None:
        member = self.world.members[name]
        if name not in self.swapping or not member.online:
            return
        self.swapping.discard(name)
        self.world.now += 0.5
        self.report(name, "committed" if good else "failed")
        self.world.observe(DONE if good else BAD, name)
        self.step()

    @rule(name=names, online=st.booleans())
    def come_or_go(self, name: str, online: bool) -> None:
        self.world.turn(online, name)
        self.step()

    @rule(seconds=st.sampled_from([5.0, 40.0, 200.0, 50_000.0, -3_000.0]))
    def let_time_pass(self, seconds: float) -> None:
        self.step(seconds)

    # What operators and gates do.

    @rule(state=st.sampled_from(["running", "paused"]))
    def pause_or_resume(self, state: str) -> None:
        if self.world.rollout.state in ("running", "paused"):
            self.world.rollout = replace(self.world.rollout, state=state)
            self.step()

    @rule()
    def approve(self) -> None:
        self.world.rollout = replace(self.world.rollout, approved=self.world.rollout.wave)
        self.step()

    @rule(action=st.sampled_from(["wait", "advance", "advance", "stop"]))
    def judge(self, action: str) -> None:
        rollout = self.world.rollout
        if rollout.plan.gate is None or rollout.state not in ("running", "paused"):
            return
        if action == "advance":
            self.opened.add(rollout.wave)
        self.stopped |= action == "stop"
        verdict = Judged(wave=rollout.wave, action=action, reason="Because.")
        self.world.rollout = replace(rollout, judged=verdict)
        self.step()

    @rule(sure=st.sampled_from([True, False, False, False]))
    def advance_by_hand(self, sure: bool) -> None:
        if sure:
            self.passed_by_hand.add(self.world.rollout.wave)
            self.world.rollout = replace(self.world.rollout, advanced=self.world.rollout.wave)
            self.step()

    @rule(
        sure=st.sampled_from([True] + 9 * [False]), how=st.sampled_from(["aborted", "rolled_back"])
    )
    def end_it(self, sure: bool, how: str) -> None:
        if sure and self.world.rollout.state in ("running", "paused"):
            self.world.rollout = replace(self.world.rollout, state=how)
            self.step()

    @rule()
    def restart_the_hub(self) -> None:
        stored = msgspec.json.encode(self.world.rollout.plan)
        plan = read_plan(msgspec.json.decode(stored))
        assert plan == self.world.rollout.plan
        self.world.rollout = replace(self.world.rollout, plan=plan)
        self.step(200.0)

    # What must always hold.

    @invariant()
    def no_budget_is_exceeded(self) -> None:
        if not hasattr(self, "world"):
            return
        assert self.swapping <= self.down(), "a device that swaps is not counted"
        units = self.units()
        for budget in self.world.rollout.plan.budgets:
            assert unsatisfiable([budget], units) is None
            groups: dict[tuple[str, ...], list[str]] = {}
            for unit in units:
                groups.setdefault(budget.group(unit.labels), []).append(unit.device)
            for members in groups.values():
                assert len(self.swapping & set(members)) <= budget.most_down(len(members))

    @invariant()
    def it_ends_or_says_what_it_waits_for(self) -> None:
        if not hasattr(self, "world"):
            return
        rollout = self.world.rollout
        assert self.world.reason or rollout.state in ("aborted", "rolled_back")
        if rollout.state in ("stopped", "aborted", "rolled_back"):
            assert set(self.world.states().values()) <= {"withdrawn", "failed"}
        failed = list(self.world.states().values()).count("failed")
        if rollout.state in ("running", "paused"):
            assert failed <= rollout.plan.failures_allowed

    def teardown(self) -> None:
        """Let everybody come, ask, commit and approve: it comes to an end."""
        if not hasattr(self, "world") or self.world.rollout.state not in ("running", "paused"):
            return
        self.world.rollout = replace(self.world.rollout, state="running")
        self.world.turn(True, *NAMES)
        for turn in range(80):
            self.judge("advance")
            self.approve()
            if self.world.rollout.plan.experiment is not None and turn > 20:
                self.advance_by_hand(sure=True)  # not before its gate had every chance to
            for name in NAMES:
                self.ask_for_permit(name)
                self.finish_the_swap(name, good=True)
            self.step(40.0)
            if self.world.rollout.state not in ("running", "paused"):
                break
        ended = ("completed", "stopped", "aborted", "rolled_back")
        assert self.world.rollout.state in ended, self.world.reason


TestRollouts = Rollouts.TestCase
TestRollouts.settings = settings(max_examples=60, stateful_step_count=40)
