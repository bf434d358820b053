"""Loops of the last 30 days in numbers: how they ended, how long it took, what may still begin."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

import sqlalchemy as sa
from sqlmodel import Session, col, or_

from muster_hub.loop.decide import MONTH_SECONDS
from muster_hub.settings.loop import LoopTerms
from muster_hub.storage.registry import LoopRow

LOOPS_MAX = 5000
"""Read for one scrape, the newest: each model may train 1000 times in 30 days at most."""


@dataclass
class LoopReading:
    """Loops by model; seconds, and seconds since 1970."""

    since: dict[str, float] = field(default_factory=dict)
    """When the loop that is open entered its state."""
    deadlines: dict[str, float] = field(default_factory=dict)
    """When it must have left it."""
    ended: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(model, state that ends it) → loops that ended in the last 30 days."""
    trainings: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(model, result) → trainings of loops that were opened in the last 30 days."""
    close_seconds: dict[str, float] = field(default_factory=dict)
    """Median, from opening to ``closed``."""
    trainings_left: dict[str, int] = field(default_factory=dict)
    """That may still begin now, by ``runs_per_30_days``."""


def read(session: Session, terms: Sequence[LoopTerms], now: float) -> LoopReading:
    """Count what the database holds at ``now``, by one statement."""
    found = LoopReading()
    begin = now - MONTH_SECONDS
    open_or_late = or_(
        col(LoopRow.ended).is_(None), col(LoopRow.opened) >= begin, col(LoopRow.ended) >= begin
    )
    row = LoopRow
    query = sa.select(
        col(row.model), col(row.state), col(row.opened), col(row.since), col(row.deadline),
        col(row.ended), col(row.run), col(row.run_state),
    ).where(open_or_late)  # fmt: skip
    rows = session.connection().execute(query.order_by(col(row.id).desc()).limit(LOOPS_MAX))
    spent: Counter[str] = Counter()
    seconds: dict[str, list[float]] = {}
    for model, state, opened, since, deadline, ended, run, run_state in rows:
        if ended is None:
            found.since[model], found.deadlines[model] = since, deadline
        elif ended >= begin:
            found.ended[model, state] += 1
            if state == "closed":
                seconds.setdefault(model, []).append(ended - opened)
        if opened >= begin:
            spent[model] += run != ""
            if run_state:
                found.trainings[model, run_state] += 1
    found.close_seconds = {model: median(values) for model, values in seconds.items()}
    found.trainings_left = {
        own.model: max(own.runs_per_30_days - spent[own.model], 0) for own in terms
    }
    return found
