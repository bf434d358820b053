"""A simulated fleet whose errors cluster by device, wander, and shake all together.

Windows of 15 minutes. A device's error rate is the fleet's times a factor of its own that stays, a
factor that wanders (AR(1)), its site's and the whole fleet's (AR(1) and sudden hours-long shocks),
and its hour of the day. Some devices go offline for hours; some deliver their windows late.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class FleetShape:
    """What the simulation assumes; written beside its results."""

    sites: int = 10
    controls: int = 100
    past_windows: int = 96
    looks: int = 96
    inferences_per_window: float = 50.0
    traffic_sd: float = 0.5
    error_rate: float = 0.02
    device_sd: float = 0.7
    wander_sd: float = 0.5
    wander_correlation: float = 0.95
    site_sd: float = 0.25
    fleet_sd: float = 0.25
    shock_chance: float = 0.01
    """Per window; a shock lasts 8 windows and multiplies every rate by ``shock_factor``."""
    shock_factor: float = 2.5
    day_swing: float = 0.3
    offline_share: float = 0.15
    late_share: float = 0.15
    late_windows: int = 8


FLEETS = {
    "typical": FleetShape(),
    "rough": FleetShape(
        device_sd=1.0, wander_sd=0.8, site_sd=0.5, fleet_sd=0.5, shock_chance=0.03, day_swing=0.6
    ),
    "rare errors": FleetShape(error_rate=0.0005),
    "short past": FleetShape(past_windows=8),
    "few controls": FleetShape(controls=30),
    "half offline or late": FleetShape(offline_share=0.5, late_share=0.5, late_windows=24),
}
"""The first is what is compared at length; the others try what its choice might hide."""


@dataclass(frozen=True)
class History:
    """Devices × windows. ``arrives`` is the window in which each is received (or never: large)."""

    events: Floats
    exposure: Floats
    arrives: NDArray[np.intp]
    site: NDArray[np.intp]
    canary: NDArray[np.bool_]


NEVER = 1 << 30


def simulate(
    rng: np.random.Generator, shape: FleetShape, canaries: int, harm: Floats | None = None
) -> History:
    """One fleet's past and the day after launch; ``harm`` multiplies the canaries' rates then."""
    devices, windows = canaries + shape.controls, shape.past_windows + shape.looks
    site = rng.permutation(np.arange(devices) % shape.sites)
    canary = np.zeros(devices, bool)
    canary[spread_over(rng, site, canaries)] = True

    log_rate = (
        np.log(shape.error_rate)
        + rng.normal(0, shape.device_sd, (devices, 1))
        + _wander(rng, devices, windows, shape.wander_sd, shape.wander_correlation)
        + _wander(rng, shape.sites, windows, shape.site_sd, shape.wander_correlation)[site]
        + _wander(rng, 1, windows, shape.fleet_sd, shape.wander_correlation)
        + shape.day_swing * np.sin(np.arange(windows) * 2 * np.pi / 96 + rng.uniform(0, 2 * np.pi))
        + _shocks(rng, windows, shape)
    )
    if harm is not None:
        log_rate[canary, shape.past_windows :] += np.log(harm)[:, None]
    traffic = shape.inferences_per_window * np.exp(rng.normal(0, shape.traffic_sd, (devices, 1)))
    exposure = rng.poisson(traffic, (devices, windows)).astype(np.float64)
    events = rng.binomial(exposure.astype(np.int64), np.minimum(np.exp(log_rate), 0.9))
    return History(
        events.astype(np.float64), exposure, _arrivals(rng, devices, windows, shape), site, canary
    )


def spread_over(rng: np.random.Generator, site: NDArray[np.intp], count: int) -> NDArray[np.intp]:
    """``count`` devices at random, as evenly over the sites as they go."""
    order = rng.permutation(len(site))
    rank = np.empty(len(site), np.intp)
    for item in np.unique(site):
        members = order[site[order] == item]
        rank[members] = np.arange(len(members))
    tie = rng.permutation(int(site.max()) + 1)
    return np.lexsort((tie[site], rank))[:count]


def _wander(
    rng: np.random.Generator, rows: int, windows: int, sd: float, correlation: float
) -> Floats:
    steps = rng.normal(0, sd, (rows, windows))
    out = np.empty_like(steps)
    out[:, 0] = steps[:, 0]
    fresh = np.sqrt(1 - correlation**2)
    for t in range(1, windows):
        out[:, t] = correlation * out[:, t - 1] + fresh * steps[:, t]
    return out


def _shocks(rng: np.random.Generator, windows: int, shape: FleetShape) -> Floats:
    starts = rng.random(windows) < shape.shock_chance
    active = np.convolve(starts, np.ones(8), "full")[:windows] > 0
    return np.where(active, np.log(shape.shock_factor), 0.0)


def _arrivals(
    rng: np.random.Generator, devices: int, windows: int, shape: FleetShape
) -> NDArray[np.intp]:
    """When each window is received: at once, late for some devices, after the outage for others."""
    arrives = np.tile(np.arange(windows), (devices, 1))
    late = rng.random(devices) < shape.late_share
    arrives[late] += rng.integers(1, shape.late_windows + 1, (int(late.sum()), windows))
    for device in np.flatnonzero(rng.random(devices) < shape.offline_share):
        start = int(rng.integers(0, windows))
        end = start + int(rng.integers(8, 60))
        cut = (arrives[device] >= start) & (arrives[device] < end)
        arrives[device, cut] = end
    arrives[arrives >= windows] = NEVER
    return arrives
