"""The arithmetic of rollout gates: a canary against concurrent controls, one device as one unit.

Inferences of one device are alike, so counting inferences makes evidence out of nothing. Here each
device is scored against its own past, arms are compared across devices, and how much devices
differ for no reason is measured on the controls, over the same hours. ``harm`` is the log of a
ratio for rates and latencies and a difference for accuracies; above zero is worse. Pure.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]
Index = NDArray[np.intp]

PAST_EVENTS_PRIOR = 2.0
"""Events at the fleet's own rate that stand beside each device's past: a short past counts less."""
CONTROLS_PER_STRATUM_MIN = 5
OUTLIER_QUANTILE = 0.95
OUTLIER_COUNT_MIN = 0.5
"""A canary with less than this share of a control's windows isn't like one, and no outlier."""


@dataclass(frozen=True)
class Arm:
    """Rates of one arm, a row per device: what went wrong, out of how many, now and before.

    Only windows that have been *received* count in either number, so lateness cancels. ``stratum``
    numbers the group (site, hardware) in which canaries were drawn.
    """

    events: Floats
    exposure: Floats
    past_events: Floats
    past_exposure: Floats
    stratum: Index


@dataclass(frozen=True)
class Changes:
    """One number per device: how much worse it is than before (log p95) or than the champion.

    ``noise`` is the part of the values' variance that more windows would reduce, such as the mean
    squared standard error of a device's own mean; what is beyond it is how devices differ.
    ``count`` says how many windows or measurements stand behind each value: noise falls with it.
    """

    values: Floats
    stratum: Index
    noise: float
    count: Floats


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Canary against controls for one metric at one look."""

    harm: float
    variance: float
    """Of ``harm``, from how the controls vary: what a stop is judged by."""
    variance_cautious: float
    """The larger of that and what the canaries' own spread says: what an advance is judged by."""
    variance_lasting: float
    """The part of ``variance`` that devices' differences cause and time doesn't reduce."""
    degrees: float
    devices: int
    """Canaries that have told anything."""
    devices_effective: float
    """As many equally busy devices would weigh the same."""
    controls: int
    outliers: int
    """Canaries worse than 95 % of the controls."""
    outlier_chance: float
    """Of so many, if canaries were like controls."""


def compare_rates(canary: Arm, control: Arm) -> Comparison | None:
    """Compare observed over expected events; None before both arms have told anything."""
    canary, control = _reporting(canary), _reporting(control)
    if not len(canary.events) or len(control.events) < 2:
        return None
    past_rate = (canary.past_events.sum() + control.past_events.sum() + 0.5) / (
        canary.past_exposure.sum() + control.past_exposure.sum() + 1.0
    )
    expected_c, expected_k = _expected(canary, past_rate), _expected(control, past_rate)
    mix = stratum_weights(canary.stratum, expected_c, control.stratum, expected_k)
    lasting = _lasting(control.events, expected_k, mix)
    # Past a point a busy device tells more about itself than about the release.
    busy_c, busy_k = 1 / (1 + lasting * expected_c), mix / (1 + lasting * expected_k)

    sum_k = float(busy_k @ control.events) + 0.5
    ratio_k = sum_k / (float(busy_k @ expected_k) + 0.5)
    weighted_c = busy_c * expected_c
    ratio_c = (float(busy_c @ canary.events) + 0.5) / (float(weighted_c.sum()) + 0.5)
    at_control_rate = ratio_k * float(weighted_c.sum())

    residual = busy_k * (control.events - ratio_k * expected_k)
    m, n = len(canary.events), len(residual)
    of_control = n / (n - 1) * float(residual @ residual) / sum_k**2
    chance = float(busy_c @ weighted_c) * ratio_k / at_control_rate**2
    devices_effective = _effective(weighted_c)
    variance = chance + lasting / devices_effective + of_control
    own = busy_c * (canary.events - ratio_c * expected_c)
    spread_own = m / max(m - 1, 1) * float(own @ own) / (ratio_c * float(weighted_c.sum())) ** 2
    cautious = max(variance, spread_own + of_control)
    outliers, outlier_chance = _outliers(
        _surprise(canary, ratio_k * expected_c, lasting),
        _surprise(control, ratio_k * expected_k, lasting),
        ordinary=1 - OUTLIER_QUANTILE,
    )
    return Comparison(
        harm=math.log(ratio_c / ratio_k),
        variance=variance,
        variance_cautious=cautious,
        variance_lasting=lasting * (1 / devices_effective + 1 / _effective(busy_k * expected_k)),
        degrees=_degrees(residual, devices_effective),
        devices=m,
        devices_effective=devices_effective,
        controls=n,
        outliers=outliers,
        outlier_chance=outlier_chance,
    )


