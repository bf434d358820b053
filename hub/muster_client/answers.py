"""What the hub answers, as typed dictionaries: plain JSON, so that a later hub may add to it."""

from typing import Any, Literal, NotRequired, TypedDict


class Release(TypedDict):
    model: str | None
    version: str | None
    manifest: str | None


class Running(Release):
    runtime: str | None


class Proved(Release):
    since: list[Any]
    inferences: int


class Device(TypedDict):
    """A device: what it was asked to run beside what it has proved to run."""

    id: str
    labels: dict[str, str]
    created: float
    approved: bool
    revoked: bool
    certificate_expires: float | None
    online: bool
    online_changed: float | None
    last_seen: float | None
    reported: float | None
    report: dict[str, Any] | None
    generation: int | None
    desired: dict[str, Release]
    running: dict[str, Running]
    proved: dict[str, Proved]
    converged: bool
    set_aside: int
    set_aside_at: float | None
    set_aside_fault: str


class Counts(TypedDict):
    device: str
    inferences: int
    errors: int
    windows: int
    by_version: dict[str, int]
    label_accuracy: dict[str, dict[str, Any]]
    unreadable_windows: int


class TokenAnswer(TypedDict):
    token: str
    expires: float


class Build(TypedDict):
    runtime: str
    ok: bool
    refusal: str | None
    detail: str | None
    facts: NotRequired[dict[str, Any]]
    """What loading it showed; its own words for each runtime."""


class GateJudged(TypedDict):
    gate: str
    ok: bool
    says: str
    value: float | None
    bound: float | None


class Check(TypedDict):
    """What loading the builds and running their golden vectors showed."""

    ok: bool | None
    reason: str
    builds: list[Build]
    gates: list[GateJudged]


class Version(TypedDict):
    model: str
    version: str
    status: str
    manifest_sha256: str
    size_bytes: int
    created: float
    created_by: str
    lineage: dict[str, Any]
    check: Check


class VersionDetail(Version):
    """A version with what its manifest says."""

    manifest: dict[str, Any]


class Model(TypedDict):
    name: str
    created: float
    versions: list[Version]


class RolloutSummary(TypedDict):
    id: int
    model: str
    version: str
    manifest: str
    slot: str
    selector: str
    state: str
    plan: dict[str, Any]
    wave: int
    reason: str
    created: float
    created_by: str
    updated: float


class RolloutDevice(TypedDict):
    device: str
    state: str
    online: bool
    changed_at: float
    detail: str


class Wave(TypedDict):
    wave: int
    name: str
    devices: list[RolloutDevice]
    counts: dict[str, int]


class RolloutStep(TypedDict):
    """What it did or came to wait for, and why."""

    at: float
    state: str
    wave: int
    reason: str


class Permit(TypedDict):
    device: str
    asked_at: float | None
    given_at: float | None
    reason: str


class ShadowDevice(TypedDict):
    device: str
    compared: int
    disagreed: int
    failed: int
    labelled: int
    right: int
    champion_right: int


class Shadow(TypedDict):
    """A version watched beside what runs, before the first wave."""

    since: float
    action: Literal["wait", "advance", "stop"]
    reason: str
    devices: list[ShadowDevice]


class ExperimentEffect(TypedDict):
    """B against A in one metric; above 1 (ratio) or 0 (otherwise) B is worse."""

    metric: str
    unit: Literal["ratio", "points", "difference"]
    effect: float
    low: float
    high: float


class Experiment(TypedDict):
    """A version (B) against what runs (A), on matched devices."""

    a: int
    b: int
    outcome: Literal["better", "worse", "no difference", "not enough evidence"]
    reason: str
    effects: list[ExperimentEffect]


class Rollout(RolloutSummary):
    waves: list[Wave]
    shadow: Shadow | None
    experiment: Experiment | None
    ended: bool
    warnings: list[str]
    history: list[RolloutStep]
    permits: list[Permit]


class WavePlan(TypedDict):
    name: str
    count: int
    devices: list[str]
    offline: int
    approve: bool
    soak_seconds: float


class GroupPlan(TypedDict):
    group: str
    size: int
    at_once: int
    rounds: int


