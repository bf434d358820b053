"""Learning how much a device's scores move when all is well, from its own first windows.

Each score is fitted at merge scales of 1, 3 and 12 windows, and as a one-step innovation: what a
window brings beyond what the windows before it foretold. Slow wandering makes level limits wide
(few independent windows, so few degrees of freedom) while innovations stay sharp.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from muster_protocol.signals.distributions import student_quantiles

Doubles = NDArray[np.float64]
LAGS = 6
"""Windows an innovation looks back: the last one, and the mean of the five before it."""
RHO_MAX = 0.999
RIDGE = 1e-9
"""Relative; keeps the normal equations solvable where a term never varied."""


@dataclass(frozen=True, eq=False)
class Fit:
    """Least squares of every score [scores] on the terms (1, first, second)."""

    coefficients: Doubles
    """[scores, 3]"""
    leverage: Doubles
    """[scores, 3, 3]: what the fit's own uncertainty adds to a prediction, by its terms."""
    sd: Doubles
    """Of windows about the fit."""
    freedom: Doubles
    rows: Doubles
    """Harmonic mean of the rows per window at this scale."""

    def judge(
        self, y: Doubles, first: Doubles, second: Doubles, rows: Doubles, alpha: float
    ) -> tuple[Doubles, Doubles]:
        """Deviation from the prediction, and how far is too far, for windows of ``rows``.

        The limit widens where the terms are far from those of calibration: nothing is known there.
        All are [..., scores]: one window, or many at once.
        """
        terms = np.stack([np.ones_like(first), first, second], axis=-1)
        foretold = np.einsum("...sk,sk->...s", terms, self.coefficients)
        bent = np.einsum("...si,sij->...sj", terms, self.leverage)
        stretch = np.einsum("...sj,...sj->...s", bent, terms)
        quantiles = student_quantiles(alpha, self.freedom)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            # A window with fewer rows than usual may stray further by sampling alone.
            thinner = np.maximum(self.rows / rows, 1.0)
            limits = quantiles * self.sd * np.sqrt(thinner + np.maximum(stretch, 0.0))
        return y - foretold, np.where(np.isfinite(limits), limits, np.inf)


@dataclass(frozen=True, eq=False)
class LevelFit:
    """Levels at one scale. Dispersion scores are cube roots, explained by their location score."""

    fit: Fit
    center: Doubles
    """[dispersions]: mean of the location score."""
    scale: Doubles
    """[dispersions]: its standard deviation."""

    def judge(
        self, x: Doubles, rows: Doubles, dispersion: NDArray[np.intp], alpha: float
    ) -> tuple[Doubles, Doubles]:
        """Deviations and limits of scores [..., scores]."""
        first, second = np.zeros_like(x), np.zeros_like(x)
        z = standardised(x[..., dispersion - 1], self.center, self.scale)
        first[..., dispersion], second[..., dispersion] = z, np.square(z)
        return self.fit.judge(transformed(x, dispersion), first, second, rows, alpha)


def transformed(x: Doubles, dispersion: NDArray[np.intp]) -> Doubles:
    """Scores [..., scores] with dispersions as cube roots, which are closer to normal."""
    changed = x.copy()
    changed[..., dispersion] = np.cbrt(x[..., dispersion])
    return changed


