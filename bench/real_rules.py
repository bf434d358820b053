"""The rules that are compared on real runs: Muster's own device code, and its peers.

Peers as their authors give them: PSI over 0.2 in ten training quantiles; Kolmogorov and Smirnov's
test with Benjamini and Hochberg's correction at 5 %; ADWIN (Bifet and Gavaldà 2007, δ = 0.002) and
the Page–Hinkley test (Page 1954; δ = 0.005, λ = 50, after 30 rows), row by row on standardised
features; Hotelling's T² of window means with the limits of a first phase (Tracy, Young and Mason
1992, α = 0.0027). Evidently runs as its own package (``peers/evident_real.py``).
"""

from collections.abc import Callable

import numpy as np
from bench.real_data import Run
from bench.real_score import Flags, findings
from numpy.typing import NDArray
from scipy import special, stats

Doubles = NDArray[np.float64]
Verdict = tuple[Flags, Flags]
"""Openings and standing, [windows] each."""
PSI_LIMIT, PSI_BINS = 0.2, 10
FDR = 0.05
ADWIN_DELTA = 0.002
ADWIN_BUCKETS = 5
ADWIN_CLOCK = 32
ADWIN_GRACE = 10
PAGE_HINKLEY_DELTA, PAGE_HINKLEY_LIMIT, PAGE_HINKLEY_ROWS = 0.005, 50.0, 30
T2_ALPHA = 0.0027


def psi(run: Run) -> Verdict:
    flags = np.zeros((len(run.windows), len(run.features)), np.bool_)
    for place in range(len(run.features)):
        trained = _known(run.training[:, place])
        edges = np.unique(np.quantile(trained, np.linspace(0, 1, PSI_BINS + 1)[1:-1]))
        expected = _shares(trained, edges)
        for window, rows in enumerate(run.windows[:, :, place]):
            now = _shares(_known(rows), edges)
            value = float(((now - expected) * np.log(now / expected)).sum())
            flags[window, place] = value > PSI_LIMIT
    return findings(flags)


def _shares(values: Doubles, edges: Doubles) -> Doubles:
    counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
    return (counts + 0.5) / (counts + 0.5).sum()


def ks(run: Run) -> Verdict:
    p = np.ones((len(run.windows), len(run.features)))
    for place in range(len(run.features)):
        trained = np.sort(_known(run.training[:, place]))
        for window, rows in enumerate(run.windows[:, :, place]):
            values = np.sort(_known(rows))
            if len(values):
                p[window, place] = _ks_p(values, trained)
    ranked = np.sort(p, axis=1)
    passing = ranked <= FDR * np.arange(1, p.shape[1] + 1) / p.shape[1]
    limit = np.where(passing, ranked, -1.0).max(axis=1)
    return findings(p <= limit[:, None])


def _ks_p(values: Doubles, trained: Doubles) -> float:
    every = np.concatenate([values, trained])
    distance = np.abs(
        np.searchsorted(values, every, side="right") / len(values)
        - np.searchsorted(trained, every, side="right") / len(trained)
    ).max()
    root = np.sqrt(len(values) * len(trained) / (len(values) + len(trained)))
    # Stephens (1970): the asymptotic distribution, corrected for few rows.
    return float(special.kolmogorov((root + 0.12 + 0.11 / root) * distance))


def adwin(run: Run) -> Verdict:
    return findings(_by_row(run, lambda: Adwin().add))


def page_hinkley(run: Run) -> Verdict:
    return findings(_by_row(run, lambda: PageHinkley().add))


def _by_row(run: Run, begun: Callable[[], Callable[[float], bool]]) -> Flags:
    """[windows, features]: whether a detector of each feature, warmed up on training, fired."""
    flags = np.zeros((len(run.windows), len(run.features)), np.bool_)
    for place in range(len(run.features)):
        trained = run.training[:, place].astype(np.float64)
        mean, std = float(np.nanmean(trained)), float(np.nanstd(trained)) or 1.0
        add = begun()
        for value in _known((trained - mean) / std).tolist():
            add(value)
        for window, rows in enumerate(run.windows[:, :, place].astype(np.float64)):
            fired = [add(value) for value in _known((rows - mean) / std).tolist()]
            flags[window, place] = any(fired)
    return flags


