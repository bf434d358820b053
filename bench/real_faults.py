"""Faults put into signals in which nothing is wrong: how often and how soon each is found."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from bench import real_muster
from bench.real_data import Run
from numpy.typing import NDArray

from muster_protocol.signals import monitors
from muster_protocol.signals.baseline import Baseline
from muster_protocol.signals.features import elements
from muster_protocol.signals.monitors import Monitor
from muster_protocol.signals.rule import Rule

Rows = NDArray[np.float32]
Fault = Callable[[Rows, int, "Usual", np.random.Generator], None]
"""Changes a window's rows in one feature, in place."""
WINDOWS = 60
TRIALS = 20
SETTLED_WINDOWS = 30
"""Of the run, before the first fault."""
LIVES = (0, 1, 6, 30, 60)
"""Windows of a device's life before a shift."""


@dataclass(frozen=True)
class Usual:
    """Of one feature, in training."""

    mean: float
    std: float
    upper_quartile: float


def level(sds: float) -> Fault:
    def change(x: Rows, place: int, usual: Usual, _rng: np.random.Generator) -> None:
        x[:, place] += np.float32(sds * usual.std)

    return change


def spread(factor: float) -> Fault:
    def change(x: Rows, place: int, _usual: Usual, _rng: np.random.Generator) -> None:
        middle = np.nanmean(x[:, place])
        x[:, place] = middle + factor * (x[:, place] - middle)

    return change


def clip(x: Rows, place: int, usual: Usual, _rng: np.random.Generator) -> None:
    x[:, place] = np.minimum(x[:, place], np.float32(usual.upper_quartile))


def spikes(x: Rows, place: int, usual: Usual, rng: np.random.Generator) -> None:
    hit = rng.random(len(x)) < 0.05
    x[hit, place] += np.float32(6 * usual.std) * rng.choice([-1, 1], int(hit.sum()))


def stuck(x: Rows, place: int, usual: Usual, _rng: np.random.Generator) -> None:
    x[:, place] = np.float32(usual.mean + usual.std / 3)


def unrelated(x: Rows, place: int, _usual: Usual, rng: np.random.Generator) -> None:
    rng.shuffle(x[:, place])


def fahrenheit(x: Rows, place: int, _usual: Usual, _rng: np.random.Generator) -> None:
    x[:, place] = np.float32(1.8) * x[:, place] + 32


FAULTS: dict[str, Fault] = {
    **{f"level {sds:g} σ": level(sds) for sds in (0.25, 0.5, 1.0, 2.0, 4.0)},
    "spread × 1.5": spread(1.5),
    "spread × 0.5": spread(0.5),
    "clipped at the upper quartile": clip,
    "5 % spikes of 6 σ": spikes,
    "stuck": stuck,
    "relation broken": unrelated,
    "× 1.8 + 32": fahrenheit,
}


def simulated(rows: int, rng: np.random.Generator, *, seconds: float = 300.0) -> Run:
    """Independent rows of eight features around 10 to 80, each pair correlated by 0.9."""
    count = 150 + SETTLED_WINDOWS + 100 + WINDOWS
    z = rng.normal(size=(count * rows, 8))
    z[:, 1::2] = 0.9 * z[:, ::2] + np.sqrt(1 - 0.81) * z[:, 1::2]
    x = (np.arange(1, 9) * 10 + z).astype(np.float32)
    return Run(
        f"independent rows, {rows} a window", "simulated", elements("x", 8), x[: 150 * rows],
        x[150 * rows :].reshape(-1, rows, 8), np.zeros(count - 150, np.bool_), seconds,
    )  # fmt: skip


def measured(run: Run, seed: int) -> Iterator[dict[str, object]]:
    """A row for each fault: trials, how many were found within 3, 12 and 60 windows, delays."""
    trained = real_muster.fitted(run)
    rule = Rule(window_seconds=run.window_seconds)
    rng = np.random.default_rng(seed)
    numeric = [i for i, feature in enumerate(run.features) if feature.kind == "numeric"]
    last = len(run.windows) - WINDOWS
    begins: list[int] = []
    if last > SETTLED_WINDOWS:
        begins = sorted(rng.integers(SETTLED_WINDOWS, last + 1, TRIALS).tolist())
    saved = _states(run, trained, rule, begins)
    for name, fault in FAULTS.items():
        if name == "relation broken" and (trained.projections == 0 or len(numeric) < 2):
            continue
        delays = [
            _delay(run, monitors.resume(trained, rule, state), begin, fault, numeric, trial, seed)
            for trial, (begin, state) in enumerate(zip(begins, saved, strict=True))
        ]
        found = [delay for delay in delays if delay is not None]
        yield {
            "signal": run.set if run.name == "simulated" else f"{run.set} {run.name}",
            "fault": name,
            "trials": len(delays),
            "within": {str(limit): sum(delay <= limit for delay in found) for limit in (3, 12, 60)},
            "median_delay": float(np.median(found)) if found else None,
        }


def young(run: Run, seed: int, sds: float = 1.0) -> dict[str, float | None]:
    """Median delay of a shift by the windows that a device has lived before it."""
    trained, rule = real_muster.fitted(run), Rule(window_seconds=run.window_seconds)
    numeric = [i for i, feature in enumerate(run.features) if feature.kind == "numeric"]
    medians: dict[str, float | None] = {}
    for lived in LIVES:
        delays = []
        for trial in range(TRIALS):
            monitor = monitors.begin(trained, rule)
            offset = trial * max((len(run.windows) - WINDOWS - max(LIVES)) // TRIALS, 0)
            later = replace(run, windows=run.windows[offset:])
            for x in later.windows[:lived]:
                monitor.feed(real_muster.window(trained, x))
            delays.append(_delay(later, monitor, lived, level(sds), numeric, trial, seed))
        found = [WINDOWS + 1 if delay is None else delay for delay in delays]
        medians[str(lived)] = float(np.median(found))
    return medians


def _states(run: Run, trained: Baseline, rule: Rule, begins: list[int]) -> list[bytes]:
    """The monitor as it was before each of the windows."""
    monitor = monitors.begin(trained, rule)
    states, window = [], 0
    for begin in begins:
        while window < begin:
            monitor.feed(real_muster.window(monitor.baseline, run.windows[window]))
            window += 1
        states.append(monitor.encode())
    return states


def _delay(
    run: Run, monitor: Monitor, begin: int, fault: Fault, numeric: list[int], trial: int, seed: int
) -> int | None:
    """Windows until something new is told; None when nothing is within ``WINDOWS``."""
    place = numeric[trial % len(numeric)]
    trained = run.training[:, place].astype(np.float64)
    usual = Usual(
        float(np.nanmean(trained)), float(np.nanstd(trained)), float(np.nanquantile(trained, 0.75))
    )
    rng = np.random.default_rng([seed, trial])
    for number, rows in enumerate(run.windows[begin : begin + WINDOWS]):
        x = rows.copy()
        fault(x, place, usual, rng)
        found = monitor.feed(real_muster.window(monitor.baseline, x))
        if any(finding.state == "opened" for finding in found):
            return number + 1
    return None
