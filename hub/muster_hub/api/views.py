"""What answers look like, with the examples that the OpenAPI document shows."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

View = dict[str, Any]
AT = 1767225600.0


class Grows(BaseModel):
    """An answer that later versions may add fields to; readers skip what they don't know."""

    model_config = ConfigDict(extra="allow")


class Release(Grows):
    model: str | None = Field(examples=["digits"])
    version: str | None = Field(examples=["2"])
    manifest: str | None = Field(examples=["3f" * 32], description="SHA-256 of the manifest.")


class Running(Release):
    runtime: str | None = Field(default=None, examples=["onnx"])


class Proved(Release):
    since: list[Any] = Field(
        description="By the device's own clocks: boot, monotonic and wall seconds, their quality."
    )
    inferences: int = Field(examples=[18_000])


class DeviceView(Grows):
    """A device: what it was asked to run beside what it has proved to run."""

    id: str = Field(examples=["cam-1"])
    labels: dict[str, str] = Field(examples=[{"site": "berlin", "line": "2"}])
    created: float = Field(examples=[AT])
    approved: bool
    revoked: bool
    certificate_expires: float | None = Field(examples=[AT + 31_536_000])
    online: bool = Field(description="Connected, and heard of within minutes.")
    online_changed: float | None
    last_seen: float | None
    reported: float | None = Field(description="When its latest report came.")
    report: View | None = Field(description="The latest report, as the protocol has it.")
    generation: int | None = Field(description="Of the directive in force.", examples=[7])
    desired: dict[str, Release] = Field(description="By slot.")
    running: dict[str, Running] = Field(description="By slot, as its latest report says.")
    proved: dict[str, Proved] = Field(
        description="By slot, when its latest report is signed with its identity key."
    )
    converged: bool = Field(description="Every desired version is committed.")


class CountsView(Grows):
    device: str = Field(examples=["cam-1"])
    inferences: int
    errors: int
    windows: int
    by_version: dict[str, int] = Field(examples=[{"digits/2": 18_000}])
    label_accuracy: dict[str, View] = Field(
        examples=[{"digits/2": {"labels": 120, "accuracy": 0.97}}]
    )
    unreadable_windows: int


class RebaselineView(Grows):
    device: str = Field(examples=["cam-1"])
    model: str = Field(examples=["digits"])
    version: str = Field(examples=["2"])
    manifest: str
    forgotten: list[str] = Field(
        examples=[["image.brightness"]], description="Features that drifted until now."
    )


class FeatureView(Grows):
    name: str = Field(examples=["image.brightness"])
    p0: list[float] = Field(description="The baseline's share of each bin.")
    now: list[int | float] = Field(description="Counts per bin in the latest windows.")
    statistics: View
    status: str = Field(examples=["calibrated"])
    finding: Any = None
    trend: list[View] = Field(
        default=[],
        examples=[[{"start": 1767225600.0, "n": 3000, "psi": 0.02, "shift": -0.1}]],
        description="Of one device: the latest windows in order of time, merged to few points. "
        "`psi` is bias-corrected; `shift` is that of the mean, in the baseline's σ.",
    )


class DriftView(Grows):
    """Each feature of a model on a device, now beside its baseline."""

    device: str = Field(examples=["cam-1"])
    model: str = Field(examples=["digits"])
    version: str = Field(examples=["2"])
    manifest: str
    n: int = Field(description="Inferences in the windows shown.")
    windows: int
    status: str = Field(examples=["drifting"])
    features: list[FeatureView]


class HistoryView(Grows):
    """An hour or a day of one version, merged from every window that began in it."""

    start: float = Field(examples=[AT], description="The hour or the day in UTC.")
    version: str = Field(examples=["2"])
    manifest: str
    devices: int = Field(description="That sent windows.")
    windows: int
    seconds: float = Field(description="Covered by the windows, summed over devices.")
    n: int = Field(description="Inferences.")
    errors: int
    labels: int
    accuracy: float | None
    p95_seconds: float | None = Field(description="Of the latency; null for a selector.")
    cpu_seconds: float | None = Field(description="Of the workers; null for a selector.")
    energy_joules: float | None = Field(
        description="Estimated on the devices that can; null for a selector."
    )
    features: list[View] = Field(
        description="Of one device or the fleet: `name`, `n`, `psi` (bias-corrected) and `shift` "
        "of the mean in the baseline's σ. Empty for a selector.",
        examples=[[{"name": "image.brightness", "n": 3000, "psi": 0.02, "shift": -0.1}]],
    )