class RolloutPlan(TypedDict):
    """What a rollout would do if all went well. Nothing was started."""

    model: str
    version: str
    slot: str
    selector: str
    devices: int
    offline: int
    waves: list[WavePlan]
    budgets: list[GroupPlan]
    binding: str
    waiting: dict[str, int]
    least_seconds: float
    shadow: list[str]
    warnings: list[str]
    bytes_each: int
    bytes_published: int
    bytes_delivered: int


class Feature(TypedDict):
    name: str
    p0: list[float]
    now: list[int | float]
    statistics: dict[str, Any]
    status: str
    finding: Any
    trend: list[dict[str, Any]]


class Drift(TypedDict):
    """Each feature of a model on a device, now beside its baseline."""

    device: str
    model: str
    version: str
    manifest: str
    n: int
    windows: int
    status: str
    note: str
    hint: str
    features: list[Feature]


class Retry(TypedDict):
    device: str
    slots: list[str]


class Rebaseline(TypedDict):
    device: str
    model: str
    version: str
    manifest: str
    forgotten: list[str]


class Alert(TypedDict):
    id: int
    key: str
    device: str | None
    kind: str
    severity: str
    state: str
    opened: float
    updated: float
    title: str
    detail: dict[str, Any]
    advice: str


class Silence(TypedDict):
    id: int
    selector: str
    until: float
    reason: str
    by: str
    created: float


class Webhook(TypedDict):
    name: str
    url: str
    on: list[str]
    causes: list[str]
    created: float
    created_by: str
    secret_made: float
    tried: float | None
    fault: str


class WebhookMade(Webhook):
    secret: str


class WebhookTested(TypedDict):
    delivery: str
    taken: bool
    fault: str


class Scoped(TypedDict):
    """A role and what it is limited to."""

    role: str
    models: list[str]
    selector: str


class ApiToken(Scoped):
    id: str
    name: str
    created: float
    created_by: str
    owner: str
    expires: float | None
    revoked: float | None


class ApiTokenMade(ApiToken):
    token: str


class Audit(TypedDict):
    id: int
    at: float
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]
    previous: str
    hash: str
    code: str


class AuditState(TypedDict):
    ok: bool
    archived: int
    archived_latest: str
    rows: int
    latest: str
    fault: str
    keyed_from: int | None


class Key(TypedDict):
    id: str
    name: str


class Role(TypedDict):
    version: int
    expires: float
    threshold: int
    keys: list[Key]


class Waiting(TypedDict):
    """A change that waits: it needs ``threshold`` signatures of this group of keys."""

    version: int
    threshold: int
    signed: list[Key]
    may_sign: list[Key]


class Signing(TypedDict):
    roles: dict[str, Role]
    waiting: dict[str, list[Waiting]]


class Ending(TypedDict):
    kind: Literal["certificate", "authority", "metadata", "device_metadata"]
    name: str
    role: str
    expires: float


class Endings(TypedDict):
    items: list[Ending]
    more: int


class Assignment(TypedDict):
    id: int
    slot: str
    selector: str
    model: str
    version: str
    precedence: int
    window_seconds: float | None
    rollout: int | None
    created: float


class Event(TypedDict):
    id: int
    device: str | None
    kind: str
    received: float
    slot: str
    model: str
    version: str
    manifest: str
    generation: int
    refusal: str | None
    detail: str
    data: dict[str, Any]


class Alias(TypedDict):
    alias: str
    version: str
    since: float
    by: str


class AliasChange(TypedDict):
    alias: str
    version: str | None
    at: float
    by: str
    reason: str


class Aliases(TypedDict):
    aliases: list[Alias]
    history: list[AliasChange]


class Policy(TypedDict):
    model: str
    gates: list[dict[str, Any]]
    updated: float
    by: str


class Source(TypedDict):
    id: int
    uri: str
    model: str
    every_seconds: float
    options: dict[str, Any]
    created: float
    created_by: str
    looked: float | None
    identity: str
    version: str
    fault: str


class Loop(TypedDict):
    id: int
    model: str
    state: str
    reason: str
    opened: float
    opened_by: str
    cause: str
    since: float
    deadline: float
    ended: float | None
    approved_by: str
    pipeline: str
    run: str
    run_state: str
    run_url: str
    run_fault: str
    version: str
    rollout: int | None
    detail: dict[str, Any]
    history: list[dict[str, Any]]
