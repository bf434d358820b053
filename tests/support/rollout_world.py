"""A rollout stepped by hand, with devices whose evidence the test tells."""

from dataclasses import replace

from muster_hub.rollouts.decide import decide
from muster_hub.rollouts.evidence import DeviceEvidence
from muster_hub.rollouts.members import Member, Reached, StagedRollout
from muster_hub.rollouts.plan import CANARY, Plan

SEEN = DeviceEvidence(stage="unseen")
BUSY = DeviceEvidence(stage="in_progress", detail="fetching")
DONE = DeviceEvidence(stage="committed")
BAD = DeviceEvidence(stage="failed", detail="golden_mismatch: case 3")


class World:
    """Devices and a rollout, stepped by hand; what the engine would persist is kept here."""

    def __init__(self, count=8, online=None, **plan):
        self.now = 1_000.0
        self.rollout = StagedRollout(id=3, state="running", wave=CANARY, plan=Plan(**plan))
        self.members = {
            name: Member(
                device=name,
                labels={"site": "ab"[number % 2]},
                online=online is None or number in online,
            )
            for number, name in enumerate(f"d{number:02}" for number in range(count))
        }
        self.reason = ""
        self.decision = None

    def step(self, seconds=1.0):
        self.now += seconds
        decision = decide(self.rollout, self.members.values(), self.now)
        assert decision == decide(self.rollout, self.members.values(), self.now)
        for name, reached in decision.changed.items():
            self.members[name] = replace(self.members[name], reached=reached)
        for name in decision.target:
            assert self.members[name].reached is None
            reached = Reached(
                wave=decision.wave, state="targeted", online_since=None, changed_at=self.now
            )
            self.members[name] = replace(self.members[name], reached=reached)
        self.rollout = replace(
            self.rollout,
            state=decision.state,
            wave=decision.wave,
            settled_at=decision.settled_at,
            looked_at=self.now,
        )
        self.reason = decision.reason or self.reason
        self.decision = decision
        return decision

    def observe(self, evidence, *names):
        for name in names:
            self.members[name] = replace(self.members[name], evidence=evidence)

    def turn(self, online, *names):
        for name in names:
            self.members[name] = replace(self.members[name], online=online)

    def reached(self, wave=None):
        return sorted(
            name
            for name, member in self.members.items()
            if member.reached and wave in (None, member.reached.wave)
        )

    def states(self):
        return {
            name: member.reached.state for name, member in self.members.items() if member.reached
        }
