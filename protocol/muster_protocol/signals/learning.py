"""Fit a baseline in time: training rows in their order, cut into windows as a device would.

For the operator's machine; a device only reads the result. Everything is measured by the device's
own code (``binning.count``, ``vectors``), so that training and service can't differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muster_protocol.signals import baseline, binning, charts, timeline, vectors
from muster_protocol.signals.baseline import Baseline
from muster_protocol.signals.binning import FeatureCounts
from muster_protocol.signals.charts import PLANS, Plan
from muster_protocol.signals.features import Feature, Tensors
from muster_protocol.signals.timeline import HOURS, SCALES, Regime, Timeline, packed
from muster_protocol.signals.vectors import Kind, Layout
from muster_protocol.wire.errors import ProtocolError

Doubles = NDArray[np.float64]
WINDOWS_MIN = 16
"""Fewer training windows than this can't show how windows differ."""
WINDOWS_WANTED = 150
PROFILE_SECONDS_MIN = 28 * 86_400
"""A week's profile is only learnt from four weeks or more."""
PROFILE_TRUST_WINDOWS = 2.0
"""An hour's mean counts as much as n/(n + this): a few windows show more of chance than of it."""
REGIME_WINDOWS_MIN = 16
EIGENVALUE_MIN = 1e-6
STILL_ROWS_MIN = 10
STILL_SHARE_MAX = 0.02
"""Of rows that repeat the one before them: more is no chance."""
STILL_FACTOR_RESTLESS, STILL_FACTOR = 5, 10
"""Times the longest rest in training: of signals that repeat by chance, and by nature."""
STILL_WINDOWS_MIN = 24
"""Windows that a signal must rest for that rests by nature."""
ROWS_OF_CORRELATION_MAX = 1 << 18
LARGEST_OF_MIN = 3
"""Of fewer numbers, T² sees the largest as well: one chart more would cost the others' share."""
FLOOR = 0.1
"""No number of a window is taken for steadier than so much of independent rows' sampling error."""


@dataclass(frozen=True)
class InTime:
    """How training rows lie in time."""

    rows: int
    """Rows a window, as many as a device will see in one."""
    window_seconds: float = 0.0
    times: NDArray[np.float64] | None = None
    """[rows]: seconds since 1970 of each row; None when there is no such column."""
    context: str = ""
    """The categorical feature that tells the regime: a recipe, mode or product."""


def fit(tensors: Tensors, features: Sequence[Feature], in_time: InTime) -> Baseline:
    """Bin training rows and learn how their windows differ; rows are in order of time.

    Raises ProtocolError when a feature has no value, when there are fewer than ``WINDOWS_MIN``
    windows, or when the context feature is not a categorical one.
    """
    rows = len(next(iter(tensors.values())))
    windows = rows // in_time.rows
    if windows < WINDOWS_MIN:
        raise ProtocolError(
            f"{rows} training rows are {windows} windows of {in_time.rows}: at least {WINDOWS_MIN} "
            f"are needed to learn how windows differ, {WINDOWS_WANTED} to be sure of it"
        )
    bare = prepared(tensors, features, in_time)
    counted = [
        binning.count(bare, {name: part[at : at + in_time.rows] for name, part in tensors.items()})
        for at in range(0, windows * in_time.rows, in_time.rows)
    ]
    return learnt(bare, counted, in_time)


def prepared(tensors: Tensors, features: Sequence[Feature], in_time: InTime) -> Baseline:
    """What rows show before they are cut into windows: bins, projections, how long signals rest.

    It is for counting training windows, which ``learnt`` learns from. Raises ProtocolError as
    ``fit``.
    """
    plain = baseline.fit(tensors, features)
    context = _context(plain, in_time.context)
    matrix, _ = plain.extractor.extract(tensors)
    return baseline.made(plain.features, plain.bins, _bare(Layout(plain), matrix, in_time, context))


