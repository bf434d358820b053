"""What gates read beside sums of windows: drifting features, disagreement, posted values."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import func
from sqlmodel import Session, col, delete, select

from muster_hub.rollouts.gates.look import Moments
from muster_hub.rollouts.gates.sums import DEVICES_PER_QUERY
from muster_hub.storage import models
from muster_hub.storage.sums import total, whole

COMPARED_MIN = 30
"""With fewer answers a device's share says little."""
VALUES_KEPT_SECONDS = 30 * 86_400.0
"""How long posted values outlive their rollout's end."""


@dataclass(frozen=True, kw_only=True)
class Received:
    """What a look asks for beside sums of windows: ``look.Source`` from the database."""

    session: Session
    rollout: int
    model: str
    manifest: str
    created: float
    """When the rollout began: what is older is a device's past."""
    since: float
    """When the wave began."""
    past_seconds: float
    begun: Mapping[str, float]
    """Canaries, and when each had the release."""
    controls: Collection[str]

    def drifting(self) -> Mapping[str, tuple[int, int]]:
        """Drifting features and watched ones, by device."""
        session, model, since = self.session, self.model, self.since
        have = drifting(session, self.begun, model=model, since=since, manifest=self.manifest)
        return have | drifting(
            session, self.controls, model=model, since=since, other_than=self.manifest
        )

    def disagreement(self) -> Sequence[tuple[float, int]]:
        """Share of differing answers and compared inputs, for each challenger."""
        return disagreement(self.session, manifest=self.manifest, since=self.created)

    def posted(self, metric: str) -> Mapping[str, tuple[Moments, Moments]]:
        """Values that operators posted of a metric, since the release and before, by device."""
        return posted(
            self.session,
            self.rollout,
            metric,
            dict(self.begun) | dict.fromkeys(self.controls, self.since),
            before=self.created,
            past_since=self.created - self.past_seconds,
        )


def drifting(
    session: Session,
    devices: Collection[str],
    *,
    model: str,
    since: float,
    manifest: str | None = None,
    other_than: str | None = None,
) -> dict[str, tuple[int, int]]:
    """Features that drift and features watched, on each device that told since then."""
    found: dict[str, tuple[int, int]] = {}
    state = models.DriftState
    for some in _chunks(devices):
        query = select(state.device, state.view).where(
            col(state.device).in_(some), col(state.updated) >= since
        )
        if manifest is not None:
            query = query.where(col(state.manifest) == manifest)
        if other_than is not None:
            query = query.where(col(state.manifest) != other_than)
        for device, view in session.exec(query.order_by(col(state.updated))):
            if view.get("model") == model and view.get("calibration"):
                found[device] = len(view.get("drifting", ())), len(view["calibration"])
    return found


def disagreement(session: Session, *, manifest: str, since: float) -> list[tuple[float, int]]:
    """(Share answered otherwise, answers compared) of each device that ran it as a challenger."""
    window = models.SummaryWindow
    compared, otherwise = total(window.compared), total(window.disagreed)
    rows = session.exec(
        select(window.device, compared, otherwise)
        .where(col(window.manifest) == manifest, col(window.start) >= since)
        .group_by(window.device)
        .having(compared >= COMPARED_MIN)
        .order_by(window.device)
    )
    return [(float(differ) / float(every), whole(every)) for _, every, differ in rows]


def posted(
    session: Session,
    rollout: int,
    metric: str,
    begun: Mapping[str, float],
    *,
    before: float,
    past_since: float,
) -> dict[str, tuple[Moments, Moments]]:
    """Posted values of devices: since each one's own beginning, and in [past_since, before)."""
    value = models.MetricValue
    now: dict[str, list[float]] = {}
    past: dict[str, list[float]] = {}
    for some in _chunks(begun):
        rows = session.exec(
            select(value.device, value.at, value.value).where(
                value.rollout == rollout, value.metric == metric, col(value.device).in_(some)
            )
        )
        for device, at, number in rows:
            if at >= begun[device]:
                now.setdefault(device, []).append(number)
            elif past_since <= at < before:
                past.setdefault(device, []).append(number)
    return {device: (_moments(now.get(device)), _moments(past.get(device))) for device in begun}


def values_of(session: Session, rollout: int) -> int:
    """How many values were posted for a rollout."""
    value = models.MetricValue
    return session.exec(
        select(func.count()).select_from(value).where(col(value.rollout) == rollout)
    ).one()


def forget(session: Session, now: float) -> None:
    """Drop values of rollouts that ended long ago."""
    row = models.Rollout
    ended = select(row.id).where(
        col(row.state).not_in(("running", "paused")), col(row.updated) < now - VALUES_KEPT_SECONDS
    )
    session.exec(delete(models.MetricValue).where(col(models.MetricValue.rollout).in_(ended)))


def _moments(values: list[float] | None) -> Moments:
    if not values:
        return Moments()
    array = np.array(values, np.float64)
    return Moments(len(values), float(array.sum()), float(array @ array))


def _chunks(devices: Collection[str]) -> Iterator[list[str]]:
    listed = sorted(devices)
    for first in range(0, len(listed), DEVICES_PER_QUERY):
        yield listed[first : first + DEVICES_PER_QUERY]
