"""What the API shows, read from the database as plain values. Nothing here writes."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np
from sqlalchemy import func
from sqlmodel import Session, col, or_, select

from muster_hub.fleet.known import is_online
from muster_hub.identity import proof
from muster_hub.monitoring import trend
from muster_hub.registry.published import read_baseline
from muster_hub.rollouts import experiment_step, shadow_step
from muster_hub.rollouts.plan import read_plan, stages
from muster_hub.storage import models, selecting
from muster_protocol.signals import drift as drift_wire
from muster_protocol.signals import summary as summaries
from muster_protocol.signals import summary_wire
from muster_protocol.signals.baseline import Baseline
from muster_protocol.signals.summary import Summary
from muster_protocol.wire import selectors
from muster_protocol.wire.errors import MusterError

HISTORY_MAX = 500
DRIFT_WINDOWS = 12
"""Windows merged into the "now" of a drift view."""

HISTORICAL_SECONDS = 3600.0
"""A window that comes this long after its end tells of the past, not of now."""

Plain = dict[str, Any]
Read = Callable[[str], bytes]


def devices(
    session: Session, *, selector: str | None, after: str, limit: int, now: float
) -> list[Plain]:
    """Devices by id, those after ``after``; raises SelectorError."""
    found = session.exec(
        select(models.Device, models.DirectiveRow)
        .join(
            models.DirectiveRow,
            col(models.DirectiveRow.device) == col(models.Device.id),
            isouter=True,
        )
        .where(selecting.matching(selectors.parse(selector or "")))
        .where(col(models.Device.id) > after)
        .order_by(col(models.Device.id))
        .limit(limit)
    )
    rows = [(row, directive) for row, directive in found]
    held = _certificates(session, [row.id for row, _ in rows])
    return [_device(row, directive, held.get(row.id, []), now) for row, directive in rows]


def device(session: Session, device: str, now: float) -> Plain | None:
    row = session.get(models.Device, device)
    directive = session.get(models.DirectiveRow, device)
    held = _certificates(session, [device])
    return None if row is None else _device(row, directive, held.get(device, []), now)


def rollout(session: Session, rollout: int, now: float) -> Plain | None:
    """A rollout with its waves, and in each its devices, what became of them and why."""
    row = session.get(models.Rollout, rollout)
    if row is None:
        return None
    found = session.exec(
        select(models.RolloutDevice, models.Device)
        .where(
            col(models.RolloutDevice.rollout) == rollout,
            col(models.RolloutDevice.device) == col(models.Device.id),
        )
        .order_by(col(models.RolloutDevice.device))
    ).all()
    waves: list[Plain] = [
        {"wave": wave, "name": stage.name, "devices": []}
        for wave, stage in enumerate(stages(read_plan(row.plan)))
    ]
    for reached, known in found:
        online = is_online(known, now)
        waiting = reached.state in ("targeted", "in_progress")
        shown = reached.model_dump(exclude={"rollout", "wave"})
        detail = "waiting until it is back" if waiting and not online else reached.detail
        waves[reached.wave]["devices"].append(shown | {"online": online, "detail": detail})
    for wave in waves:
        states = [device["state"] for device in wave["devices"]]
        wave["counts"] = {state: states.count(state) for state in sorted(set(states))}
    return row.model_dump() | {
        "waves": waves,
        "shadow": _shadow(session, row),
        "experiment": experiment_step.arms_and_outcome(row),
        "ended": row.state not in ("running", "paused"),
        "warnings": sorted((row.judged or {}).get("warnings", {}).values()),
        "history": _history(session, rollout),
        "leave": _leave(session, row),
    }


def _shadow(session: Session, row: models.Rollout) -> Plain | None:
    """The shadow before the first wave, with what each of its devices has compared."""
    if row.shadow is None:
        return None
    devices = row.shadow["devices"]
    sums = shadow_step.compared(session, devices, manifest=row.manifest, since=row.shadow["since"])
    shown = {name: row.shadow[name] for name in ("since", "action", "reason")}
    nothing = dict.fromkeys(shadow_step.COUNTS, 0)
    told = [{"device": device} | nothing | sums.get(device, {}) for device in devices]
    return shown | {"devices": told}


def _history(session: Session, rollout: int) -> list[Plain]:
    """What it did and waited for, the oldest first; the newest ``HISTORY_MAX`` of it."""
    found = session.exec(
        select(models.RolloutStep)
        .where(col(models.RolloutStep.rollout) == rollout)
        .order_by(col(models.RolloutStep.id).desc())
        .limit(HISTORY_MAX)
    ).all()
    return [row.model_dump(exclude={"rollout"}) for row in reversed(found)]


def _leave(session: Session, rollout: models.Rollout) -> list[Plain]:
    """Who was given leave to swap and counts as down, and who was refused, and why."""
    grant = models.SwapGrant
    found = session.exec(
        select(grant)
        .where(
            col(grant.slot) == rollout.slot,
            or_(
                col(grant.given_manifest) == rollout.manifest,
                col(grant.manifest) == rollout.manifest,
            ),
            or_(col(grant.given_at).is_not(None), col(grant.reason) != ""),
        )
        .order_by(col(grant.device))
        .limit(HISTORY_MAX)
    ).all()
    return [
        {
            "device": row.device,
            "asked_at": row.asked_at,
            "given_at": row.given_at,
            "reason": row.reason,
        }
        for row in found
    ]


def counts(session: Session, device: str) -> Plain:
    """What the hub has counted of a device, each window once, those no longer kept included."""
    window, day = models.SummaryWindow, models.Rollup
    by_version: dict[str, list[int]] = {}
    for table, among, rows in (
        (window, (col(window.fault) == "", col(window.rolled).is_(False)), func.count()),
        (day, (col(day.level) == "day",), func.sum(day.windows)),
    ):
        found = session.exec(
            select(  # type: ignore[call-overload]  # SQLModel types up to four columns
                table.model,
                table.version,
                rows,
                func.sum(table.n),
                func.sum(table.errors),
                func.sum(table.labels_right),
                func.sum(table.labels_wrong),
            )
            .where(col(table.device) == device, *among)
            .group_by(table.model, table.version)
        )
        for model, version, *numbers in found:
            sums = by_version.setdefault(f"{model}/{version}", [0] * len(numbers))
            sums[:] = [a + int(b) for a, b in zip(sums, numbers, strict=True)]
    return {
        "device": device,
        "inferences": sum(sums[1] for sums in by_version.values()),
        "errors": sum(sums[2] for sums in by_version.values()),
        "windows": sum(sums[0] for sums in by_version.values()),
        "by_version": {name: sums[1] for name, sums in by_version.items()},
        "label_accuracy": {
            name: {
                "labels": right + wrong,
                "accuracy": right / (right + wrong) if right + wrong else None,
            }
            for name, (_, _, _, right, wrong) in by_version.items()
        },
        "unreadable_windows": session.exec(
            select(func.count()).where(col(window.device) == device, col(window.fault) != "")
        ).one(),
    }


def windows(
    session: Session, device: str, *, model: str | None, before: int | None, limit: int
) -> list[Plain]:
    """Committed windows, the newest first, without their features."""
    window = models.SummaryWindow
    query = select(window).where(col(window.device) == device)
    if model is not None:
        query = query.where(col(window.model) == model)
    if before is not None:
        query = query.where(col(window.id) < before)
    found = session.exec(query.order_by(col(window.id).desc()).limit(limit))
    return [
        row.model_dump(exclude={"payload", "folded", "rolled"})
        | {"historical": row.received - row.start - row.seconds > HISTORICAL_SECONDS}
        | _told(row)
        for row in found
    ]


def alerts(
    session: Session,
    *,
    state: str | None,
    before: int | None,
    limit: int,
    selector: str | None = None,
) -> list[Plain]:
    """Alerts, the newest first; with a selector those of devices that match."""
    query = select(models.Alert).order_by(col(models.Alert.id).desc()).limit(limit)
    if state is not None:
        query = query.where(col(models.Alert.state) == state)
    if before is not None:
        query = query.where(col(models.Alert.id) < before)
    if selector:
        chosen = selectors.parse(selector)
        query = query.where(col(models.Alert.device).in_(selecting.devices(chosen)))
    return [row.model_dump() for row in session.exec(query)]


def alert(session: Session, alert: int) -> Plain | None:
    row = session.get(models.Alert, alert)
    return None if row is None else row.model_dump()


def events(session: Session, *, after: int, limit: int, selector: str | None = None) -> list[Plain]:
    """What happened since event ``after``, the oldest first; with a selector on devices of it."""
    query = select(models.EventRow).where(col(models.EventRow.id) > after)
    if selector:
        chosen = selectors.parse(selector)
        query = query.where(col(models.EventRow.device).in_(selecting.devices(chosen)))
    found = session.exec(query.order_by(col(models.EventRow.id)).limit(limit))
    return [row.model_dump() for row in found]


def drift(
    session: Session,
    read: Read,
    *,
    device: str | None,
    selector: str | None,
    model: str | None,
    now: float,  # noqa: ARG001 (the API passes it to every view)
) -> list[Plain]:
    """Per device and model that runs there: each feature against the baseline, latest windows.

    Of one device, how each feature moved over the last day's windows comes with it.
    """
    chosen = selectors.parse(selector or "")
    names = (
        [device]
        if device is not None
        else session.exec(selecting.devices(chosen).order_by(col(models.Device.id))).all()
    )
    baselines: dict[str, Baseline | None] = {}
    found = []
    for name in names:
        for latest in _latest_manifests(session, name, model):
            if latest.manifest not in baselines:
                baselines[latest.manifest] = _baseline(latest.manifest, read)
            baseline = baselines[latest.manifest]
            if baseline is not None:
                view = _drift_view(session, latest, baseline)
                if device is not None:
                    moved = trend.read(session, name, latest.manifest, baseline)
                    for feature in view["features"]:
                        feature["trend"] = moved.get(feature["name"], [])
                found.append(view)
    return found


def _certificates(session: Session, devices: list[str]) -> dict[str, list[str]]:
    """The certificates in PEM, not revoked, of each of these devices; the newest first."""
    found: dict[str, list[str]] = {}
    rows = session.exec(
        select(models.Certificate.device, models.Certificate.pem)
        .where(col(models.Certificate.device).in_(devices))
        .where(col(models.Certificate.revoked).is_(None))
        .order_by(col(models.Certificate.issued).desc())
    )
    for device, pem in rows:
        found.setdefault(device, []).append(pem)
    return found


def _device(
    row: models.Device,
    directive: models.DirectiveRow | None,
    certificates: list[str],
    now: float,
) -> Plain:
    """A device: what it should run, what it says it runs, and what it has proved to run."""
    wanted = {} if directive is None else msgspec.json.decode(directive.payload)["slots"]
    slots = ((row.report or {}).get("slots") or {}) if row.report else {}
    desired = {
        slot: {key: item["champion"][key] for key in ("model", "version", "manifest")}
        for slot, item in wanted.items()
    }
    return row.model_dump() | {
        "online": is_online(row, now),
        "generation": None if directive is None else directive.generation,
        "desired": desired,
        "proved": proof.proved_slots(row.id, row.report, certificates),
        "running": {
            slot: {key: running.get(key) for key in ("model", "version", "manifest", "runtime")}
            for slot, item in slots.items()
            if (running := item.get("running"))
        },
        "converged": all(_runs(slots.get(slot), item) for slot, item in desired.items()),
    }


def _runs(slot: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> bool:
    """Whether a slot's report proves the wanted version committed."""
    running = (slot or {}).get("running") or {}
    state = ((slot or {}).get("update") or {}).get("state")
    return running.get("manifest") == wanted["manifest"] and state in ("idle", "committed")


