"""The drift monitor: which features of a device have moved, within a budget of false alerts.

One monitor follows one device and manifest, on the device or at the hub. Until it has seen enough
windows it compares with the training baseline by sampling error; then with the device's own normal,
as fitted in ``calibration``. A feature drifts when a score leaves its limits *and* the shift
matters: bias-corrected PSI over the effect gate.
"""

import numpy as np
from numpy.typing import NDArray

from muster_protocol.signals import divergence, monitor_state
from muster_protocol.signals.baseline import Baseline
from muster_protocol.signals.calibration import (
    LAGS,
    filled,
    fit_innovation,
    fit_level,
    independent_windows,
    transformed,
)
from muster_protocol.signals.divergence import pooled, pooled_live, psi_corrected, training_counts
from muster_protocol.signals.judge import Judge, Trial
from muster_protocol.signals.monitor_state import (
    Calibration,
    Independence,
    Reference,
    State,
    Status,
    Window,
    chosen_fits,
)
from muster_protocol.signals.rule import DriftFinding, Rule, StatisticName
from muster_protocol.signals.sampling import Spread
from muster_protocol.signals.scores import Statistic, scores_of, smooth_shares
from muster_protocol.signals.summary import Summary
from muster_protocol.wire.errors import ProtocolError

Doubles = NDArray[np.float64]
SCALES = (1, 3, 12)
"""Windows merged for a test: jumps show in one, small shifts in many."""
DRIFTED_SHARE_MAX = 0.5
"""Of calibration windows in which a feature drifted, from which on what is left is no normal."""
INFLATION_WANDERING = 2.0
"""Windows over independent windows, from which on a feature wanders and is learned for longer."""
_NAMES: dict[Statistic, StatisticName] = {
    Statistic.LOCATION: "location",
    Statistic.DISPERSION: "dispersion",
    Statistic.SHARE: "share",
    Statistic.MISSING: "missing",
}


