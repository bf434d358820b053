"""A fleet on which releases are tried: watched in shadow, compared with what runs, then decided.

It lives as every fleet of the simulator does, and so do its faults. What is more: its people roll
out by shadow and by experiment and act on what these find, and its devices run challengers.
"""

import random
from typing import Any

from sim.operator import AT_ONCE, SLOTS, Operator
from sim.trial_device import TrialDevice
from sim.trial_watch import TrialWatch
from sim.world import World

DEVICES = 14
"""Enough for two arms that can be compared."""
WINDOW_SECONDS = 20.0
PATIENCE_SECONDS = {"shadow": 240.0, "experiment": 280.0}
"""After which somebody ends a trial that has not come to an end."""
HABITS = ("good", "good", "fails", "fails", "differs", "killer", "crash")
"""Of the release that is tried most often."""
TRIED = ("digits", "2.0.0")


class TrialOperator(Operator):
    """Tries a release before it goes to everybody."""

    world: "TrialWorld"

    def _try(self, model: str, version: str) -> None:
        live = [
            row
            for row in self.world.hub.rollouts()
            if row.state in ("running", "paused") and row.slot == SLOTS[model]
        ]
        for row in live:
            self._decide(row)
        if live:
            return
        kind, plan = self.world.draw_trial()
        if self.roll_out(model, version, most_down=0, **plan) is not None:
            self.world.counts[kind] += 1
            self.waiting.remove((model, version))

    def _decide(self, row: Any) -> None:
        """What a verdict asks for; in the end, whatever it is."""
        age = self.world.clock.now - self.started.get(row.id, 0.0)
        kind = "experiment" if row.plan.get("experiment") else "shadow"
        experiment = (row.judged or {}).get("experiment") or {}
        outcome = experiment.get("outcome", "")
        if outcome in ("better", "no difference") and row.wave == 0:
            self._command("advance", row.id)
        elif row.state == "paused" and outcome != "worse":
            self._command("resume", row.id)  # a colleague had paused it
        elif outcome == "worse":
            self._command("rollback" if self.world.rng.random() < 0.5 else "abort", row.id)
        elif age > PATIENCE_SECONDS[kind]:
            self._command(self.world.rng.choice(["abort", "advance"]), row.id)
            if age > 2 * PATIENCE_SECONDS[kind]:
                self._command("abort", row.id)


class TrialWorld(World):
    device_kind = TrialDevice
    operator_kind = TrialOperator
    watch_kind = TrialWatch
    chaos_seconds = 600.0

    def __init__(self, seed: int, *, devices: int = DEVICES, **made: Any) -> None:
        super().__init__(seed, devices=devices, **made)
        self.window_seconds = WINDOW_SECONDS
        self.watching = False

    def _plan(self) -> None:
        self.operator.roll_out("sounds", "1.0.0", **AT_ONCE)
        self.operator.waiting = [TRIED, ("digits", "5.0.0"), ("sounds", "2.0.0"), TRIED]

    def _draw_habits(self) -> dict[str, str]:
        habits = super()._draw_habits()
        drawn = random.Random(f"{self.seed}/trial")
        for release in self.catalogue.releases:
            if (release.model, release.version) == TRIED:
                habits[release.sha256] = drawn.choice(HABITS)
        return habits

    def draw_trial(self) -> tuple[str, dict[str, Any]]:
        """How a release is tried this time, and the plan of that."""
        shadow = {"devices": self.rng.choice([2, 4, 0.5]), "min_seconds": 20.0, "compared_min": 60}
        experiment = {"share": 0.5, "min_seconds": 40.0, "looks": 24}
        kind = self.rng.choice(["shadow", "experiment", "both"])
        plan: dict[str, Any] = {"failures_allowed": 1, "in_flight_max": 0}
        if kind != "experiment":
            plan["shadow"] = shadow
        if kind != "shadow":
            plan |= {"experiment": experiment, "gate": {"past_seconds": 400.0}}
        return kind, plan
