"""How a device's features have moved over its latest windows: a few points, merged from many."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from sqlmodel import Session, col, select

from muster_hub.storage.models import SummaryWindow
from muster_protocol.signals import summary as summaries
from muster_protocol.signals import summary_wire
from muster_protocol.signals.baseline import Baseline
from muster_protocol.signals.binning import FeatureCounts
from muster_protocol.signals.divergence import pooled, pooled_live, psi_corrected, training_counts
from muster_protocol.signals.summary import Summary
from muster_protocol.wire.errors import MusterError

WINDOWS_MAX = 288
"""A day of five-minute windows."""
POINTS_MAX = 48
Windows = Sequence[tuple[float, Summary]]


def read(
    session: Session, device: str, manifest: str, baseline: Baseline
) -> dict[str, list[dict[str, Any]]]:
    """Feature → points in order of time; see ``points``."""
    window = SummaryWindow
    rows = session.exec(
        select(window)
        .where(
            col(window.device) == device,
            col(window.manifest) == manifest,
            col(window.fault) == "",
            col(window.n) > 0,
        )
        .order_by(col(window.start).desc(), col(window.id).desc())
        .limit(WINDOWS_MAX)
    ).all()
    return points(list(_decoded(reversed(rows), baseline)), POINTS_MAX)


def points(windows: Windows, most: int) -> dict[str, list[dict[str, Any]]]:
    """At most ``most`` points a feature; windows, in order of time, are merged in equal runs.

    ``start`` in seconds since 1970, ``n`` rows, ``psi`` bias-corrected against training, and
    ``shift``: how many of the baseline's standard deviations the mean has moved, None where a
    feature has no mean or the baseline no spread.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    run = max(-(-len(windows) // most), 1)
    measure: Yardstick | None = None
    for first in range(0, len(windows), run):
        start, merged = windows[first]
        for _, window in windows[first + 1 : first + run]:
            merged = summaries.merge(merged, window)
        counts = merged.features
        if counts is None or not counts.rows:
            continue
        measure = measure or Yardstick(counts.baseline)
        for point in measure.points(counts):
            found.setdefault(point.pop("name"), []).append({"start": start} | point)
    return found


class Yardstick:
    """How far counts are from one baseline, feature by feature; made once, used for many."""

    def __init__(self, baseline: Baseline) -> None:
        self._baseline = baseline
        self._training = pooled(baseline, training_counts(baseline))
        self._live = pooled_live(baseline)
        self._std = np.array([bins.std for bins in baseline.bins])

    def points(self, counts: FeatureCounts) -> list[dict[str, Any]]:
        """``name``, ``n``, ``psi`` and ``shift`` of every feature."""
        base = self._baseline
        psi = psi_corrected(pooled(base, counts.bins), self._training, self._live)
        with np.errstate(divide="ignore", invalid="ignore"):
            shift = (counts.mean() - base.mean) / self._std
        columns = zip(
            base.features, counts.values.tolist(), psi.tolist(), shift.tolist(), strict=True
        )
        return [
            {"name": feature.name, "n": n, "psi": _finite(p), "shift": _finite(s)}
            for feature, n, p, s in columns
        ]


def _decoded(rows: Iterable[SummaryWindow], baseline: Baseline) -> Iterable[tuple[float, Summary]]:
    for row in rows:
        try:
            item = summary_wire.decode(row.payload, baseline)
        except MusterError:
            continue
        if isinstance(item, Summary):
            yield row.start, item


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
