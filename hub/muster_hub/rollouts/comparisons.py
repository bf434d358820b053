"""What a version has compared with what runs, summed from devices' windows."""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlmodel import Session, col

from muster_hub.storage.models import SummaryWindow
from muster_hub.storage.sums import total, whole

DEVICES_PER_QUERY = 200
COUNTS = {
    "compared": "compared",
    "disagreed": "disagreed",
    "failed": "compared_failed",
    "labelled": "compared_labelled",
    "right": "compared_right",
    "champion_right": "compared_champion_right",
}
"""``Watched``'s names of a window's columns."""


def compared(
    session: Session, devices: Sequence[str], *, manifest: str, since: float
) -> dict[str, dict[str, int]]:
    """Device → sums of what its windows since then have compared, by ``Watched``'s names."""
    window = SummaryWindow
    columns = [getattr(window, name) for name in COUNTS.values()]
    found: dict[str, dict[str, int]] = {}
    for first in range(0, len(devices), DEVICES_PER_QUERY):
        query = (
            sa.select(col(window.device), *(total(column) for column in columns))
            .where(
                col(window.device).in_(devices[first : first + DEVICES_PER_QUERY]),
                col(window.manifest) == manifest,
                col(window.start) >= since,
            )
            .group_by(window.device)
        )
        for row in session.connection().execute(query):
            found[row[0]] = dict(zip(COUNTS, map(whole, row[1:]), strict=True))
    return found