def compare_changes(canary: Changes, control: Changes) -> Comparison | None:
    """Compare the mean change of devices; None with fewer than two devices in an arm."""
    m, n = len(canary.values), len(control.values)
    if m < 2 or n < 2:
        return None
    weight = stratum_weights(canary.stratum, np.ones(m), control.stratum, np.ones(n))
    weight = weight / weight.sum()
    mean_k = float(weight @ control.values)
    residual = control.values - mean_k
    spread = float(residual @ residual) / (n - 1)
    lasting = max(spread - control.noise, 0.0)
    of_control = n / (n - 1) * float((weight * residual) @ (weight * residual))
    # Canaries that begin late, or have a short past, vary more than controls do for no reason.
    noise_c, noise_k = (_noise(arm, control) for arm in (canary, control))
    variance = max(spread, lasting + float(noise_c.mean())) / m + of_control
    cautious = max(variance, float(np.var(canary.values, ddof=1)) / m + of_control)
    worse_c, worse_k = (
        (arm.values - mean_k) / np.sqrt(np.maximum(lasting + noise, 1e-300))
        for arm, noise in ((canary, noise_c), (control, noise_k))
    )
    young = canary.count < OUTLIER_COUNT_MIN * np.median(control.count)
    outliers, outlier_chance = _outliers(np.where(young, -np.inf, worse_c), worse_k)
    return Comparison(
        harm=float(canary.values.mean()) - mean_k,
        variance=variance,
        variance_cautious=cautious,
        variance_lasting=lasting * (1 / m + float(weight @ weight)),
        degrees=_degrees(residual, m),
        devices=m,
        devices_effective=float(m),
        controls=n,
        outliers=outliers,
        outlier_chance=outlier_chance,
    )


def compare_pairs(canary: Changes) -> Comparison | None:
    """New against old on the very same inputs, a difference per device; needs no controls."""
    m = len(canary.values)
    if m < 2:
        return None
    variance = float(np.var(canary.values, ddof=1)) / m
    return Comparison(
        harm=float(canary.values.mean()),
        variance=variance,
        variance_cautious=variance,
        variance_lasting=max(variance - canary.noise / m, 0.0),
        degrees=m - 1.0,
        devices=m,
        devices_effective=float(m),
        controls=0,
        outliers=0,
        outlier_chance=1.0,
    )


def harm_evidence(compared: Comparison, scale: float) -> float:
    """Log of the e-value for harm: mixed over a half normal of ``scale``, safe at every look.

    z²g/2 is the exponent of the normal mixture, g = scale²/(variance + scale²); only harm counts,
    hence the factor 2Φ(z√g). A t statistic is brought to z through its tail first.
    """
    if compared.variance <= 0:
        return 0.0
    z = t_to_z(compared.harm / math.sqrt(compared.variance), compared.degrees)
    g = scale**2 / (compared.variance + scale**2)
    return (
        math.log(2.0)
        + 0.5 * (math.log(compared.variance) - math.log(compared.variance + scale**2))
        + 0.5 * g * z * z
        + float(special.log_ndtr(z * math.sqrt(g)))
    )


def not_worse(compared: Comparison, margin: float) -> float:
    """One-sided chance of looking this good if harm were as large as ``margin`` (t-test)."""
    if compared.variance_cautious <= 0:
        return float(compared.harm >= margin)
    t = (compared.harm - margin) / math.sqrt(compared.variance_cautious)
    return float(special.stdtr(compared.degrees, t))


def t_quantile(degrees: float, chance: float) -> float:
    """Student's t: the value below which ``chance`` lies."""
    return float(special.stdtrit(degrees, chance))


def t_to_z(t: float, degrees: float) -> float:
    """The standard normal value with the same tail as ``t``; bounded where tails vanish."""
    tail = max(float(special.stdtr(degrees, -abs(t))), 1e-300)
    return math.copysign(-float(special.ndtri(tail)), t)


