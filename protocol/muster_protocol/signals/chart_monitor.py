"""The drift monitor in time: what a baseline of format 2 allows.

A window is held against what is usual (at this hour, in this regime, on this device), its deviation
goes through the control charts, and what sensors at fault do is looked for beside them. One finding
stands for one feature; a standing finding never hides another one.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from muster_protocol.signals import chart_state, charts, divergence, sensor_faults
from muster_protocol.signals.baseline import Baseline
from muster_protocol.signals.binning import FeatureCounts
from muster_protocol.signals.chart_state import ChartState, Moments, Own, Standing
from muster_protocol.signals.charts import Track
from muster_protocol.signals.naming import BY_CHARTS, Accuser
from muster_protocol.signals.rule import DriftFinding, Fault, Rule
from muster_protocol.signals.summary import Summary
from muster_protocol.signals.timeline import Chart, Normal
from muster_protocol.signals.usual import Seen, Usual
from muster_protocol.signals.vectors import Layout
from muster_protocol.wire.errors import ProtocolError

Doubles = NDArray[np.float64]
Flags = NDArray[np.bool_]
TURNING_WINDOWS = 6
"""A feature that turns round sooner swings: one finding."""
LATELY = 0.1
SETTLING_BEGINS = 1 / 3
"""Of the time that a change must stand: what comes before it may be on its way."""
RATIO_MAX = 50.0
CARRY_MAX = 0.9
READY_MAX = 64
"""Baselines, and rules for them, kept ready for monitors to come."""
_LASTING: frozenset[Fault] = frozenset(("stuck", "clipped", "dropped out", "unit changed"))
"""A sensor at fault stays at fault, however long: these never become normal by themselves."""


class ChartMonitor:
    """Feed it a device's summaries of one manifest, in order of time."""

    def __init__(
        self, baseline: Baseline, rule: Rule | None = None, state: ChartState | None = None
    ) -> None:
        """Raises ProtocolError for a baseline that does not know training in time."""
        if baseline.normal is None:
            raise ProtocolError("this baseline does not know training in time")
        self.baseline = baseline
        self.rule = rule or Rule()
        self.normal = baseline.normal
        self.limits = _limits(self.normal, self.rule.chance, self.rule.chance_of_means)
        """Of each chart's statistic."""
        self._state = state or ChartState.fresh(baseline, self.normal)
        self.layout, self._usual, self._accuser = _ready(baseline)

    @classmethod
    def decode(cls, baseline: Baseline, rule: Rule | None, data: bytes) -> "ChartMonitor":
        """Continue an encoded monitor; raises ProtocolError when it is of another baseline."""
        return cls(baseline, rule, chart_state.decode(data, baseline))

    def encode(self) -> bytes:
        """The monitor's state as compressed bytes, for ``decode`` with the same baseline."""
        return chart_state.encode(self._state, self.baseline)

    def drifting(self) -> frozenset[str]:
        """Names of the features with a finding that stands."""
        return frozenset(self._name(feature) for feature in self._state.standing)

    def status(self) -> dict[str, str]:
        """Each feature's calibration.

        ``calibrated`` once the device's own windows were as the baseline (or a settled change)
        says for ``Rule.confirm_windows`` in a row; ``refused`` while a sensor's fault stands.
        """
        return {
            self._name(feature): self._feature_status(feature)
            for feature in range(len(self.baseline))
        }

    def rebaseline(self) -> None:
        """Take the device's last windows as its normal from now on: an operator's decision."""
        state = self._state
        if state.seen:
            windows = min(state.seen, round(2 / LATELY) - 1)
            trust = 1 - (1 - LATELY) ** state.seen
            for own, lately in zip(state.own, state.lately, strict=True):
                own.center, own.windows = lately / trust, float(windows)
        self._restart()
        state.standing.clear()
        state.habits.still[:] = state.habits.capped[:] = 0

    def feed(self, summary: Summary) -> list[DriftFinding]:
        """Judge the next window; findings are of features that drift now or just recovered."""
        counts = summary.features
        if counts is None or not counts.rows:
            return []
        state = self._state
        window = self._usual.see(summary, counts)
        state.seen += 1
        self._remember(window)
        seen: dict[int, Standing] = {}
        accused = self._chart(window, seen)
        state.habits.add(counts)
        self._look_for_faults(counts, seen)
        findings = self._decide(counts, seen, accused=accused)
        self._gather(window)
        return findings

    def _remember(self, window: tuple[Seen, Seen]) -> None:
        state = self._state
        offsets = [
            _known(part.x - middle)
            for part, middle in zip(window, self._usual.middles, strict=True)
        ]
        state.lately = (
            (1 - LATELY) * state.lately[0] + LATELY * offsets[0],
            (1 - LATELY) * state.lately[1] + LATELY * offsets[1],
        )

    # -- the charts ------------------------------------------------------------------------------

    def _chart(self, window: tuple[Seen, Seen], seen: dict[int, Standing]) -> bool:
        """Step every chart; what each accuses goes into ``seen``. Whether any left its limit."""
        state, accused = self._state, False
        deviations: dict[tuple[bytes, str, bool], Doubles] = {}
        for chart, track, limit in zip(self.normal.charts, state.tracks, self.limits, strict=True):
            part, own = window[chart.file.relations], state.own[chart.file.relations]
            alike = chart.file.mean, chart.file.falling, chart.file.relations
            c = deviations.get(alike)
            if c is None:
                off = charts.evened(chart.evened, part.x - chart.mean - own.center)
                c = deviations[alike] = _known(off / own.ratio / part.widened)
            e = charts.follow(chart, track, c) / self._doubt(chart, own)
            statistic = charts.statistic(chart, e)
            if statistic > limit:
                accused = True
                self._accuser.accuse(chart, e, statistic, limit, state.standing, seen)
        return accused

    def _doubt(self, chart: Chart, own: Own) -> Doubles | float:
        """What not knowing a settled level exactly adds to the chart's spread."""
        if math.isinf(own.windows):
            return 1.0
        relations = chart.file.relations
        carry = np.zeros(1) if relations else np.minimum(self.normal.carry, CARRY_MAX)
        off = np.square(self._usual.spreads[relations]) * (1 + carry) / (1 - carry) / own.windows
        if chart.innovations:
            off = off * np.square(chart.left)
        return np.asarray(np.sqrt(1 + off / np.square(chart.spread)))

    # -- sensors at fault ------------------------------------------------------------------------

    def _look_for_faults(self, counts: FeatureCounts, seen: dict[int, Standing]) -> None:
        habits, normal, layout = self._state.habits, self.normal, self.layout
        now = counts.nulls / max(counts.rows, 1)
        for feature in np.flatnonzero(sensor_faults.missing(habits, normal)).tolist():
            fault: Fault = "dropped out" if now[feature] >= sensor_faults.DROPPED_SHARE else ""
            seen[feature] = Standing(
                "missing", "more missing", up=True, fault=fault,
                value=float(now[feature]), limit=sensor_faults.MISSING_MARGIN,
            )  # fmt: skip
        caps = sensor_faults.clipped(habits, normal, layout)
        still = sensor_faults.stuck(habits, normal)
        for place in np.flatnonzero(still | caps.any(axis=0)).tolist():
            feature = int(layout.numeric[place])
            if still[place]:
                seen[feature] = Standing(
                    "stuck", "stands still", up=False, fault="stuck",
                    value=float(habits.still[place]), limit=float(normal.still[place]),
                )  # fmt: skip
            elif counts.values[feature]:
                top = bool(caps[0, place])
                seen[feature] = Standing(
                    "clipped", "at its top" if top else "at its bottom",
                    up=not top, fault="clipped",
                    value=float(habits.capped[:, place].max()),
                    limit=float(normal.capped[:, place].max()),
                )  # fmt: skip
        places = {int(feature): place for place, feature in enumerate(layout.numeric.tolist())}
        for feature, entry in seen.items():
            if not entry.fault and entry.statistic in ("level", "spread") and feature in places:
                entry.fault, entry.detail = sensor_faults.name(
                    habits, normal, layout, places[feature], counts
                )

    # -- findings --------------------------------------------------------------------------------

    def _decide(
        self, counts: FeatureCounts, seen: dict[int, Standing], *, accused: bool
    ) -> list[DriftFinding]:
        """Apply hysteresis, and take what has stood for long enough as normal."""
        state, findings = self._state, []
        for entry in state.standing.values():
            # The charts speak of all features together: what they found stands while they do.
            entry.quiet = 0 if accused and entry.statistic in BY_CHARTS else entry.quiet + 1
        effects = self._effects(counts) if seen else np.zeros(len(self.baseline))
        for feature, entry in sorted(seen.items()):
            before = state.standing.get(feature)
            news = before is None or self._is_news(before, entry)
            if before is not None and not news:
                if before.fault and not entry.fault:
                    entry.fault, entry.detail = before.fault, before.detail
                entry.windows = before.windows + 1 if before.up == entry.up else 0
            state.standing[feature] = entry
            findings.append(
                self._finding(feature, entry, counts, float(effects[feature]), news=news)
            )
        for feature, entry in list(state.standing.items()):
            if entry.quiet >= self.rule.clear_windows_in_time:
                del state.standing[feature]
                findings.append(self._ended(feature, "recovered"))
        self._count_good()
        return findings + self._settled()

    @staticmethod
    def _is_news(before: Standing, entry: Standing) -> bool:
        """A standing finding that is worth telling again: what it is now called, or its turning
        round after it had stood one way for a while."""
        named = entry.fault in ("stuck", "clipped", "dropped out") and before.fault != entry.fault
        turned = before.statistic == entry.statistic and before.up != entry.up
        return named or (turned and before.windows >= TURNING_WINDOWS)

    def _count_good(self) -> None:
        state = self._state
        state.good += 1
        for feature in state.standing:
            state.good[feature] = 0

    def _settled(self) -> list[DriftFinding]:
        """A change that has stood for the rule's time and names no sensor's fault is normal now."""
        state, wait = self._state, self.rule.settle_windows
        lasting = any(entry.fault in _LASTING for entry in state.standing.values())
        if not wait or not state.standing or lasting:
            return []
        if state.stood + 1 < wait:
            return []
        parts = zip(
            state.own, state.gathered, self._usual.middles, self._usual.spreads, strict=True
        )
        for own, gathered, middle, usual in parts:
            if gathered.windows > 1:
                own.center = gathered.mean - middle
                own.ratio = np.clip(gathered.std / usual, 1.0, RATIO_MAX)
                own.windows = float(gathered.windows)
        findings = [self._ended(feature, "settled") for feature in sorted(state.standing)]
        state.standing.clear()
        self._restart()
        return findings

    def _restart(self) -> None:
        state = self._state
        state.tracks = [Track.fresh(chart) for chart in self.normal.charts]
        state.stood = 0

    def _gather(self, window: tuple[Seen, Seen]) -> None:
        """While findings stand, learn what would be normal if they stayed."""
        state, wait = self._state, self.rule.settle_windows
        if not state.standing:
            state.stood = 0
            return
        state.stood += 1
        if state.stood in (1, max(1, int(wait * SETTLING_BEGINS))):
            state.gathered = Moments.none(len(window[0].x)), Moments.none(len(window[1].x))
        for gathered, part, own, middle in zip(
            state.gathered, window, state.own, self._usual.middles, strict=True
        ):
            gathered.add(np.where(np.isfinite(part.x), part.x, middle + own.center))

    def _effects(self, counts: FeatureCounts) -> Doubles:
        live, trained = (
            divergence.pooled_live(self.baseline),
            divergence.training_counts(self.baseline),
        )
        return divergence.psi_corrected(
            divergence.pooled(self.baseline, counts.bins),
            divergence.pooled(self.baseline, trained),
            live,
        )

    def _finding(
        self, feature: int, entry: Standing, counts: FeatureCounts, effect: float, *, news: bool
    ) -> DriftFinding:
        numeric = self.baseline.features[feature].kind == "numeric"
        some = numeric and counts.values[feature] > 0
        mean = self.baseline.bins[feature].mean
        return DriftFinding(
            feature=self._name(feature),
            statistic=entry.statistic,
            value=entry.value,
            limit=entry.limit,
            effect=effect,
            n=int(counts.values[feature]),
            windows=1,
            direction=entry.direction,
            status=self._feature_status(feature),
            state="opened" if news else "holding",
            fault=entry.fault,
            detail=entry.detail,
            before=mean if some else None,
            now=mean + float(counts.total[feature] / counts.values[feature]) if some else None,
        )

    def _ended(self, feature: int, how: str) -> DriftFinding:
        status = self._feature_status(feature)
        return DriftFinding(self._name(feature), "", 0.0, 0.0, 0.0, 0, 0, how, status, "cleared")

    def _feature_status(self, feature: int) -> str:
        entry = self._state.standing.get(feature)
        if entry is not None and entry.fault:
            return "refused"
        return (
            "calibrated"
            if self._state.good[feature] >= self.rule.confirm_windows
            else "calibrating"
        )

    def _name(self, feature: int) -> str:
        return self.baseline.features[feature].name


@lru_cache(maxsize=READY_MAX)
def _ready(baseline: Baseline) -> tuple[Layout, Usual, Accuser]:
    """What monitors of one baseline share: a hub wakes one for each window."""
    assert baseline.normal is not None
    layout = Layout(baseline)
    return layout, Usual(baseline.normal, layout), Accuser(baseline, layout)


@lru_cache(maxsize=READY_MAX)
def _limits(normal: Normal, chance: float, chance_of_means: float | None) -> list[float]:
    return charts.limits(normal.charts, chance, chance_of_means)


def _known(x: Doubles) -> Doubles:
    """With 0, no deviation, where a window can't tell."""
    return np.where(np.isnan(x), 0.0, x)