def _latest_manifests(
    session: Session, device: str, model: str | None
) -> list[models.SummaryWindow]:
    """The latest readable window of each model of a device."""
    window = models.SummaryWindow
    latest = (
        select(func.max(window.id))
        .where(col(window.device) == device, col(window.fault) == "", col(window.n) > 0)
        .group_by(window.model)
    )
    if model is not None:
        latest = latest.where(col(window.model) == model)
    return list(session.exec(select(window).where(col(window.id).in_(latest))).all())


def _drift_view(session: Session, latest: models.SummaryWindow, baseline: Baseline) -> Plain:
    merged = _merged(session, latest, baseline)
    state = session.get(models.DriftState, (latest.device, latest.manifest))
    view: Plain = state.view if state is not None else {}
    drifting = set(view.get("drifting", ()))
    calibration: dict[str, str] = view.get("calibration", {})
    features = []
    if merged is not None and merged.features is not None:
        for index, told in enumerate(drift_wire.statistics(merged, baseline)):
            size = int(baseline.sizes[index])
            features.append(
                {
                    "name": told.name,
                    "p0": (baseline.shares[index, :size] / baseline.shares[index].sum()).tolist(),
                    "now": merged.features.bins[index, :size].tolist(),
                    "statistics": _numbers(told),
                    "status": "drifting"
                    if told.name in drifting
                    else calibration.get(told.name, "calibrating"),
                    "finding": view.get("findings", {}).get(told.name),
                }
            )
    return {
        "device": latest.device,
        "model": latest.model,
        "version": latest.version,
        "manifest": latest.manifest,
        "n": merged.counts.inferences if merged is not None else 0,
        "windows": merged.windows if merged is not None else 0,
        "status": _drift_status(drifting, set(calibration.values())),
        "features": features,
    }