class WindowView(Grows):
    """The counts of one telemetry window."""

    id: int
    device: str = Field(examples=["cam-1"])
    epoch: str
    sequence: int
    slot: str
    model: str
    version: str
    manifest: str
    start: float = Field(examples=[AT])
    seconds: float = Field(examples=[300.0])
    n: int = Field(description="Inferences.")
    errors: int
    received: float
    historical: bool = Field(
        description="Came over an hour after its end: from a device that was offline."
    )
    fault: str = Field(description="Why it can't be read; empty when it can.")


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


class LeaveView(Grows):
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
    leave: list[LeaveView] = Field(description="Who has leave to swap, or was refused it and why.")


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
    bytes_each: int = Field(description="At most: chunks a device already has aren't sent again.")
    bytes_published: int = Field(description="What the hub sends, once, however many devices.")
    bytes_delivered: int = Field(description="At most, over all devices.")


class AlertView(Grows):
    id: int
    key: str = Field(examples=["drift/cam-1/digits"])
    device: str | None = Field(examples=["cam-1"])
    kind: str = Field(examples=["drift"])
    severity: str = Field(examples=["warning"])
    state: str = Field(examples=["open"])
    opened: float = Field(examples=[AT])
    updated: float
    title: str
    detail: View


class EventView(Grows):
    id: int
    device: str | None = Field(examples=["cam-1"], description="null: the hub's own.")
    kind: str = Field(examples=["update"])
    received: float = Field(examples=[AT])
    slot: str
    model: str
    version: str
    manifest: str
    generation: int
    refusal: str | None = Field(examples=["golden_mismatch"])
    detail: str
    data: View


class AuditView(BaseModel):
    id: int
    at: float
    actor: str = Field(examples=["token:ci"])
    action: str = Field(examples=["version.push"])
    subject: str = Field(examples=["digits/2"])
    detail: View
    previous: str = Field(description="The hash of the row before; 64 zeros in the first.")
    hash: str


class AuditState(BaseModel):
    ok: bool
    archived: int = Field(description="Rows before them that were archived.")
    archived_latest: str = Field(description="The last of those rows' hash; 64 zeros when none.")
    rows: int = Field(description="Rows whose seals hold, from the first one on.")
    latest: str = Field(description="Keep it elsewhere: rows cut off the end can't be seen here.")
    fault: str = Field(description="The first row that isn't what was written; empty when none.")


class Scoped(BaseModel):
    """A role and what it is limited to."""

    role: str = Field(examples=["operator"])
    models: list[str] = Field(examples=[["digits", "pump-*"]], description="Empty: all.")
    selector: str = Field(examples=["site=berlin"], description="Empty: all devices.")


class ApiTokenView(Scoped):
    id: str = Field(examples=["9f86d081884c7d65"])
    name: str = Field(examples=["ci"])
    created: float = Field(examples=[AT])
    created_by: str = Field(examples=["token:first-admin"])
    expires: float | None
    revoked: float | None


class ApiTokenMade(ApiTokenView):
    token: str = Field(examples=["mst_…"], description="Shown once; only its hash is kept.")


class PersonView(Scoped):
    name: str = Field(examples=["ada@example.com"])
    created: float
    created_by: str


class WhoView(Scoped):
    name: str = Field(examples=["ci"])
    kind: str = Field(examples=["token"])


class AssignmentView(Grows):
    id: int
    slot: str = Field(examples=["vision"])
    selector: str = Field(examples=["site=berlin"])
    model: str = Field(examples=["digits"])
    version: str = Field(examples=["2"])
    precedence: int = Field(description="Of several that match a device the highest wins.")
    window_seconds: float | None
    rollout: int | None = Field(description="The rollout that made it.")
    created: float


class LoginView(BaseModel):
    """How people log in here; all empty when only API tokens count."""

    issuer: str = Field(examples=["https://login.example"])
    client_id: str = Field(examples=["muster"])
    audience: str = Field(examples=["muster"])