def stratum_weights(
    canary_stratum: Index, canary_size: Floats, control_stratum: Index, control_size: Floats
) -> Floats:
    """Weight per control that gives the controls the canary's mix of strata; mean weight near 1.

    Strata with fewer than ``CONTROLS_PER_STRATUM_MIN`` controls are compared together as one.
    """
    strata = max(int(canary_stratum.max()), int(control_stratum.max())) + 1
    small = np.bincount(control_stratum, minlength=strata) < CONTROLS_PER_STRATUM_MIN
    merged = np.where(small, strata, np.arange(strata))
    canary_share = np.bincount(merged[canary_stratum], canary_size, strata + 1)
    control_share = np.bincount(merged[control_stratum], control_size, strata + 1)
    lonely = control_share <= 0  # nobody to compare with: these canaries meet all controls
    common = canary_share[lonely].sum() / max(canary_share.sum(), 1e-300)
    share = np.where(lonely, 0.0, canary_share) / max(canary_share.sum(), 1e-300)
    total = control_size.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        weight = np.where(lonely, 0.0, share * total / control_share)
    return np.asarray(weight[merged[control_stratum]] + common, np.float64)


def _reporting(arm: Arm) -> Arm:
    seen = arm.exposure > 0
    if seen.all():
        return arm
    return Arm(
        arm.events[seen], arm.exposure[seen], arm.past_events[seen], arm.past_exposure[seen],
        arm.stratum[seen],
    )  # fmt: skip


def _expected(arm: Arm, past_rate: float) -> Floats:
    """Events each device would show at its own past rate, shrunk to the fleet's."""
    rate = (arm.past_events + PAST_EVENTS_PRIOR) / (
        arm.past_exposure + PAST_EVENTS_PRIOR / past_rate
    )
    return np.asarray(arm.exposure * rate, np.float64)


def _lasting(events: Floats, expected: Floats, weight: Floats) -> float:
    """Squared spread of the controls' ratios beyond what counting explains."""
    ratio = (float(weight @ events) + 0.5) / (float(weight @ expected) + 0.5)
    residual = events - ratio * expected
    n = len(events)
    spread = n / (n - 1) * float(residual @ residual)
    return max(spread - float(events.sum()), 0.0) / float((ratio * expected) @ (ratio * expected))


def _effective(size: Floats) -> float:
    return float(size.sum() ** 2 / (size @ size))


def _degrees(residual: Floats, devices_effective: float) -> float:
    """Degrees of freedom of a variance measured on residuals that may have a heavy tail."""
    square = residual * residual
    n = len(square)
    spread = float(square.var())
    free = 2 * float(square.mean()) ** 2 * n / spread if spread > 0 else float(n)
    floor = min(4.0, n - 1.0)
    return min(max(free, floor), n - 1.0, max(3.0, 3.0 * devices_effective))


def _noise(arm: Changes, control: Changes) -> Floats:
    """The part of each value's variance that is noise, from what it is on a control's windows."""
    return np.asarray(control.noise / arm.count / float((1 / control.count).mean()), np.float64)


def _surprise(arm: Arm, mean: Floats, lasting: float) -> Floats:
    """Minus each device's chance of so many events or more around ``mean``: higher is worse.

    A negative binomial count, as wide as devices differ and as little is known of their past. A
    ratio would not do: of two devices without any event the one that ran less would be the worse.
    """
    size = 1 / np.maximum(lasting, 1 / (arm.past_events + PAST_EVENTS_PRIOR))
    seen = np.maximum(arm.events, 1e-9)
    chance = special.betainc(seen, size, mean / (mean + size))
    return np.asarray(np.where(arm.events > 0, -chance, -1.0), np.float64)


def _outliers(canary: Floats, control: Floats, ordinary: float = math.inf) -> tuple[int, float]:
    """How many canaries lie above the controls' 95th percentile, and the chance of so many.

    If canaries are like controls, the chance of a canary above the j-th largest of n controls is
    Beta(j, n + 1 - j) whatever the distribution, so the count is beta-binomial. Where values are
    minus a chance of their own, one that is no smaller than ``ordinary`` makes no outlier: arms
    may have run for different times.
    """
    n, m = len(control), len(canary)
    rank = max(1, math.floor((1 - OUTLIER_QUANTILE) * (n + 1)))
    line = max(float(np.partition(control, n - rank)[n - rank]), -ordinary)
    above = int((canary > line).sum())
    if above == 0:
        return 0, 1.0
    k = np.arange(above, m + 1)
    log_chance = (
        special.gammaln(m + 1) - special.gammaln(k + 1) - special.gammaln(m - k + 1)
        + special.betaln(k + rank, m - k + n + 1 - rank) - special.betaln(rank, n + 1 - rank)
    )  # fmt: skip
    return above, min(1.0, float(np.exp(log_chance).sum()))
