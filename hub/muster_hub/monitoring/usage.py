"""Which versions answered how often over time, of the whole fleet. Nothing here writes."""

from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlmodel import Session, col

from muster_hub.access.scope import Scope
from muster_hub.storage import selecting
from muster_hub.storage.models import Rollup

HOUR_SECONDS = 3600.0
SERIES_MAX = 6
FLEET = ""
OTHERS = "others"


@dataclass(frozen=True)
class Usage:
    """Inferences by hour: ``series`` has one value for each of ``hours`` (their starts)."""

    hours: list[float] = field(default_factory=list)
    series: dict[str, list[float]] = field(default_factory=dict)


def by_version(session: Session, scope: Scope, since: float, until: float) -> Usage:
    """Hours of [since, until), the versions that answered most by name, the rest together.

    One statement. Nothing for who is limited to some devices: hours are summed over all.
    """
    if scope.selector.parts:
        return Usage()
    rows = session.connection().execute(
        sa.select(col(Rollup.start), col(Rollup.model), col(Rollup.version), col(Rollup.n))
        .where(col(Rollup.level) == "hour", col(Rollup.device) == FLEET)
        .where(col(Rollup.start) >= since, col(Rollup.start) < until)
        .where(selecting.of_models(col(Rollup.model), scope.models))
    )
    found: dict[str, dict[float, float]] = {}
    for start, model, version, count in rows:
        hours = found.setdefault(f"{model} {version}", {})
        hours[start] = hours.get(start, 0.0) + float(count)
    if not found:
        return Usage()
    first = min(start for hours in found.values() for start in hours)
    last = max(start for hours in found.values() for start in hours)
    times = [
        first + HOUR_SECONDS * step for step in range(round((last - first) / HOUR_SECONDS) + 1)
    ]
    ordered = sorted(found, key=lambda name: -sum(found[name].values()))
    kept = ordered if len(ordered) <= SERIES_MAX else ordered[: SERIES_MAX - 1]
    series = {name: [found[name].get(at, 0.0) for at in times] for name in kept}
    if rest := ordered[len(kept) :]:
        series[OTHERS] = [sum(found[name].get(at, 0.0) for name in rest) for at in times]
    return Usage(times, series)