def standardised(location: Doubles, center: Doubles, scale: Doubles) -> Doubles:
    """Distance from the centre in scales; 0 where the scale is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(scale > 0, (location - center) / scale, 0.0)
    return np.asarray(z)


def merged(x: Doubles, n: Doubles, windows: int) -> tuple[Doubles, Doubles]:
    """Scores and rows of every ``windows`` consecutive windows merged [times − windows + 1, …]."""
    weighted = np.cumsum(np.nan_to_num(x) * n, axis=0)
    rows = np.cumsum(n, axis=0)
    weighted[windows:] = weighted[windows:] - weighted[:-windows]
    rows[windows:] = rows[windows:] - rows[:-windows]
    weighted, rows = weighted[windows - 1 :], rows[windows - 1 :]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(rows > 0, weighted / rows, np.nan), rows


def fit_level(x: Doubles, n: Doubles, windows: int, dispersion: NDArray[np.intp]) -> LevelFit:
    """Fit one scale from calibration windows [times, scores]."""
    level, rows = merged(x, n, windows)
    level = filled(level)
    location = level[:, dispersion - 1]
    center, scale = location.mean(axis=0), location.std(axis=0)
    z = standardised(location, center, scale)
    y = transformed(level, dispersion)
    first, second = np.zeros_like(y), np.zeros_like(y)
    first[:, dispersion], second[:, dispersion] = z, np.square(z)
    fit = _regress(y, first, second, rows, windows, dispersion)
    return LevelFit(fit, center, scale)


def fit_innovation(x: Doubles, n: Doubles, dispersion: NDArray[np.intp]) -> Fit:
    """Fit one-step predictions from calibration windows [times, scores]."""
    y = transformed(filled(x), dispersion)
    last, before = lag_terms(y)
    return _regress(y[LAGS:], last, before, n[LAGS:], 1, dispersion)


def lag_terms(y: Doubles) -> tuple[Doubles, Doubles]:
    """(last window, mean of the five before it) for every window that has six before it."""
    times = len(y) - LAGS
    before = np.mean([y[lag : lag + times] for lag in range(LAGS - 1)], axis=0)
    return y[LAGS - 1 : LAGS - 1 + times], np.asarray(before)


def _regress(
    y: Doubles,
    first: Doubles,
    second: Doubles,
    rows: Doubles,
    windows: int,
    dispersion: NDArray[np.intp],
) -> Fit:
    """Least squares of each column on (1, first, second); terms that don't vary get no weight."""
    times = len(y)
    terms = np.stack([np.ones_like(y), first, second], axis=2)
    gram = np.einsum("tsi,tsj->sij", terms, terms)
    trace = np.trace(gram, axis1=1, axis2=2)
    inverse = np.linalg.inv(gram + np.eye(3) * (RIDGE * trace + 1e-12)[:, None, None])
    moment = np.einsum("tsi,ts->si", terms, y)
    coefficients = np.einsum("sij,sj->si", inverse, moment)
    rest = y - np.einsum("tsi,si->ts", terms, coefficients)
    varies = np.stack([np.ptp(term, axis=0) > 0 for term in (first, second)])
    independent = independent_windows(rest, windows)
    varies = np.insert(varies, 0, values=True, axis=0)
    left = np.maximum(independent - varies.sum(axis=0), 0.0)
    freedom = left.copy()
    freedom[dispersion] = np.minimum(
        freedom[dispersion], _freedom_of_tails(rest[:, dispersion], independent[dispersion])
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        # What the fit took with it comes back by the independent windows, not by all.
        variance = np.square(rest).mean(axis=0) * independent / np.maximum(left, 1e-9)
        usual = times / np.sum(1 / np.maximum(rows, 1e-9), axis=0)
        leverage = inverse * (times / np.maximum(independent, 1e-9))[:, None, None]
    # A term that didn't vary says nothing, and has no weight.
    leverage *= varies.T[:, :, None] * varies.T[:, None, :]
    sd = np.sqrt(variance)
    return Fit(coefficients, leverage, np.where(np.isfinite(sd), sd, np.inf), freedom, usual)


def _freedom_of_tails(rest: Doubles, independent: Doubles) -> Doubles:
    """Degrees of freedom of the Student's t whose kurtosis the residuals might have.

    Variances of few independent rows have long tails, and a cube root doesn't mend all of it. Two
    standard errors are added, as 288 windows say little about what happens once a year.
    """
    power = np.square(rest).mean(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        excess = (rest**4).mean(axis=0) / np.square(power) - 3
    likely = np.nan_to_num(excess) + 2 * np.sqrt(24 / np.maximum(independent, 1.0))
    return np.asarray(4 + 6 / np.maximum(likely, 1e-3))


def independent_windows(y: Doubles, windows: int) -> Doubles:
    """How many independent ones the merged windows [times, scores] are worth.

    Blocks over 1 + 2·Σ autocorrelations at distances without overlap, summed while neighbouring
    pairs stay positive (Geyer's initial positive sequence), each corrected for its known bias.
    """
    times = len(y)
    blocks = times / windows
    centred = y - y.mean(axis=0)
    power = np.square(centred).mean(axis=0)
    steps = max(min(int(blocks // 3), 48), 1)
    rho = np.zeros((steps + steps % 2, y.shape[1]))
    for step in range(1, steps + 1):
        lag = step * windows
        if lag >= times:
            break
        with np.errstate(divide="ignore", invalid="ignore"):
            raw = (centred[lag:] * centred[:-lag]).mean(axis=0) / power
        rho[step - 1] = np.minimum(
            np.nan_to_num(raw) + (1 + 3 * np.nan_to_num(raw)) / blocks, RHO_MAX
        )
    pairs = rho.reshape(-1, 2, y.shape[1]).sum(axis=1)
    going = np.cumprod(pairs > 0, axis=0)
    inflation = 1 + 2 * np.maximum((pairs * going).sum(axis=0), 0.0)
    return np.asarray(blocks / inflation)


def filled(x: Doubles) -> Doubles:
    """Unknown scores take the mean of the other windows; one never seen is 0 throughout."""
    known = np.isfinite(x)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, x, 0.0).sum(axis=0) / count
    return np.where(known, x, mean)
