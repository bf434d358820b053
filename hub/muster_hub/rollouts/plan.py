"""How a rollout proceeds, as an operator writes it; fixed when it starts. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from muster_hub.rollouts.budgets import Budget
from muster_hub.rollouts.experiments import ExperimentPlan
from muster_hub.rollouts.gates.plan import GatePlan
from muster_hub.rollouts.maintenance import MaintenanceWindow
from muster_hub.rollouts.shadows import ShadowPlan
from muster_protocol.wire import selectors
from muster_protocol.wire.errors import ProtocolError
from muster_protocol.wire.selectors import Selector

CANARY, ALL = 0, 1
"""Places of the first wave, and of the one after it when no others are planned."""
WAVES_MAX = 16


class Wave(Struct, frozen=True, forbid_unknown_fields=True):
    """One step after the canary."""

    share: Annotated[float, Meta(gt=0, le=1)] = 1.0
    """Of the devices it concerns, counting those that earlier waves have reached."""
    selector: Annotated[str, Meta(max_length=1024)] = ""
    """Narrows the wave to some of the rollout's devices, such as one line."""
    name: Annotated[str, Meta(max_length=64)] = ""
    approve: bool = False
    """Wait for an operator's approval before it begins."""
    soak_seconds: Annotated[float, Meta(ge=0)] | None = None
    """How long it must hold before the next; the plan's ``min_soak_seconds`` when not given."""


class Plan(Struct, frozen=True, forbid_unknown_fields=True):
    """How a rollout proceeds; fixed when it starts."""

    canary: Annotated[float, Meta(ge=0)] = 0.25
    """Below 1 a fraction of the matching devices, from 1 a number of them; 0 is no canary."""
    min_soak_seconds: Annotated[float, Meta(ge=0)] = 60.0
    """How long a wave must have been committed before the next follows."""
    timeout_seconds: Annotated[float, Meta(gt=0)] = 1800.0
    """How long a device may take while online, in all; longer is a failure."""
    failures_allowed: Annotated[int, Meta(ge=0)] = 0
    in_flight_max: Annotated[int, Meta(ge=0)] = 0
    """Most devices under way at once; 0 is no such limit."""
    strata: Annotated[tuple[str, ...], Meta(max_length=4)] = ()
    """Labels in whose groups waves are drawn in proportion."""
    waves: Annotated[tuple[Wave, ...], Meta(max_length=WAVES_MAX)] = ()
    """After the canary; all others follow in a last one."""
    holdback: Annotated[int, Meta(ge=0)] = 0
    """Devices kept for last, so that the release can be compared until then."""
    budgets: Annotated[tuple[Budget, ...], Meta(max_length=4)] = ()
    windows: Annotated[tuple[MaintenanceWindow, ...], Meta(max_length=8)] = ()
    """When devices may swap; always, when there are none."""
    shadow: ShadowPlan | None = None
    """Watch the release beside what runs before the first wave; None: don't."""
    experiment: ExperimentPlan | None = None
    """Takes the place of the canary: the release against what runs, on matched devices."""
    gate: GatePlan | None = None
    approve_start: bool = False
    static: bool = False
    """Only devices that were enrolled when it started; others get the release on completion."""

    require_proof: bool | None = None
    """Count a device only when its identity key proves what it runs; not said: of devices whose
    key is in hardware."""

    @property
    def asks_permit(self) -> bool:
        """Whether devices must ask before they swap."""
        return bool(self.budgets or self.windows)

    @property
    def begins_with_all(self) -> bool:
        """Whether there is neither a canary nor an experiment before the other waves."""
        return self.canary == 0 and self.experiment is None

    @property
    def groups(self) -> tuple[str, ...]:
        """Labels in whose groups devices are drawn and compared."""
        return (self.experiment.match if self.experiment else ()) or self.strata


EVERY = Selector()


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A wave as it is carried out."""

    name: str
    share: float = 1.0
    selector: Selector = EVERY
    approve: bool = False
    soak_seconds: float = 0.0
    holds_back: bool = True
    """Leaves the held-back devices alone."""


def stages(plan: Plan) -> tuple[Stage, ...]:
    """Every wave in order: the canary, those planned, all others, and those held back."""
    first = Stage(name="canary", approve=plan.approve_start, soak_seconds=plan.min_soak_seconds)
    if plan.experiment is not None:
        lasts = plan.experiment.min_seconds
        first = Stage(name="experiment", approve=plan.approve_start, soak_seconds=lasts)
    found = [first]
    for number, wave in enumerate(plan.waves, 1):
        soak = plan.min_soak_seconds if wave.soak_seconds is None else wave.soak_seconds
        found.append(
            Stage(
                name=wave.name or wave.selector or f"{wave.share:.0%}",
                share=wave.share,
                selector=selectors.parse(wave.selector),
                approve=wave.approve
                or (number == 1 and plan.begins_with_all and plan.approve_start),
                soak_seconds=soak,
            )
        )
    last = plan.waves[-1] if plan.waves else None
    if last is None or last.share < 1 or last.selector:
        begins = last is None and plan.begins_with_all and plan.approve_start
        found.append(Stage(name="all", soak_seconds=plan.min_soak_seconds, approve=begins))
    if plan.holdback:
        found.append(Stage(name="holdback", holds_back=False))
    return tuple(found)


def read_plan(values: Mapping[str, object]) -> Plan:
    """A plan from plain values; raises ProtocolError naming the field at fault."""
    try:
        plan = msgspec.convert(values, Plan)
    except msgspec.ValidationError as error:
        raise ProtocolError(f"rollout plan: {error}") from None
    if plan.experiment is not None and plan.gate is None:
        plan = msgspec.structs.replace(plan, gate=GatePlan())
    try:
        stages(plan)
        for budget in plan.budgets:
            budget.check()
        for window in plan.windows:
            window.check()
        if plan.gate is not None:
            plan.gate.check()
    except ProtocolError as error:
        raise ProtocolError(f"rollout plan: {error}") from None
    return plan