def _drift_status(drifting: set[str], calibration: set[str]) -> str:
    """Of a model on a device: the worst that its features say."""
    if drifting:
        return "drifting"
    worst = ("refused", "calibrating", "calibrated")
    return next((word for word in worst if word in calibration), "calibrating")


def _merged(session: Session, latest: models.SummaryWindow, baseline: Baseline) -> Summary | None:
    window = models.SummaryWindow
    rows = session.exec(
        select(window)
        .where(
            col(window.device) == latest.device,
            col(window.manifest) == latest.manifest,
            col(window.fault) == "",
        )
        .order_by(col(window.id).desc())
        .limit(DRIFT_WINDOWS)
    ).all()
    merged: Summary | None = None
    for row in reversed(rows):
        try:
            item = summary_wire.decode(row.payload, baseline)
        except MusterError:
            continue
        if isinstance(item, Summary):
            merged = item if merged is None else summaries.merge(merged, item)
    return merged


def _numbers(told: object) -> Plain:
    """Statistics as plain numbers; what isn't finite is None, for JSON has no such thing."""
    plain = {}
    for name, value in vars(told).items():
        if isinstance(value, int | float | np.number):
            number = float(value)
            plain[name] = number if np.isfinite(number) else None
    return plain


def _told(row: models.SummaryWindow) -> Plain:
    """What else a window's header says."""
    try:
        header = summary_wire.peek(row.payload)
    except MusterError:
        return {}
    if isinstance(header, summary_wire.Unknown):
        return {}
    summary = header.summary
    p95 = summary.latency_quantile(0.95)
    return {
        "errors_by_kind": summary.counts.errors_by_kind(),
        "fallbacks": summary.counts.fallbacks,
        "merged_windows": summary.windows,
        "p95_seconds": p95 if np.isfinite(p95) else None,
        "accuracy": summary.accuracy,
    }


def _baseline(manifest: str, read: Read) -> Baseline | None:
    try:
        return read_baseline(manifest, read)
    except MusterError:
        return None
