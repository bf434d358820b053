"""Each feature of a model on a device beside its baseline. Nothing here writes."""

from collections.abc import Callable
from typing import Any

import numpy as np
from sqlalchemy import func
from sqlmodel import Session, col, select

from muster_hub.monitoring import trend
from muster_hub.registry.published import read_baseline
from muster_hub.storage import models, selecting
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


def _baseline(manifest: str, read: Read) -> Baseline | None:
    try:
        return read_baseline(manifest, read)
    except MusterError:
        return None
