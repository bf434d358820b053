"""Sums over the windows that devices sent home, one for each device: what gates compare."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import func
from sqlmodel import Session, col, select

from muster_hub.storage.models import SummaryWindow
from muster_hub.storage.sums import total

DEVICES_PER_QUERY = 200


@dataclass(frozen=True)
class Sums:
    """Of one device over one span of time."""

    inferences: float = 0.0
    errors: float = 0.0
    labels: float = 0.0
    labels_wrong: float = 0.0
    seconds: float = 0.0
    """Covered by the windows that came."""
    windows: int = 0
    """Whose latency is known."""
    log_p95: float = 0.0
    """Summed over those."""
    log_p95_squared: float = 0.0
    until: float = 0.0
    """When the last of them ended."""

    @property
    def latency(self) -> float:
        return self.log_p95 / self.windows if self.windows else float("nan")

    @property
    def latency_noise(self) -> float:
        """Squared standard error of ``latency``."""
        if self.windows < 2:
            return 0.0
        spread = self.log_p95_squared / self.windows - self.latency**2
        return max(spread, 0.0) / (self.windows - 1)


def read(
    session: Session,
    devices: Collection[str],
    *,
    model: str,
    since: float,
    until: float,
    manifest: str | None = None,
    other_than: str | None = None,
) -> dict[str, Sums]:
    """Sums of windows of ``model`` that began in [since, until), of a manifest or of others."""
    found: dict[str, Sums] = {}
    listed = sorted(devices)
    for first in range(0, len(listed), DEVICES_PER_QUERY):
        some = listed[first : first + DEVICES_PER_QUERY]
        window = SummaryWindow
        p95 = col(window.log_p95)
        query = (
            select(  # type: ignore[call-overload]  # SQLModel types up to four columns
                window.device,
                total(window.n),
                total(window.errors),
                total(window.labels_right),
                total(window.labels_wrong),
                total(window.seconds),
                func.count(p95),
                total(p95),
                total(p95 * p95),
                func.max(window.start + window.seconds),
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
        for device, n, errors, right, wrong, seconds, windows, p95s, squares, end in session.exec(
            query
        ):
            found[device] = Sums(
                float(n), float(errors), float(right + wrong), float(wrong), float(seconds),
                int(windows), float(p95s or 0.0), float(squares or 0.0), float(end),
            )  # fmt: skip
    return found
