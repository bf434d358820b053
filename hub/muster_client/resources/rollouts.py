"""Rollouts: starting them, watching them, holding and ending them."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypedDict, Unpack, cast

from muster_client.answers import Rollout, RolloutPlan, RolloutSummary
from muster_client.failures import WrongUsage
from muster_client.resources.base import Resource

POLL_SECONDS = 0.5
Action = Literal["pause", "resume", "abort", "approve", "advance", "rollback"]


class Plan(TypedDict, total=False):
    """How a version comes to devices; what is left out is the hub's own default."""

    slot: str
    selector: str
    canary: float
    """The first wave: a share below 1, or a whole number of devices."""
    min_soak_seconds: float
    timeout_seconds: float
    window_seconds: float | None
    failures_allowed: int
    in_flight_max: int
    strata: Sequence[str]
    waves: Sequence[Mapping[str, Any]]
    holdback: int
    budgets: Sequence[Mapping[str, Any]]
    windows: Sequence[Mapping[str, Any]]
    shadow: Mapping[str, Any] | None
    experiment: Mapping[str, Any] | None
    gate: Mapping[str, Any] | None
    approve_start: bool
    static: bool
    require_proof: bool | None


class Rollouts(Resource):
    """Rollouts by their numbers."""

    def start(self, model: str, version: str, **plan: Unpack[Plan]) -> Rollout:
        """Bring a published version to the devices that a selector matches, a canary first."""
        found: Rollout = self._api.post("/rollouts", {**plan, "model": model, "version": version})
        return found

    def plan(self, model: str, version: str, **plan: Unpack[Plan]) -> RolloutPlan:
        """What ``start`` with the same arguments would do. Nothing is started."""
        body = {**plan, "model": model, "version": version}
        found: RolloutPlan = self._api.post("/rollouts/plan", body)
        return found

    def list(self, limit: int | None = None) -> Iterator[RolloutSummary]:
        """Rollouts without their devices, the newest first; all when ``limit`` is None."""
        return cast("Iterator[RolloutSummary]", self._api.pages("/rollouts", limit))

    def status(self, rollout: int) -> Rollout:
        """A rollout by wave and device, and the reason for its state in words."""
        found: Rollout = self._api.get(f"/rollouts/{rollout}")
        return found

    def explain(self, rollout: int) -> Rollout:
        """The same: ``history`` has each step it took and why."""
        return self.status(rollout)

    def watch(self, rollout: int, poll_seconds: float = POLL_SECONDS) -> Iterator[Rollout]:
        """How it stands, again and again until it has ended; the last one says how."""
        while True:
            found = self.status(rollout)
            yield found
            if found["ended"]:
                return
            time.sleep(poll_seconds)  # a rollout changes with its devices' reports

    def pause(self, rollout: int) -> Rollout:
        """Ask no further device. Those under way finish."""
        return self._act(rollout, "pause")

    def resume(self, rollout: int) -> Rollout:
        """Go on with a paused rollout."""
        return self._act(rollout, "resume")

    def abort(self, rollout: int) -> Rollout:
        """End it and bring the devices it reached back to what they ran before."""
        return self._act(rollout, "abort")

    def approve(self, rollout: int) -> Rollout:
        """Let it begin, or let the wave begin that waits for it. May have to be another person."""
        return self._act(rollout, "approve")

    def advance(self, rollout: int) -> Rollout:
        """Pass the present wave by hand, whatever its gate still waits for."""
        return self._act(rollout, "advance")

    def rollback(self, rollout: int) -> Rollout:
        """Bring every device back to what it ran before, also after it has completed."""
        return self._act(rollout, "rollback")

    def _act(self, rollout: int, action: Action) -> Rollout:
        found: Rollout = self._api.post(f"/rollouts/{rollout}/{action}")
        return found


def parse_canary(text: str) -> float | int:
    """``0.25`` and ``25%`` are a share of the devices, ``3`` is a count; 0 is no canary."""
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        value = -1.0
    if text.endswith("%"):
        value /= 100
        if 0 <= value < 1:
            return value
    elif 0 <= value < 1:
        return value
    elif value >= 1 and value.is_integer():
        return int(value)
    raise WrongUsage(
        f"canary {text!r}: give a share below 1 (0.25 or 25%) or a whole number of devices"
    )


def parse_wave(text: str) -> float:
    """``0.5`` and ``50%`` are half of the devices, those of earlier waves counted."""
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if 0 < value <= 1:
        return value
    raise WrongUsage(f"wave {text!r}: give a share of the devices (0.5 or 50%)")


def parse_share(text: str) -> float:
    """``0.5`` and ``50%`` are half of the devices, the most an arm may have."""
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if 0 < value <= 0.5:
        return value
    raise WrongUsage(
        f"experiment {text!r}: give a share of the devices up to one half (0.5 or 50%)"
    )
