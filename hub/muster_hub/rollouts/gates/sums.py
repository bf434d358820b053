"""Sums over the windows that devices sent home, one for each device: what gates compare."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import func
from sqlmodel import Session, col, select

from muster_hub.rollouts.gates.look import Sums
from muster_hub.storage.counts import COLUMNS
from muster_hub.storage.models import SummaryWindow
from muster_hub.storage.sums import total

DEVICES_PER_QUERY = 200


def read(
    session: Session,
    devices: Collection[str],
    *,
    model: str,
    since: float,
    until: float,
    counts: Sequence[str] = (),
    manifest: str | None = None,
    other_than: str | None = None,
) -> dict[str, Sums]:
    """Sums of windows of ``model`` that began in [since, until), of a manifest or of others.

    ``counts`` names those of ``summary.Tally`` that are wanted.
    """
    found: dict[str, Sums] = {}
    listed = sorted(devices)
    for first in range(0, len(listed), DEVICES_PER_QUERY):
        some = listed[first : first + DEVICES_PER_QUERY]
        window = SummaryWindow
        p95 = col(window.log_p95)
        query = (
            select(  # type: ignore[call-overload]  # SQLModel types up to four columns
                window.device,
                total(window.seconds),
                func.count(p95),
                total(p95),
                total(p95 * p95),
                func.max(window.start + window.seconds),
                *(total(_count(name)) for name in counts),
            )
            .where(
                col(window.device).in_(some),
                col(window.model) == model,
                col(window.start) >= since,
                col(window.start) < until,
                col(window.fault) == "",
            )
            .group_by(window.device)
        )
        if manifest is not None:
            query = query.where(col(window.manifest) == manifest)
        if other_than is not None:
            query = query.where(col(window.manifest) != other_than)
        for device, seconds, windows, p95s, squares, end, *numbers in session.exec(query):
            found[device] = Sums(
                {name: float(n or 0.0) for name, n in zip(counts, numbers, strict=True)},
                float(seconds), int(windows), float(p95s or 0.0), float(squares or 0.0),
                float(end),
            )  # fmt: skip
    return found


def _count(name: str) -> Any:
    """A window's count: from its own column, or from where those without are kept."""
    column = COLUMNS.get(name)
    if column is not None:
        return getattr(SummaryWindow, column)
    return col(SummaryWindow.counts)[name].as_integer()
