"""Alerts: one per trouble, open → acknowledged → resolved, with hysteresis. Pure.

A condition says that a trouble is present. A new one opens an alert; the same one again keeps the
alert and refreshes what it says. When the condition is gone the alert waits ``clear_seconds``
before it resolves, so that a trouble that comes and goes is one alert, not twenty.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["info", "warning", "critical"]
DAY_SECONDS = 86_400.0
CERTIFICATE_WARN_SECONDS = 60 * DAY_SECONDS
"""Devices renew with 110 to 146 of 365 days left."""
METADATA_WARN_DAYS = {"timestamp": 2.0, "snapshot": 10.0}
"""The hub signs these with 5 and 20 days left."""
OFFLINE_WARN_DAYS = 90.0

NAMED_MAX = 20
"""Devices that an alert about many names."""
HUB = "hub"
"""The kind of an alert about the hub itself; whoever watches it keeps those, not the engine."""
_RANK: dict[Severity, int] = {"info": 0, "warning": 1, "critical": 2}


@dataclass(frozen=True, kw_only=True)
class Condition:
    """A trouble that is present now; ``key`` names it for as long as it lasts."""

    key: str
    kind: str
    severity: Severity
    title: str
    device: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StandingAlert:
    """An alert that is open or acknowledged."""

    id: int
    key: str
    severity: Severity
    title: str
    detail: Mapping[str, Any]
    cleared_at: float | None = None


@dataclass(frozen=True, kw_only=True)
class AlertChanges:
    """What to write: alerts to open, to refresh (by id), to mark clearing, to resolve."""

    opened: tuple[Condition, ...] = ()
    refreshed: Mapping[int, Condition] = field(default_factory=dict)
    clearing: tuple[int, ...] = ()
    resolved: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.opened or self.refreshed or self.clearing or self.resolved)


def decide(
    standing: Iterable[StandingAlert],
    conditions: Iterable[Condition],
    *,
    now: float,
    clear_seconds: float,
) -> AlertChanges:
    """Compare what stands with what is; of conditions with one key the most severe counts."""
    present: dict[str, Condition] = {}
    for condition in conditions:
        other = present.get(condition.key)
        if other is None or _RANK[condition.severity] > _RANK[other.severity]:
            present[condition.key] = condition
    refreshed: dict[int, Condition] = {}
    clearing: list[int] = []
    resolved: list[int] = []
    for alert in standing:
        found = present.pop(alert.key, None)
        if found is not None:
            if alert.cleared_at is not None or _differs(alert, found):
                refreshed[alert.id] = found
        elif alert.cleared_at is None or alert.cleared_at > now:
            clearing.append(alert.id)
        elif now - alert.cleared_at >= clear_seconds:
            resolved.append(alert.id)
    return AlertChanges(
        opened=tuple(present[key] for key in sorted(present)),
        refreshed=refreshed,
        clearing=tuple(clearing),
        resolved=tuple(resolved),
    )


def _differs(alert: StandingAlert, condition: Condition) -> bool:
    return (alert.severity, alert.title, dict(alert.detail)) != (
        condition.severity,
        condition.title,
        dict(condition.detail),
    )


def silence(device: str, allowed_seconds: float) -> Condition:
    """A device that has said nothing for longer than allowed."""
    return Condition(
        key=f"silent/{device}",
        kind="silence",
        severity="warning",
        device=device,
        title=f"{device} has not been heard of for more than {allowed_seconds:.0f} s",
    )


def silences(
    site: str, devices: Sequence[str], everybody: int, allowed_seconds: float
) -> Condition:
    """Many devices, of one site or of all, that have said nothing for longer than allowed."""
    where = f"at {site} " if site else ""
    return Condition(
        key=f"silent//{site}",
        kind="silence",
        severity="critical",
        title=f"{len(devices)} of {everybody} devices {where}have not been heard of for more than "
        f"{allowed_seconds:.0f} s: is their network or power out, or the broker out of reach?",
        detail={"devices": len(devices), "of": everybody, "some": list(devices[:NAMED_MAX])}
        | ({"site": site} if site else {}),
    )


def refused_widely(alike: Sequence[Condition]) -> Condition:
    """Many devices that refuse the same update for the same reason."""
    about = alike[0].detail
    return Condition(
        key=f"refused//{about['slot']}/{about['manifest']}/{about['refusal']}",
        kind="refusal",
        severity="critical",
        title=f"{len(alike)} devices refused {about['name']} in {about['slot']}: "
        f"{about['refusal']}",
        detail=dict(about) | {"devices": len(alike), "some": [
            condition.device for condition in alike[:NAMED_MAX]
        ]},
    )  # fmt: skip


def refused(device: str, slot: str, update: Mapping[str, Any]) -> Condition | None:
    """A slot whose latest update the device refused or rolled back."""
    refusal = update.get("refusal")
    if update.get("state") != "failed" or not refusal:
        return None
    name = f"{update.get('model', '')} {update.get('version', '')}".strip() or "its update"
    return Condition(
        key=f"refused/{device}/{slot}/{update.get('manifest', '')}",
        kind="refusal",
        severity="warning",
        device=device,
        title=f"{device} refused {name} in {slot}: {refusal}",
        detail={
            "slot": slot,
            "model": update.get("model", ""),
            "name": name,
            "manifest": update.get("manifest", ""),
            "refusal": refusal,
            "detail": update.get("detail", ""),
        },
    )


def starved(device: str, slot: str, report: Mapping[str, Any]) -> Condition | None:
    """A slot whose feeds lack values: a source is lost, a signal is stale, a sink takes nothing."""
    words = str(report.get("feed") or "")
    if not words:
        return None
    return Condition(
        key=f"feed/{device}/{slot}",
        kind="feed",
        severity="warning",
        device=device,
        title=f"{device}, slot {slot}: {words}",
        detail={
            "slot": slot,
            "detail": words,
            "advice": "Look at the source and its tags on the device: muster-agent feed list, then "
            "muster-agent feed check. Until then the model's fallback answers.",
        },
    )


def drifted(
    device: str,
    model: str,
    version: str,
    feature: str,
    *,
    title: str,
    since: float = 0.0,
    detail: Mapping[str, Any] | None = None,
) -> Condition:
    """A feature of a model on a device that has left what is normal.

    ``since`` is part of the key: a finding that is told anew is another alert.
    """
    return Condition(
        key=f"drift/{device}/{model}/{feature}/{since:.0f}",
        kind="drift",
        severity="warning",
        device=device,
        title=title,
        detail={"model": model, "version": version, "features": [feature]} | dict(detail or {}),
    )


def drifted_widely(device: str, model: str, version: str, features: Iterable[str]) -> Condition:
    """Further features of a model that drift on a device, beside those with their own alerts."""
    names = sorted(features)
    return Condition(
        key=f"drift/{device}/{model}",
        kind="drift",
        severity="warning",
        device=device,
        title=f"{device}: {model} {version} drifts in {len(names)} more features",
        detail={"model": model, "version": version, "features": names, "findings": {}},
    )


CLONE_ADVICE = (
    "Find the copied card and give it an identity of its own: delete its directory identity/ and "
    "enrol it anew. If you can't tell which is which, revoke {device}, and enrol both again."
)


def set_aside(device: str, count: int, why: str) -> Condition:
    """A device that sends what can't be read or kept: broken, or hostile."""
    return Condition(
        key=f"set_aside/{device}",
        kind="set_aside",
        severity="warning",
        device=device,
        title=f"{device} sends what can't be taken: {why[:120]}",
        detail={"messages": count, "fault": why},
    )