class DriftMonitor:
    """Feed it a device's summaries of one manifest, in order of time."""

    def __init__(
        self, baseline: Baseline, rule: Rule | None = None, state: State | None = None
    ) -> None:
        self.baseline = baseline
        self.rule = rule or Rule()
        self._scores = scores_of(baseline)
        alpha = self.rule.alpha(len(self._scores) * (len(SCALES) + 1))
        self._judge = Judge(self._scores, alpha)
        self._live = pooled_live(baseline)
        self._state = self._fresh() if state is None else state
        self._spread = self._reference_spread()

    @classmethod
    def decode(cls, baseline: Baseline, rule: Rule | None, data: bytes) -> "DriftMonitor":
        """Continue an encoded monitor; raises ProtocolError when it is of another baseline."""
        scores = len(scores_of(baseline))
        return cls(baseline, rule, monitor_state.decode(data, baseline, scores))

    def encode(self) -> bytes:
        """The monitor's state as compressed bytes, for ``decode`` with the same baseline."""
        return monitor_state.encode(self._state, self.baseline, len(self._scores))

    def feed(self, summary: Summary) -> list[DriftFinding]:
        """Judge the next window; findings are of features that drift now or just recovered."""
        counts = summary.features
        if counts is None or not counts.rows:
            return []
        state = self._state
        window = Window(counts.bins, counts.nulls, counts.rows)
        state.recent = [*state.recent, window][-max(SCALES) :]
        found = self._find() if state.seen >= self.rule.warmup_windows else {}
        state.seen += 1
        findings = self._settle(found)
        self._learn(window, whole=summary.windows == 1)
        return findings

    def drifting(self) -> frozenset[str]:
        """Names of the features that drift."""
        return frozenset(map(self._name, np.flatnonzero(self._state.quiet >= 0).tolist()))

    def status(self) -> dict[str, str]:
        """Each feature's calibration: calibrating, calibrated or refused."""
        return {
            feature.name: Status(status).name.lower()
            for feature, status in zip(self.baseline.features, self._state.status, strict=True)
        }

    def rebaseline(self) -> None:
        """Take the device's last windows as its normal from now on: an operator's decision.

        They are the reference until a new calibration, which is then held against them.
        """
        recent = self._state.recent
        self._state = self._fresh()
        if recent:
            window = Window.merged(recent)
            counts, nulls = window.bins.astype(np.float64), window.nulls.astype(np.float64)
            self._state.reference = Reference(counts, nulls)
        self._spread = self._reference_spread()

    def _fresh(self) -> State:
        size = len(self.baseline)
        nulls = np.array([bins.nulls for bins in self.baseline.bins], np.float64)
        return State(
            reference=Reference(training_counts(self.baseline), nulls),
            independence=Independence.none(len(self._scores)),
            pending=Independence.none(len(self._scores)),
            gathered=Reference.none(self.baseline),
            status=np.full(size, Status.CALIBRATING, np.int64),
            quiet=np.full(size, -1, np.int64),
        )

    def _reference_spread(self) -> Spread:
        reference = self._state.reference
        shares = smooth_shares(self.baseline, reference.counts)
        return self._scores.spread(shares, reference.rows, reference.nulls)

    def _find(self) -> dict[int, DriftFinding]:
        """Findings of the newest window by feature, each the furthest beyond its limit."""
        found: dict[int, tuple[float, DriftFinding]] = {}
        for place, scale in enumerate(SCALES):
            if len(self._state.recent) < scale:
                break
            window = Window.merged(self._state.recent[-scale:])
            x, n = self._scores.measure(window.bins, window.nulls, window.rows)
            tests = [self._judge.level(self._state, self._spread, place, scale, x, n)]
            if scale == 1 and len(self._state.lags) == LAGS:
                tests += self._judge.innovation(self._state, self._spread, x, n)
            if not any(test.exceeded.any() for test in tests):
                continue
            effect = self._effect(window.bins, window.nulls)
            matters = effect >= self._gate()
            for test in tests:
                for score in np.flatnonzero(test.exceeded & matters).tolist():
                    feature = int(self._scores.feature[score])
                    ratio = float(abs(test.deviation[score]) / test.limit[score])
                    if feature not in found or ratio > found[feature][0]:
                        finding = self._finding(test, score, float(effect[score]))
                        found[feature] = (ratio, finding)
        return {feature: finding for feature, (_, finding) in found.items()}

    def _gate(self) -> Doubles:
        calibrating = (self._state.status == Status.CALIBRATING)[self._scores.feature]
        return np.where(calibrating, self.rule.effect_calibrating, self.rule.effect)

    def _effect(self, bins: monitor_state.Integers, nulls: monitor_state.Integers) -> Doubles:
        """Bias-corrected PSI behind each score: of values, or of missing against present."""
        reference = self._state.reference
        values = psi_corrected(
            pooled(self.baseline, bins), pooled(self.baseline, reference.counts), self._live
        )
        now = np.stack([nulls, bins.sum(axis=1)], axis=1)
        then = np.stack([reference.nulls, reference.rows], axis=1)
        missing = psi_corrected(now, then, np.ones_like(now, np.bool_))
        feature = self._scores.feature
        return np.asarray(np.where(self._scores.missing, missing[feature], values[feature]))

    def _finding(self, test: Trial, score: int, effect: float) -> DriftFinding:
        feature = int(self._scores.feature[score])
        kind = Statistic(self._scores.kind[score])
        return DriftFinding(
            feature=self._name(feature),
            statistic="innovation" if test.innovation else _NAMES[kind],
            value=float(test.deviation[score]),
            limit=float(test.limit[score]),
            effect=effect,
            n=int(test.rows[score]),
            windows=test.windows,
            direction=self._scores.direction(score, up=bool(test.deviation[score] > 0)),
            status=Status(self._state.status[feature]).name.lower(),
            state="holding" if self._state.quiet[feature] >= 0 else "opened",
        )

    def _name(self, feature: int) -> str:
        return self.baseline.features[feature].name

    def _settle(self, found: dict[int, DriftFinding]) -> list[DriftFinding]:
        """Apply hysteresis; what was drifting and is quiet long enough has recovered."""
        quiet = self._state.quiet
        quiet[quiet >= 0] += 1
        quiet[list(found)] = 0
        findings = [found[feature] for feature in sorted(found)]
        for feature in np.flatnonzero(quiet >= self.rule.clear_windows).tolist():
            quiet[feature] = -1
            self._state.forgive(self._scores.feature == feature)
            status = Status(self._state.status[feature]).name.lower()
            findings.append(
                DriftFinding(
                    self._name(feature), "", 0.0, 0.0, 0.0, 0, 0, "recovered", status, "cleared"
                )
            )
        return findings

    def _learn(self, window: Window, *, whole: bool) -> None:
        """Remember a window for innovations, independence and calibration.

        Windows that were merged on the way teach nothing about single ones.
        """
        state, scores = self._state, self._scores
        if not whole:
            state.lags = []
            return
        x, n = scores.measure(window.bins, window.nulls, window.rows)
        x = np.nan_to_num(x)
        state.lags = [*state.lags, transformed(x, scores.dispersion)][-LAGS:]
        calm = (state.quiet < 0)[scores.feature]
        state.independence.add(x, n, calm)
        state.pending.add(x, n, ~calm)
        if (state.status == Status.CALIBRATED).all():
            return
        state.history.append(np.where(calm, x, np.nan).astype(np.float32))
        state.history_nulls.append(window.nulls.astype(np.uint32))
        state.history_rows.append(window.rows)
        state.gathered.add(window, state.quiet < 0)
        if len(state.history) % max(self.rule.calibration_windows, 2 * max(SCALES)) == 0:
            self._calibrate()

    def _calibrate(self) -> None:
        """Fit what has been gathered, without the windows in which a feature drifted.

        Features beyond the effect gate, or that drifted half of the time, keep their reference;
        those that wander are fitted when more is known of them.
        """
        state, scores = self._state, self._scores
        history = np.array(state.history, np.float64)
        drifted, x = np.isnan(history).mean(axis=0), filled(history)
        nulls, rows = np.array(state.history_nulls), np.array(state.history_rows)
        absent = np.where(scores.missing, 0, nulls[:, scores.feature])
        n = (rows[:, None] - absent).astype(np.float64)
        fitted = Calibration(
            tuple(fit_level(x, n, scale, scores.dispersion) for scale in SCALES),
            fit_innovation(x, n, scores.dispersion),
        )
        gathered = state.gathered
        effect = self._effect(gathered.counts.astype(np.int64), gathered.nulls.astype(np.int64))
        far = self._any(effect >= self.rule.effect) | self._any(drifted >= DRIFTED_SHARE_MAX)
        wandering = self._any(len(x) > INFLATION_WANDERING * independent_windows(x, 1))
        if len(x) >= self.rule.calibration_windows_max:
            wandering[:] = False
        waiting = (state.status == Status.CALIBRATING) & wandering
        fresh = (state.status != Status.CALIBRATED) & ~far & ~wandering
        state.status[(state.status != Status.CALIBRATED) & far & ~waiting] = Status.REFUSED
        state.status[fresh] = Status.CALIBRATED
        state.calibration = chosen_fits(
            state.calibration, fitted, fresh[scores.feature], scores.dispersion
        )
        state.reference.counts[fresh] = gathered.counts[fresh]
        state.reference.nulls[fresh] = gathered.nulls[fresh]
        self._spread = self._reference_spread()
        if waiting.any():
            # What was refused is learned anew once those that wander are known.
            for window in state.history:
                window[(state.status == Status.REFUSED)[scores.feature]] = np.nan
        else:
            state.history, state.history_nulls, state.history_rows = [], [], []
            state.gathered = Reference.none(self.baseline)

    def _any(self, of_scores: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """[features]: whether any of a feature's scores is marked."""
        marked = np.zeros(len(self.baseline), np.bool_)
        marked[self._scores.feature[of_scores]] = True
        return marked


def statistics(summary: Summary, baseline: Baseline) -> list[divergence.FeatureStatistics]:
    """Every textbook statistic of a window against its baseline; empty when it has no features.

    Raises ProtocolError when the window was counted against another baseline.
    """
    if summary.features is None:
        return []
    if summary.features.baseline.digest != baseline.digest:
        raise ProtocolError(
            f"the window was counted against baseline {summary.features.baseline.digest[:12]}, "
            f"not {baseline.digest[:12]}"
        )
    return divergence.statistics(summary.features)