class PageHinkley:
    """Both directions; begins anew when it has fired."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._rows, self._mean = 0, 0.0
        self._up = self._down = 0.0

    def add(self, value: float) -> bool:
        self._rows += 1
        self._mean += (value - self._mean) / self._rows
        self._up = max(0.0, self._up + value - self._mean - PAGE_HINKLEY_DELTA)
        self._down = max(0.0, self._down - value + self._mean - PAGE_HINKLEY_DELTA)
        fired = self._rows >= PAGE_HINKLEY_ROWS and max(self._up, self._down) > PAGE_HINKLEY_LIMIT
        if fired:
            self._begin()
        return fired


class Adwin:
    """ADWIN2: a window of exponential buckets that drops its older part when the parts differ."""

    def __init__(self) -> None:
        self._levels: list[list[tuple[float, float]]] = [[]]
        """By level k: (sum, sum of squared deviations) of buckets of 2^k rows, oldest first."""
        self._rows, self._seen = 0, 0

    def add(self, value: float) -> bool:
        self._levels[0].append((value, 0.0))
        self._rows += 1
        self._seen += 1
        self._compress()
        if self._seen % ADWIN_CLOCK or self._rows < ADWIN_GRACE:
            return False
        fired = False
        while self._cut():
            fired = True
        return fired

    def _compress(self) -> None:
        for level, buckets in enumerate(self._levels):
            if len(buckets) <= ADWIN_BUCKETS:
                break
            if level + 1 == len(self._levels):
                self._levels.append([])
            (a, va), (b, vb) = buckets.pop(0), buckets.pop(0)
            size = 2**level
            between = (a / size - b / size) ** 2 * size / 2
            self._levels[level + 1].append((a + b, va + vb + between))

    def _cut(self) -> bool:
        """Drop the oldest bucket when some split of the window shows two different means."""
        sizes, sums, squares = self._arrays()
        total, whole = sums.sum(), sizes.sum()
        mean = total / whole
        variance = (squares + sizes * (sums / sizes - mean) ** 2).sum() / whole
        n0, n1 = np.cumsum(sizes)[:-1], whole - np.cumsum(sizes)[:-1]
        u0, u1 = np.cumsum(sums)[:-1] / n0, (total - np.cumsum(sums)[:-1]) / n1
        enough = (n0 >= 5) & (n1 >= 5)
        share = np.log(2 * np.log(max(whole, 3)) / ADWIN_DELTA)
        inverse = 1 / n0 + 1 / n1
        limit = np.sqrt(2 * inverse * variance * share) + 2 / 3 * inverse * share
        if not (enough & (np.abs(u0 - u1) > limit)).any():
            return False
        for level in range(len(self._levels) - 1, -1, -1):
            if self._levels[level]:
                self._levels[level].pop(0)
                self._rows -= 2**level
                break
        return True

    def _arrays(self) -> tuple[Doubles, Doubles, Doubles]:
        """Sizes, sums and squares of all buckets, oldest first."""
        listed = [
            (2.0**level, *bucket)
            for level in range(len(self._levels) - 1, -1, -1)
            for bucket in self._levels[level]
        ]
        return tuple(np.array(listed).T)  # type: ignore[return-value]  # three rows of one array


def t2(run: Run) -> Verdict:
    rows = run.rows
    count = len(run.training) // rows
    trained = run.training[: count * rows].reshape(count, rows, -1).astype(np.float64)
    phase1 = np.nan_to_num(np.nanmean(trained, axis=1))
    phase2 = np.nan_to_num(np.nanmean(run.windows.astype(np.float64), axis=1))
    varies = phase1.std(axis=0) > 0
    phase1, phase2 = phase1[:, varies], phase2[:, varies]
    p, m = phase1.shape[1], len(phase1)
    if m <= p + 1:
        return findings(np.zeros((len(phase2), 1), np.bool_))
    inverse = np.linalg.pinv(np.cov(phase1.T).reshape(p, p))
    off = phase2 - phase1.mean(axis=0)
    value = np.einsum("ij,jk,ik->i", off, inverse, off)
    limit = p * (m + 1) * (m - 1) / (m * (m - p)) * stats.f.isf(T2_ALPHA, p, m - p)
    return findings((value > limit)[:, None])


def _known(values: NDArray[np.floating]) -> Doubles:
    return np.asarray(values[np.isfinite(values)], np.float64)


PEERS: dict[str, Callable[[Run], Verdict]] = {
    "PSI > 0.2": psi,
    "KS + BH 5 %": ks,
    "ADWIN": adwin,
    "Page–Hinkley": page_hinkley,
    "T² chart": t2,
}
