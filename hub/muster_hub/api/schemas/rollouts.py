"""Rollouts: what is asked for, planned and shown."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from muster_hub.api.schemas.base import AT, DAY_SECONDS, Body, Grows, View
from muster_protocol.wire import limits

DEVICES_MAX = 1_000_000


class RolloutAsk(Body):
    model: str = Field(max_length=limits.NAME_CHARS_MAX, examples=["digits"])
    version: str = Field(max_length=limits.NAME_CHARS_MAX, examples=["2"])
    slot: str = Field(default="main", max_length=limits.NAME_CHARS_MAX, examples=["vision"])
    selector: str = Field(
        default="", max_length=1024, examples=["site=berlin,line in (1,2)"],
        description="Which devices; empty is all.",
    )  # fmt: skip
    canary: Annotated[float, Field(ge=0, le=DEVICES_MAX)] | Annotated[
        int, Field(ge=0, le=DEVICES_MAX)
    ] = Field(
        default=0.25, examples=[0.25],
        description="The first wave: a share below 1, or a whole number of devices.",
    )  # fmt: skip
    min_soak_seconds: float = Field(default=60, ge=0, le=30 * DAY_SECONDS)
    timeout_seconds: float = Field(default=1800, gt=0, le=30 * DAY_SECONDS)
    window_seconds: Annotated[
        float | None, Field(ge=limits.WINDOW_SECONDS_MIN, le=limits.WINDOW_SECONDS_MAX)
    ] = None
    failures_allowed: int = Field(default=0, ge=0, le=1_000_000)
    in_flight_max: int = Field(
        default=0, ge=0, le=1_000_000, description="Most devices under way at once; 0: any number."
    )
    strata: list[str] = Field(
        default=[], max_length=4, examples=[["site"]],
        description="Labels in whose groups waves are drawn in proportion.",
    )  # fmt: skip
    waves: list[View] = Field(
        default=[], max_length=16, examples=[[{"share": 0.5, "soak_seconds": 3600}]],
        description="After the canary: share, selector, name, approve, soak_seconds of each.",
    )  # fmt: skip
    holdback: int = Field(
        default=0, ge=0, le=1_000_000, description="Devices kept for last, to compare with."
    )
    budgets: list[View] = Field(
        default=[], max_length=4, examples=[[{"group_by": ["line"], "max_unavailable": 1}]],
        description="group_by, max_unavailable, min_available of each; numbers or percentages.",
    )  # fmt: skip
    windows: list[View] = Field(
        default=[], max_length=8, examples=[[{"start": "22:00", "end": "04:00"}]],
        description="When devices may swap: start, end, days, time_zone of each.",
    )  # fmt: skip
    shadow: View | None = Field(
        default=None, examples=[{"devices": 0.1, "min_seconds": 86400, "disagreed_max": 0.05}],
        description="Watch the version beside what runs before the first wave: devices, "
        "min_seconds, compared_min, disagreed_max, failed_max, looks.",
    )  # fmt: skip
    experiment: View | None = Field(
        default=None, examples=[{"share": 0.5, "match": ["line"], "min_seconds": 86400}],
        description="In place of a canary: the version (B) against what runs (A) on matched "
        "devices: share, match, min_seconds, looks. What is compared is the gate's.",
    )  # fmt: skip
    gate: View | None = Field(
        default=None, examples=[{"metrics": ["errors", "p95 latency"]}],
        description="Evidence asked for before a wave is left: metrics, looks, past_seconds, …",
    )  # fmt: skip
    approve_start: bool = Field(default=False, description="Wait for an approval at the start.")
    static: bool = Field(default=False, description="Only devices enrolled when it starts.")
    require_proof: bool | None = Field(
        default=None,
        description="Count a device only when its identity key proves what it runs; null: of "
        "devices whose key is in hardware.",
    )


class RolloutSummary(Grows):
    id: int = Field(examples=[12])
    model: str = Field(examples=["digits"])
    version: str = Field(examples=["2"])
    manifest: str
    slot: str = Field(examples=["vision"])
    selector: str = Field(examples=["site=berlin"])
    state: str = Field(examples=["running"])
    plan: View
    wave: int = Field(examples=[0])
    reason: str = Field(
        description="Why it is where it is, in words.",
        examples=["Wave 1 of 2 (canary): 1 of 2 committed, 1 under way; waiting for cam-3."],
    )
    created: float = Field(examples=[AT])
    created_by: str = Field(examples=["ci"])
    updated: float


class RolloutDeviceView(Grows):
    device: str = Field(examples=["cam-1"])
    state: str = Field(examples=["committed"])
    online: bool
    changed_at: float = Field(description="When its state here last changed.")
    detail: str


class WaveView(Grows):
    wave: int
    name: str = Field(examples=["canary"])
    devices: list[RolloutDeviceView]
    counts: dict[str, int] = Field(examples=[{"committed": 1, "in_progress": 1}])


class RolloutStepView(Grows):
    """What it did or came to wait for, and why."""

    at: float = Field(examples=[AT])
    state: str
    wave: int
    reason: str = Field(examples=["Started by ci."])


class PermitView(Grows):
    device: str = Field(examples=["cam-1"])
    asked_at: float | None
    given_at: float | None
    reason: str = Field(
        examples=["the budget of line=2 lets 1 of 8 swap at once; swapping or silent since: cam-3"]
    )


class ShadowDeviceView(BaseModel):
    device: str
    compared: int = Field(description="Inputs that both models were given.")
    disagreed: int = Field(description="Of them, answered otherwise or not at all.")
    failed: int = Field(description="Of them, those the version could not answer.")
    labelled: int = Field(description="Of them, those whose label came.")
    right: int = Field(description="Of those labelled, right by the version.")
    champion_right: int = Field(description="Of those labelled, right by what runs.")


class ShadowView(BaseModel):
    """A version watched beside what runs, before the first wave."""

    since: float
    action: Literal["wait", "advance", "stop"]
    reason: str
    devices: list[ShadowDeviceView]


class ExperimentEffectView(BaseModel):
    """B against A in one metric; above 1 (ratio) or 0 (otherwise) B is worse."""

    metric: str = Field(examples=["errors"])
    unit: Literal["ratio", "points", "difference"] = Field(
        description="Of the effect: a factor, points of a share, or the metric's own unit."
    )
    effect: float
    low: float = Field(description="Of an interval that holds the effect at every look, 95 %.")
    high: float


class ExperimentView(BaseModel):
    """A version (B) against what runs (A), on matched devices."""

    a: int = Field(description="Devices that keep what they run until it ends.")
    b: int = Field(description="Devices that get the version.")
    outcome: Literal["better", "worse", "no difference", "not enough evidence"] = Field(
        description="Of B. All but the last are kept; only harm that shows later replaces one."
    )
    reason: str
    effects: list[ExperimentEffectView] = Field(description="As at the last look.")


class RolloutView(RolloutSummary):
    waves: list[WaveView]
    shadow: ShadowView | None = None
    experiment: ExperimentView | None = None
    ended: bool
    warnings: list[str] = Field(
        description="What its gate tells without acting on it, in the wave it last looked at.",
        examples=[["drifting features 3.1× against devices without the release; …"]],
    )
    history: list[RolloutStepView]
    permits: list[PermitView] = Field(
        description="Who has a permit to swap, or was refused one and why."
    )


class WavePlanView(BaseModel):
    name: str = Field(examples=["canary"])
    count: int
    devices: list[str] = Field(description="The first hundred.")
    offline: int = Field(description="Of them now; they follow when they return.")
    approve: bool = Field(description="Waits for an approval before it begins.")
    soak_seconds: float


class GroupPlanView(BaseModel):
    group: str = Field(examples=["line=2"])
    size: int
    at_once: int = Field(description="How many of them the budget lets swap at once.")
    rounds: int


class RolloutPlanView(BaseModel):
    """What a rollout would do if all went well. Nothing was started."""

    model: str = Field(examples=["digits"])
    version: str = Field(examples=["2"])
    slot: str = Field(examples=["vision"])
    selector: str = Field(examples=["site=berlin"])
    devices: int
    offline: int
    waves: list[WavePlanView]
    budgets: list[GroupPlanView]
    binding: str = Field(
        description="What limits its pace, in words.",
        examples=["the budget of line=2: 1 of 8 at once, 8 rounds"],
    )
    waiting: dict[str, int] = Field(description="Devices that couldn't swap now, by reason.")
    least_seconds: float = Field(description="Soaking and the shadow alone; all else comes on top.")
    shadow: list[str] = Field(
        description="Devices that would watch it beside what they run, before the first wave."
    )
    warnings: list[str] = Field(
        description="What may surprise, such as maintenance windows that begin in an hour "
        "which a change of the clocks skips."
    )
    bytes_each: int = Field(description="At most: chunks a device already has aren't sent again.")
    bytes_published: int = Field(description="What the hub sends, once, however many devices.")
    bytes_delivered: int = Field(description="At most, over all devices.")
