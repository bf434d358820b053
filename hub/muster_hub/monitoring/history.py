"""Hours and days of a model on one device, on the fleet, or on the devices of a selector."""

from collections.abc import Callable
from typing import Any

import numpy as np
from sqlalchemy import func
from sqlmodel import Session, col, select

from muster_hub.errors import Invalid
from muster_hub.monitoring.labels import regression
from muster_hub.monitoring.rollup_step import FLEET, LEVEL_SECONDS
from muster_hub.monitoring.trend import Yardstick
from muster_hub.registry.published import read_baseline
from muster_hub.storage import selecting
from muster_hub.storage.models import Rollup, RollupLevel
from muster_hub.storage.sums import total, whole
from muster_protocol.signals import summary_wire
from muster_protocol.signals.baseline import Baseline
from muster_protocol.signals.summary import Summary
from muster_protocol.wire import selectors
from muster_protocol.wire.errors import MusterError

POINTS_MAX = 1000
"""Hours or days in one answer: forty days of hours."""
SUMMED = ("windows", "seconds", "n", "errors", "labels_right", "labels_wrong")
Plain = dict[str, Any]
NOT_MERGED: Plain = {
    "p95_seconds": None, "cpu_seconds": None, "energy_joules": None, "features": [],
    "mean_absolute_error": None, "root_mean_square_error": None,
}  # fmt: skip


def read(
    session: Session,
    blobs: Callable[[str], bytes],
    *,
    model: str,
    level: RollupLevel,
    since: float,
    until: float,
    device: str | None = None,
    selector: str | None = None,
) -> list[Plain]:
    """Points of [since, until) in order of time, one for each version.

    With a selector counts are summed over the devices that match it now, without latency and
    features: those are merged for single devices and for the fleet. Raises Invalid.
    """
    if (until - since) / LEVEL_SECONDS[level] > POINTS_MAX:
        raise Invalid(f"more than {POINTS_MAX} {level}s: ask for a shorter time, or for days")
    among = [
        col(Rollup.level) == level,
        col(Rollup.model) == model,
        col(Rollup.start) >= since,
        col(Rollup.start) < until,
    ]
    devices = _devices(session, among)
    if device is None and selector:
        chosen = selectors.parse(selector)
        among.append(col(Rollup.device).in_(selecting.devices(chosen)))
        return _summed(session, among)
    among.append(col(Rollup.device) == (FLEET if device is None else device))
    ordered = select(Rollup).where(*among).order_by(col(Rollup.start), col(Rollup.version))
    rows = session.exec(ordered).all()
    known: dict[str, tuple[Baseline | None, Yardstick | None]] = {}
    found = []
    for row in rows:
        if row.manifest not in known:
            baseline = _baseline(row.manifest, blobs)
            known[row.manifest] = baseline, None if baseline is None else Yardstick(baseline)
        period = {name: getattr(row, name) for name in ("start", "version", "manifest", *SUMMED)}
        period["devices"] = 1 if device else devices.get((row.start, row.manifest), 0)
        found.append(_with_accuracy(period) | _merged(row, *known[row.manifest]))
    return found


def _devices(session: Session, among: list[Any]) -> dict[tuple[float, str], int]:
    query = select(Rollup.start, Rollup.manifest, func.count())
    query = query.where(*among, col(Rollup.device) != FLEET)
    rows = session.exec(query.group_by(col(Rollup.start), col(Rollup.manifest)))
    return {(start, manifest): int(count) for start, manifest, count in rows}


def _summed(session: Session, among: list[Any]) -> list[Plain]:
    names = ("start", "version", "manifest", "devices", *SUMMED)
    keys = (col(Rollup.start), col(Rollup.version), col(Rollup.manifest))
    sums = (total(getattr(Rollup, name)) for name in SUMMED)
    query = select(*keys, func.count(), *sums).where(*among)
    rows = session.exec(query.group_by(*keys).order_by(*keys))
    return [_with_accuracy(_whole(dict(zip(names, row, strict=True)))) | NOT_MERGED for row in rows]


def _whole(point: Plain) -> Plain:
    return point | {name: whole(point[name]) for name in SUMMED if name != "seconds"}


def _with_accuracy(period: Plain) -> Plain:
    right, wrong = int(period.pop("labels_right")), int(period.pop("labels_wrong"))
    accuracy = right / (right + wrong) if right + wrong else None
    return period | {"labels": right + wrong, "accuracy": accuracy}


def _merged(row: Rollup, baseline: Baseline | None, measure: Yardstick | None) -> Plain:
    """Latency and features, as far as they can be read."""
    try:
        summary = summary_wire.decode(row.payload, baseline, merged=True)
    except MusterError:
        return NOT_MERGED
    if not isinstance(summary, Summary):
        return NOT_MERGED
    p95, counts = summary.latency_quantile(0.95), summary.features
    return {
        "p95_seconds": p95 if np.isfinite(p95) else None,
        "cpu_seconds": summary.cpu_seconds,
        "energy_joules": summary.energy_joules,
        "features": [] if counts is None or measure is None else measure.points(counts),
    } | regression(summary.label_errors)


def _baseline(manifest: str, blobs: Callable[[str], bytes]) -> Baseline | None:
    try:
        return read_baseline(manifest, blobs)
    except MusterError:
        return None
