"""A monitor in time run over many windows at once: the same findings, a hundred times faster.

Where no chart is over its limit, windows are judged together; from the first one that is, the
monitor itself takes over until nothing stands. Only for windows as ``signals_moments`` draws them:
numeric features, nothing missing, as many rows as in training. A test holds it against the monitor.
"""

import numpy as np
from bench.signals_moments import Drawn
from numpy.typing import NDArray
from scipy import signal

from muster_protocol.signals import chart_state, charts
from muster_protocol.signals.baseline import Baseline
from muster_protocol.signals.chart_monitor import ChartMonitor
from muster_protocol.signals.chart_state import ChartState
from muster_protocol.signals.charts import Track
from muster_protocol.signals.rule import Rule
from muster_protocol.signals.timeline import Chart
from muster_protocol.signals.vectors import SPREAD_OFFSET, Layout

Doubles = NDArray[np.float64]
Flags = NDArray[np.bool_]


class Replay:
    """One device's life."""

    def __init__(self, trained: Baseline, rule: Rule | None = None) -> None:
        assert trained.normal is not None, "a baseline in time"
        self._baseline, self._rule, self._normal = trained, rule or Rule(), trained.normal
        self._limits = ChartMonitor(trained, self._rule).limits
        self._units = Layout(trained).units
        self._tracks = [Track.fresh(chart) for chart in self._normal.charts]
        self._monitor: ChartMonitor | None = None
        """While something stands, and from when something has settled."""

    def feed(self, drawn: Drawn) -> Flags:
        """[windows]: whether something was opened."""
        opened, at = np.zeros(len(drawn), np.bool_), 0
        while at < len(drawn):
            if self._monitor is None:
                at += self._skip(drawn, at)
                if at < len(drawn):
                    self._monitor = self.monitor()
            else:
                findings = self._monitor.feed(drawn.summary(self._baseline, at))
                opened[at] = any(finding.state == "opened" for finding in findings)
                at += 1
                self._leave(settled=any(finding.direction == "settled" for finding in findings))
        return opened

    def monitor(self) -> ChartMonitor:
        """A monitor that stands where this one does."""
        state = ChartState.fresh(self._baseline, self._normal)
        if self._monitor is not None:
            state = chart_state.decode(self._monitor.encode(), self._baseline)
        else:
            state.tracks = [Track(track.last.copy(), track.windows) for track in self._tracks]
            state.seen = self._tracks[0].windows
        return ChartMonitor(self._baseline, self._rule, state)

    def _leave(self, *, settled: bool) -> None:
        monitor = self._monitor
        assert monitor is not None
        self._settled = self._settled or settled
        if not monitor.drifting() and not self._settled:
            self._tracks = chart_state.decode(monitor.encode(), self._baseline).tracks
            self._monitor = None

    _settled = False

    def _skip(self, drawn: Drawn, at: int) -> int:
        """Windows before the first in which a chart is over its limit."""
        parts = self._vectors(drawn, at)
        followed = [
            self._followed(chart, track, parts[chart.file.relations])
            for chart, track in zip(self._normal.charts, self._tracks, strict=True)
        ]
        over = np.zeros(len(drawn) - at, np.bool_)
        for chart, limit, (e, _) in zip(self._normal.charts, self._limits, followed, strict=True):
            over |= charts.statistics(chart, e / chart.spread) > limit
        quiet = int(np.argmax(over)) if over.any() else len(over)
        if quiet:
            for track, (_, lasts) in zip(self._tracks, followed, strict=True):
                track.last, track.windows = lasts[quiet - 1], track.windows + quiet
        return quiet

    def _vectors(self, drawn: Drawn, at: int) -> tuple[Doubles, Doubles]:
        """As ``Layout.measure`` and ``vectors.relations`` of each window."""
        n = drawn.rows
        total, squares, (first, second) = drawn.total[at:], drawn.squares[at:], drawn.joint[:, at:]
        within = np.maximum((squares - total**2 / n) / (n - 1), 0.0)
        x = np.hstack(
            [total / n / self._units, np.log(np.sqrt(within) / self._units + SPREAD_OFFSET)]
        )
        apart = np.maximum((second - first**2 / n) / (n - 1), 0.0)
        return x, np.log(np.sqrt(apart) + SPREAD_OFFSET)

    def _followed(self, chart: Chart, track: Track, x: Doubles) -> tuple[Doubles, Doubles]:
        """Deviations, and what the track remembers, after each window."""
        c, smoothing = charts.evened(chart.evened, x - chart.mean), chart.file.smoothing
        if chart.innovations:
            moving = Track(track.last, track.windows)
            e, lasts = np.empty_like(c), np.empty_like(c)
            for window, now in enumerate(c):
                e[window], lasts[window] = charts.follow(chart, moving, now), moving.last
            return e * chart.spread, lasts
        keep = 1 - smoothing
        lasts, _ = signal.lfilter([smoothing], [1, -keep], c, axis=0, zi=(keep * track.last)[None])
        number = track.windows + np.arange(1, len(c) + 1)
        return lasts / np.sqrt(1 - keep ** (2.0 * number))[:, None], lasts