def hoarding(device: str, epochs: int) -> Condition:
    """A device that opens one outbox after another."""
    return Condition(
        key=f"epochs/{device}",
        kind="epochs",
        severity="warning",
        device=device,
        title=f"{device} has begun {epochs} outboxes within a day: is its disk wiped, or does "
        "something else use its certificate?",
        detail={"epochs": epochs},
    )


def cloned(device: str, addresses: Sequence[str]) -> Condition:
    """Two machines with one identity; from which addresses, as far as the broker tells."""
    places = " and ".join(addresses)
    if len(addresses) == 1:
        places = f"{places}, both"
    return Condition(
        key=f"clone/{device}",
        kind="clone",
        severity="critical",
        device=device,
        title=f"two machines use {device}" + (f": from {places}" if places else ""),
        detail={"addresses": list(addresses), "advice": CLONE_ADVICE.format(device=device)},
    )


def doubted(device: str, kind: str, why: str) -> Condition:
    """A device whose report says what can't be: a fault, a restored backup, or a lie."""
    return Condition(
        key=f"doubt/{device}/{kind}",
        kind="doubt",
        severity="warning",
        device=device,
        title=f"{device} reports what can't be: {why[:200]}",
        detail={"about": kind, "why": why},
    )


def ahead(devices: Iterable[str], count: int, role: str, version: int, own: int) -> Condition:
    """Devices that claim metadata which this hub has never signed."""
    named = list(devices)
    more = f" and {count - len(named)} more" if count > len(named) else ""
    return Condition(
        key="ahead",
        kind="metadata",
        severity="warning",
        device=named[0] if count == 1 else None,
        title=f"{', '.join(named)}{more}: the {role} metadata claimed are version {version}, this "
        f"hub's latest are {own}; the hub follows only what they can show to be signed",
        detail={"devices": count, "role": role, "version": version, "own": own},
    )


