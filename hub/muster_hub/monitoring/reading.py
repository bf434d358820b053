"""Windows of telemetry and their counts as they are shown. Nothing here writes."""

from typing import Any

import numpy as np
from sqlalchemy import func
from sqlmodel import Session, col, select

from muster_hub.access.scope import Scope
from muster_hub.monitoring import labels
from muster_hub.storage import models, selecting
from muster_hub.storage.sums import total, whole
from muster_protocol.signals import summary_wire
from muster_protocol.wire.errors import MusterError

HISTORICAL_SECONDS = 3600.0
"""A window that comes this long after its end tells of the past, not of now."""

Plain = dict[str, Any]


def counts(session: Session, scope: Scope, device: str) -> Plain:
    """``totals`` with what labels said of each version."""
    found = totals(session, scope, device)
    said = labels.by_version(session, scope, device)
    nothing = labels.LabelSums()
    accuracy = {name: said.get(name, nothing).shown() for name in sorted(found["by_version"])}
    return found | {"label_accuracy": accuracy}


def totals(session: Session, scope: Scope, device: str) -> Plain:
    """What the hub has counted of a device, each window once, those no longer kept included; of
    models in scope. Sums of the database's: no window is opened."""
    window, day = models.SummaryWindow, models.Rollup
    by_version: dict[str, list[int]] = {}
    for table, among, rows in (
        (window, (col(window.fault) == "", col(window.rolled).is_(False)), func.count()),
        (day, (col(day.level) == "day",), total(day.windows)),
    ):
        found = session.exec(
            select(  # type: ignore[call-overload]  # SQLModel types up to four columns
                table.model,
                table.version,
                rows,
                total(table.n),
                total(table.errors),
            )
            .where(col(table.device) == device, *among)
            .where(selecting.of_models(col(table.model), scope.models))
            .group_by(table.model, table.version)
        )
        for model, version, *numbers in found:
            sums = by_version.setdefault(f"{model}/{version}", [0] * len(numbers))
            sums[:] = [a + whole(b) for a, b in zip(sums, numbers, strict=True)]
    return {
        "device": device,
        "inferences": sum(sums[1] for sums in by_version.values()),
        "errors": sum(sums[2] for sums in by_version.values()),
        "windows": sum(sums[0] for sums in by_version.values()),
        "by_version": {name: sums[1] for name, sums in by_version.items()},
        "unreadable_windows": session.exec(
            select(func.count())
            .where(col(window.device) == device, col(window.fault) != "")
            .where(selecting.of_models(col(window.model), scope.models))
        ).one(),
    }


def windows(
    session: Session,
    scope: Scope,
    device: str,
    *,
    model: str | None,
    before: int | None,
    limit: int,
) -> list[Plain]:
    """Committed windows of models in scope, the newest first, without their features."""
    window = models.SummaryWindow
    query = select(window).where(
        col(window.device) == device, selecting.of_models(col(window.model), scope.models)
    )
    if model is not None:
        query = query.where(col(window.model) == model)
    if before is not None:
        query = query.where(col(window.id) < before)
    found = session.exec(query.order_by(col(window.id).desc()).limit(limit))
    return [
        row.model_dump(exclude={"payload", "folded", "rolled"})
        | {"historical": row.received - row.start - row.seconds > HISTORICAL_SECONDS}
        | _counted(row)
        for row in found
    ]


def _counted(row: models.SummaryWindow) -> Plain:
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
        "energy_joules": summary.energy_joules or None,
    }