def learnt(bare: Baseline, counted: Sequence[FeatureCounts], in_time: InTime) -> Baseline:
    """Learn how windows differ that were counted against ``bare``, in order of time."""
    assert bare.normal is not None, "a baseline that was prepared for it"
    file, context = bare.normal.file, bare.normal.file.context
    layout = Layout(bare)
    x = np.nan_to_num(np.array([layout.measure(counts)[0] for counts in counted]))
    u = np.nan_to_num(np.array([vectors.relations(counts) for counts in counted]))
    profile = _profile(x, in_time, len(counted))
    if profile is not None:
        assert in_time.times is not None
        x = x - profile[vectors.hours(in_time.times[:: in_time.rows][: len(counted)])]
    regimes = () if context < 0 else _regimes(x, counted, context)
    for regime in regimes:
        of_it = np.array([vectors.regime_of(counts, context) == regime.bin for counts in counted])
        x[of_it] = (x[of_it] - timeline.unpacked(regime.center)) / timeline.unpacked(regime.ratio)
    floor = _floors(layout, in_time.rows)
    relation_floor = np.full(u.shape[1], FLOOR / np.sqrt(2 * max(in_time.rows - 1, 1)))
    fitted = []
    for plan in PLANS:
        v, least = (u, relation_floor) if plan.relations else (x, floor)
        spreads = np.ones(u.shape[1], np.bool_) if plan.relations else layout.kind == Kind.SPREAD
        if v.shape[1] >= (LARGEST_OF_MIN if plan.largest else 1):
            fitted.append(charts.fit(plan, v, least * _shrink(plan), spreads).file)
    whole = Timeline(
        rows=file.rows,
        window_seconds=file.window_seconds,
        windows=len(counted),
        projections=file.projections,
        charts=tuple(fitted),
        spreads=packed(_spreads(x, floor)),
        carry=packed(charts.carried(x)),
        still=file.still,
        capped=packed(_capped(layout, counted)),
        missing=packed(_missing(counted)),
        profile=b"" if profile is None else packed(profile),
        context=context,
        regimes=regimes,
    )
    return baseline.made(bare.features, bare.bins, whole)


def _shrink(plan: Plan) -> float:
    """Standard deviation of the chart's number over that of independent windows."""
    return float(np.sqrt(plan.smoothing / (2 - plan.smoothing)))


def _context(plain: Baseline, name: str) -> int:
    if not name:
        return -1
    for place, feature in enumerate(plain.features):
        if feature.name == name and feature.kind != "numeric":
            return place
    raise ProtocolError(f"the context {name!r} is not among the categorical features")


def _bare(layout: Layout, matrix: NDArray[np.float32], in_time: InTime, context: int) -> Timeline:
    """The block before anything is counted: what the rows themselves show."""
    numeric, numbers = len(layout.numeric), len(layout)
    projections = _projections(layout, matrix) if in_time.rows >= vectors.SPREAD_ROWS_MIN else []
    return Timeline(
        rows=in_time.rows,
        window_seconds=in_time.window_seconds,
        windows=1,
        projections=packed(np.array(projections)),
        charts=(),
        spreads=packed(np.ones((len(SCALES), numbers))),
        carry=packed(np.zeros(numbers)),
        still=packed(np.array([_stuck_rows(row, in_time.rows) for row in matrix], np.float64)),
        capped=packed(np.zeros((2, numeric))),
        missing=packed(np.zeros(len(layout.baseline))),
        context=context,
    )