def caught_up(device: str, versions: Mapping[str, int]) -> Condition:
    """The hub went on from metadata that a device showed."""
    return Condition(
        key="caught_up",
        kind="metadata",
        severity="warning",
        title=f"this hub went on from newer metadata of its own that {device} showed: it was set "
        "back, by a backup or a snapshot; or its keys are in other hands",
        detail={"device": device, "versions": dict(versions)},
    )


def hub_part(part: str, state: str, why: str, process: str = "") -> Condition:
    """A part of the hub itself that doesn't work as it should; of several processes, in which."""
    where = f" in the process {process}" if process else ""
    return Condition(
        key=f"hub/{process}/{part}" if process else f"hub/{part}",
        kind=HUB,
        severity="critical" if state in ("dead", "ended", "silent", "full") else "warning",
        title=f"the hub: {part}{where} is {state}" + (f": {why}" if why else ""),
        detail={"part": part, "state": state, "why": why}
        | ({"process": process} if process else {}),
    )


def inputs_refused(device: str, view: Mapping[str, Any], share: float) -> Condition:
    """Requests to a model that are refused because of their input, more than is usual."""
    return Condition(
        key=f"inputs/{device}/{view['model']}",
        kind="inputs",
        severity="warning",
        device=device,
        title=f"{device}: {share:.0%} of the latest requests to {view['model']} {view['version']} "
        "are refused because of their input; check what sends them (missing values, shape, type)",
        detail={"model": view["model"], "version": view["version"], "share": round(share, 3)},
    )


def mistakes_risen(device: str, view: Mapping[str, Any], usual: float, lately: float) -> Condition:
    """A model that labels show to be wrong more often than it was on this device."""
    return Condition(
        key=f"accuracy/{device}/{view['model']}",
        kind="accuracy",
        severity="warning",
        device=device,
        title=f"{device}: {view['model']} {view['version']} is wrong more often: {usual:.0%} → "
        f"{lately:.0%} of its labelled answers; the world has changed, or the labels have",
        detail={
            "model": view["model"], "version": view["version"],
            "usual": round(usual, 4), "lately": round(lately, 4),
        },
    )  # fmt: skip


def metadata_warn_days(role: str) -> float:
    """With less than this left a role should have been signed anew by now."""
    return METADATA_WARN_DAYS.get(role, OFFLINE_WARN_DAYS)


def certificate_ending(device: str, seconds_left: float) -> Condition | None:
    """A device that has not renewed its certificate although it should have by now."""
    if seconds_left > CERTIFICATE_WARN_SECONDS:
        return None
    days = seconds_left / DAY_SECONDS
    return Condition(
        key=f"certificate/{device}",
        kind="certificate",
        severity="critical" if days <= 0 else "warning",
        device=device,
        title=f"{device}: its certificate "
        + (f"ends in {days:.0f} days" if days > 0 else "has expired; it renews when it is back"),
    )


def metadata_ending(role: str, seconds_left: float) -> Condition | None:
    """Signed metadata that nobody signs anew: no device installs anything once it has expired."""
    days = seconds_left / DAY_SECONDS
    warn = metadata_warn_days(role)
    if days > warn:
        return None
    cure = "the hub should have signed it: see its log" if role in METADATA_WARN_DAYS else (
        "it waits for keys kept elsewhere: muster-hub signing-request"
    )  # fmt: skip
    model = role.removeprefix("model-")
    return Condition(
        key=f"metadata/{role}",
        kind="metadata",
        detail={"role": role} | ({"model": model} if model != role else {}),
        severity="critical" if days <= warn / 4 else "warning",
        title=f"the {role} metadata "
        + (f"expires in {days:.0f} days" if days > 0 else "has expired: no device installs")
        + f"; {cure}",
    )
