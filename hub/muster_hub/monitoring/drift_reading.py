"""Each feature of a model on a device beside its baseline. Nothing here writes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, func
from sqlmodel import Session, col, select

from muster_hub.monitoring import trend
from muster_hub.registry.published import read_baseline
from muster_hub.storage import models, selecting
from muster_hub.storage.models import SummaryWindow
from muster_protocol.signals import drift as drift_wire
from muster_protocol.signals import summary as summaries
from muster_protocol.signals import summary_wire
from muster_protocol.signals.baseline import Baseline
from muster_protocol.signals.summary import Summary
from muster_protocol.wire import selectors
from muster_protocol.wire.errors import MusterError

DRIFT_WINDOWS = 12
"""Windows merged into the "now" of a drift view."""

Plain = dict[str, Any]
Read = Callable[[str], bytes]


def devices_of_page(session: Session, *, selector: str, after: str, limit: int) -> list[str]:
    """Ids of the devices that a selector matches, in order, those after ``after``."""
    chosen = selecting.devices(selectors.parse(selector)).where(col(models.Device.id) > after)
    return list(session.exec(chosen.order_by(col(models.Device.id)).limit(limit)).all())


def drift(
    session: Session, read: Read, devices: Sequence[str], *, model: str | None
) -> list[Plain]:
    """Each model that runs on each of these devices: its features against the baseline, in the
    latest windows. As many statements for many devices as for one.
    """
    baselines: dict[str, Baseline | None] = {}
    found = _latest(session, devices, model)
    windows = _windows(session, found)
    states = _states(session, found)
    views = []
    for latest in found:
        if latest.manifest not in baselines:
            baselines[latest.manifest] = _baseline(latest.manifest, read)
        baseline = baselines[latest.manifest]
        key = (latest.device, latest.manifest)
        if baseline is not None:
            views.append(_view(latest, windows.get(key, ()), states.get(key, {}), baseline))
    return views


def device_drift(session: Session, read: Read, device: str, *, model: str | None) -> list[Plain]:
    """``drift`` of one device, and with each feature how it moved over the last day's windows."""
    views = drift(session, read, [device], model=model)
    for view in views:
        baseline = _baseline(view["manifest"], read)
        assert baseline is not None, "a view is made against a baseline"
        moved = trend.read(session, device, view["manifest"], baseline)
        for feature in view["features"]:
            feature["trend"] = moved.get(feature["name"], [])
    return views


def _latest(session: Session, devices: Sequence[str], model: str | None) -> list[SummaryWindow]:
    """The latest readable window of each model of each device, by device and model."""
    window = SummaryWindow
    latest = (
        select(func.max(window.id))
        .where(col(window.device).in_(devices), col(window.fault) == "", col(window.n) > 0)
        .group_by(window.device, window.model)
    )
    if model is not None:
        latest = latest.where(col(window.model) == model)
    rows = session.exec(
        select(window)
        .where(col(window.id).in_(latest))
        .order_by(col(window.device), col(window.model))
    )
    return list(rows.all())


def _windows(
    session: Session, latest: Sequence[SummaryWindow]
) -> dict[tuple[str, str], list[SummaryWindow]]:
    """The last ``DRIFT_WINDOWS`` of each device and manifest, in the order they came."""
    window = SummaryWindow
    newest = (
        func.row_number()
        .over(partition_by=(window.device, window.manifest), order_by=col(window.id).desc())
        .label("newest")
    )
    ranked = (
        select(col(window.id).label("id"), newest)
        .where(*_of(window, latest), col(window.fault) == "")
        .subquery()
    )
    chosen = select(ranked.c.id).where(ranked.c.newest <= DRIFT_WINDOWS)
    found: dict[tuple[str, str], list[SummaryWindow]] = {}
    rows = session.exec(select(window).where(col(window.id).in_(chosen)).order_by(col(window.id)))
    for row in rows:
        found.setdefault((row.device, row.manifest), []).append(row)
    return found


def _states(
    session: Session, latest: Sequence[SummaryWindow]
) -> dict[tuple[str, str], Mapping[str, Any]]:
    """What the drift monitor says of each device and manifest."""
    state = models.DriftState
    rows = session.exec(select(state.device, state.manifest, state.view).where(*_of(state, latest)))
    return {(device, manifest): view for device, manifest, view in rows}


def _of(
    table: type[SummaryWindow | models.DriftState], latest: Sequence[SummaryWindow]
) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """Rows of these devices and these manifests: a few more than of their pairs."""
    return (
        col(table.device).in_({row.device for row in latest}),
        col(table.manifest).in_({row.manifest for row in latest}),
    )


def _view(
    latest: SummaryWindow,
    windows: Iterable[SummaryWindow],
    state: Mapping[str, Any],
    baseline: Baseline,
) -> Plain:
    merged = _merged(windows, baseline)
    drifting = set(state.get("drifting", ()))
    calibration: dict[str, str] = state.get("calibration", {})
    features = []
    if merged is not None and merged.features is not None:
        for index, measured in enumerate(drift_wire.statistics(merged, baseline)):
            size = int(baseline.sizes[index])
            features.append(
                {
                    "name": measured.name,
                    "p0": (baseline.shares[index, :size] / baseline.shares[index].sum()).tolist(),
                    "now": merged.features.bins[index, :size].tolist(),
                    "statistics": _numbers(measured),
                    "status": "drifting"
                    if measured.name in drifting
                    else calibration.get(measured.name, "calibrating"),
                    "finding": state.get("findings", {}).get(measured.name),
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
        "note": state.get("note", ""),
        "hint": state.get("confidence", {}).get("hint", ""),
        "features": features,
    }


def _drift_status(drifting: set[str], calibration: set[str]) -> str:
    """Of a model on a device: the worst that its features say."""
    if drifting:
        return "drifting"
    worst = ("refused", "calibrating", "calibrated")
    return next((word for word in worst if word in calibration), "calibrating")


def _merged(windows: Iterable[SummaryWindow], baseline: Baseline) -> Summary | None:
    merged: Summary | None = None
    for row in windows:
        try:
            item = summary_wire.decode(row.payload, baseline)
        except MusterError:
            continue
        if isinstance(item, Summary):
            merged = item if merged is None else summaries.merge(merged, item)
    return merged


def _numbers(statistics: object) -> Plain:
    """Statistics as plain numbers; what isn't finite is None, for JSON has no such thing."""
    plain = {}
    for name, value in vars(statistics).items():
        if isinstance(value, int | float | np.number):
            number = float(value)
            plain[name] = number if np.isfinite(number) else None
    return plain


def _baseline(manifest: str, read: Read) -> Baseline | None:
    try:
        return read_baseline(manifest, read)
    except MusterError:
        return None