def _projections(layout: Layout, matrix: NDArray[np.float32]) -> list[Doubles]:
    """The rows' four least and four greatest principal directions, each over its own spread."""
    if len(matrix) < 2:  # nothing it could be related to
        return []
    step = max(1, matrix.shape[1] * len(matrix) // (64 * ROWS_OF_CORRELATION_MAX))
    some = matrix[:, ::step].astype(np.float64)
    mean = layout.baseline.mean[layout.numeric]
    std = np.array([layout.baseline.bins[i].std for i in layout.numeric])
    z = np.where(
        np.isfinite(some), (some - mean[:, None]) / np.where(std > 0, std, np.inf)[:, None], 0.0
    )
    values, directions = np.linalg.eigh(z @ z.T / z.shape[1])
    alive = np.flatnonzero(values > EIGENVALUE_MIN)
    half = timeline.PROJECTIONS_MAX // 2
    chosen = sorted({*alive[:half].tolist(), *alive[-half:].tolist()})
    return [directions[:, i] / np.sqrt(values[i]) for i in chosen]


def _stuck_rows(row: NDArray[Any], rows: int) -> int:
    """Rows in a row with the same value, from which on a sensor is stuck.

    A signal that hardly ever repeats a value does so by chance only; one that often does rests by
    nature, and must rest for much longer than it ever did.
    """
    changes = np.flatnonzero(row[1:] != row[:-1])
    longest = int(np.diff(np.concatenate([[-1], changes, [len(row) - 1]])).max(initial=0))
    repeats = 1 - len(changes) / max(len(row) - 1, 1)
    if repeats <= STILL_SHARE_MAX:
        return max(STILL_ROWS_MIN, STILL_FACTOR_RESTLESS * longest)
    return max(STILL_FACTOR * longest, STILL_WINDOWS_MIN * rows)


def _capped(layout: Layout, counted: Sequence[FeatureCounts]) -> Doubles:
    """[2, numeric]: most windows in a row with the same maximum, and minimum."""
    where = layout.numeric
    most = run = np.ones((2, len(where)))
    before = np.full((2, len(where)), np.nan)
    for counts in counted:
        now = np.stack([counts.high[where], counts.low[where]])
        same = vectors.same_extreme(layout.baseline.mean[where], before, now)
        run = np.where(same, run + 1, 1.0)
        most, before = np.maximum(most, run), now
    return most


def _missing(counted: Sequence[FeatureCounts]) -> Doubles:
    """[features]: largest smoothed share of missing values."""
    smooth = np.zeros(len(counted[0].nulls))
    most = smooth.copy()
    for counts in counted:
        smooth = vectors.missing_share(smooth, counts)
        most = np.maximum(most, smooth)
    return most


def _floors(layout: Layout, rows: int) -> Doubles:
    """[numbers]: least standard deviations: a tenth of what independent rows would show."""
    floor = np.empty(len(layout))
    floor[layout.kind == Kind.LEVEL] = FLOOR / np.sqrt(rows)
    floor[layout.kind == Kind.SPREAD] = FLOOR / np.sqrt(2 * max(rows - 1, 1))
    feature, place = layout.shares
    trained = layout.baseline.rows[feature]
    share = (layout.baseline.shares[feature, place] / baseline.SHARE_ONE * trained + 0.5) / (
        trained + 1
    )
    # A share is seldom anything else than sampling; half of it, as categories follow each other.
    floor[layout.kind == Kind.SHARE] = 0.5 * np.sqrt(share * (1 - share) / rows)
    return floor


def _spreads(x: Doubles, floor: Doubles) -> Doubles:
    """[3, numbers]: standard deviations of the means of 1, 3 and 12 windows in a row."""
    rows: list[Doubles] = []
    for scale in SCALES:
        blocks = len(x) // scale
        if blocks < 2:
            rows.append(rows[-1])
            continue
        means = x[: blocks * scale].reshape(blocks, scale, -1).mean(axis=1)
        rows.append(np.maximum(means.std(axis=0, ddof=1), floor / np.sqrt(scale)))
    return np.array(rows)


def _profile(x: Doubles, in_time: InTime, windows: int) -> Doubles | None:
    """[168, numbers]: what is usual at each hour of the week, drawn to the mean where little is
    known; None when training covers less than four weeks."""
    if in_time.times is None:
        return None
    begin = in_time.times[:: in_time.rows][:windows]
    if not np.isfinite(begin).all() or begin[-1] - begin[0] < PROFILE_SECONDS_MIN:
        return None
    profile, place, mean = np.zeros((HOURS, x.shape[1])), vectors.hours(begin), x.mean(axis=0)
    for hour in range(HOURS):
        of_it = place == hour
        n = int(of_it.sum())
        if n:
            profile[hour] = (x[of_it].mean(axis=0) - mean) * n / (n + PROFILE_TRUST_WINDOWS)
    return profile


def _regimes(x: Doubles, counted: Sequence[FeatureCounts], context: int) -> tuple[Regime, ...]:
    """What is normal in each regime with enough windows, off the mean of all."""
    place = np.array([vectors.regime_of(counts, context) for counts in counted])
    spread = np.maximum(x.std(axis=0), charts.CALM)
    found = []
    for chosen in sorted(set(place.tolist()) - {-1})[: timeline.REGIMES_MAX]:
        of_it = x[place == chosen]
        if len(of_it) >= REGIME_WINDOWS_MIN:
            own = of_it.std(axis=0, ddof=1)
            found.append(
                Regime(
                    bin=chosen,
                    windows=len(of_it),
                    center=packed(of_it.mean(axis=0)),
                    ratio=packed(np.clip(own / spread, 0.05, 20.0)),
                )
            )
    return tuple(found)
