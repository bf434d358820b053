"""How often rollout gates stop for nothing, and how fast they find harm, by simulation.

    python -m bench.gates [--runs 1000] [--seed N] [--canaries 5,20,50] [--fleets typical,rough]

Compares the gate of ``muster_hub.rollouts.gates.judge`` with two that are common: stopping when the
canary's cumulative error rate passes twice its own past, and a two-proportion z-test on inferences
at every window. Fleets after the first are tried with the middle size only. Writes
``bench/results/gates.json`` and its table in ``bench/README.md``. Seeds are drawn afresh unless
``--seed`` is given; the seed is written down.
"""

import argparse
import json
import os
import secrets
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from bench import gates_report
from bench.gates_fleet import FLEETS, FleetShape, Floats, History, simulate
from scipy import special

from muster_hub.rollouts.gates.judge import Evidence, Gate, judge
from muster_hub.rollouts.gates.look import Rates
from muster_hub.rollouts.gates.metrics.errors import RULE as ERRORS
from muster_hub.rollouts.gates.statistics import Arm

WINDOW_HOURS = 0.25
GATE = Gate(metrics=(ERRORS,), looks=FleetShape().looks)
THRESHOLD_RATIO = 2.0
THRESHOLD_INFERENCES_MIN = 100
Z_CRITICAL = float(special.ndtri(1 - 0.01))
GATES = ("two arms", "threshold 2x", "peeked z")
SCENARIOS = {
    "null": (1.0, 1.0),
    "2x on all": (1.0, 2.0),
    "10x on 20 %": (0.2, 10.0),
    "1.5x on all": (1.0, 1.5),
}
"""Share of canaries harmed, and the factor on their error rate."""


@dataclass(frozen=True)
class Case:
    fleet: str
    scenario: str
    canaries: int
    seed: int
    runs: int


@dataclass(frozen=True)
class Outcome:
    """One run under one gate: the looks that stopped it and let it advance, 0 for never."""

    stopped: int
    advanced: int
    harmed_hours: float


def received(history: History, values: Floats, since: int, until: int, launch: int) -> Floats:
    """Cumulative by look: devices × looks, what has arrived of windows ``since`` … ``until``."""
    devices, windows = values.shape
    looks = windows - launch
    out = np.zeros((devices, looks + 1))
    part = history.arrives[:, since:until]
    at = np.clip(part - launch, 0, looks)  # the last column: not in time
    rows = np.broadcast_to(np.arange(devices)[:, None], at.shape)
    np.add.at(out, (rows, at), values[:, since:until])
    return out[:, :looks].cumsum(axis=1)


def run_one(case: Case, seed: np.random.SeedSequence) -> dict[str, Outcome]:
    rng = np.random.default_rng(seed)
    shape = FLEETS[case.fleet]
    share, factor = SCENARIOS[case.scenario]
    harmed = max(1, round(share * case.canaries))
    harm = np.ones(case.canaries)
    harm[rng.permutation(case.canaries)[:harmed]] = factor
    history = simulate(rng, shape, case.canaries, harm)
    split, end = shape.past_windows, shape.past_windows + shape.looks
    now = [received(history, v, split, end, split) for v in (history.events, history.exposure)]
    past = [received(history, v, 0, split, split) for v in (history.events, history.exposure)]
    looks = {
        "two arms": _two_arms(history, now, past),
        "threshold 2x": (_threshold(history, now, past), 0),
        "peeked z": (_peeked_z(history, now), 0),
    }
    exposed = harmed if factor > 1 else 0
    return {
        gate: Outcome(stopped, advanced, exposed * WINDOW_HOURS * (stopped or shape.looks))
        for gate, (stopped, advanced) in looks.items()
    }


def _two_arms(history: History, now: list[Floats], past: list[Floats]) -> tuple[int, int]:
    def arm(rows: np.ndarray, look: int) -> Arm:
        columns = [v[rows, look] for v in (*now, *past)]
        return Arm(*columns, history.site[rows])

    advanced = 0
    for look in range(GATE.looks):
        pair = Rates(arm(history.canary, look), arm(~history.canary, look))
        canaries = int(history.canary.sum())
        evidence = Evidence(
            look=look + 1, data={ERRORS.name: pair}, canaries=canaries, silent=0,
            device_hours=canaries * WINDOW_HOURS * (look + 1), soaked=True,
        )  # fmt: skip
        verdict = judge(GATE, evidence)
        if verdict.action == "stop":
            return look + 1, advanced
        if verdict.action == "advance" and not advanced:
            advanced = look + 1
    return 0, advanced


def _threshold(history: History, now: list[Floats], past: list[Floats]) -> int:
    events, exposure = (v[history.canary].sum(axis=0) for v in now)
    before, before_n = (v[history.canary].sum(axis=0) for v in past)
    with np.errstate(divide="ignore", invalid="ignore"):
        over = events / exposure > THRESHOLD_RATIO * before / before_n
    return _first(over & (exposure >= THRESHOLD_INFERENCES_MIN))


def _peeked_z(history: History, now: list[Floats]) -> int:
    events, exposure = (v[history.canary].sum(axis=0) for v in now)
    others, others_n = (v[~history.canary].sum(axis=0) for v in now)
    with np.errstate(divide="ignore", invalid="ignore"):
        pooled = (events + others) / (exposure + others_n)
        error = np.sqrt(pooled * (1 - pooled) * (1 / exposure + 1 / others_n))
        over = (events / exposure - others / others_n) / error > Z_CRITICAL
    return _first(over & (exposure >= THRESHOLD_INFERENCES_MIN))


def _first(over: np.ndarray) -> int:
    return int(over.argmax()) + 1 if over.any() else 0


def run_case(case: Case) -> dict[str, dict[str, float | None]]:
    """Every run of a case, summed up per gate."""
    place = list(FLEETS).index(case.fleet), list(SCENARIOS).index(case.scenario)
    seeds = np.random.SeedSequence([case.seed, *place, case.canaries])
    outcomes = [run_one(case, seed) for seed in seeds.spawn(case.runs)]
    rows = {}
    for gate in GATES:
        looks = np.array([outcome[gate].stopped for outcome in outcomes])
        hours = np.array([outcome[gate].harmed_hours for outcome in outcomes])
        share = float((looks > 0).mean())
        rows[gate] = {
            "stopped": share,
            "standard_error": float(np.sqrt(share * (1 - share) / case.runs)),
            "median_windows": float(np.median(looks[looks > 0])) if share else None,
            "harmed_device_hours": float(hours.mean()),
            "advanced": float(np.mean([outcome[gate].advanced > 0 for outcome in outcomes])),
        }
    return rows


def line(case: Case, gate: str, row: dict[str, float | None]) -> str:
    median = row["median_windows"]
    return (
        f"{case.fleet:20} {case.canaries:3} canaries  {case.scenario:12} {gate:13} "
        f"stopped {row['stopped']:6.1%}  "
        f"median {'-' if median is None else f'{median:.1f}':>5} windows  "
        f"{row['harmed_device_hours']:7.1f} harmed device-hours"
        + (f"  advanced {row['advanced']:6.1%}" if gate == GATES[0] else "")
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--canaries", default="5,20,50")
    parser.add_argument("--fleets", default=",".join(FLEETS))
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 2) // 2))
    parser.add_argument("--out", type=Path, default=gates_report.RESULTS)
    options = parser.parse_args()
    seed = secrets.randbits(63) if options.seed is None else options.seed
    sizes = [int(size) for size in options.canaries.split(",")]
    cases = [
        Case(fleet, name, size, seed, options.runs)
        for fleet in options.fleets.split(",")
        for size in (sizes if fleet == next(iter(FLEETS)) else sizes[len(sizes) // 2 :][:1])
        for name in SCENARIOS
    ]
    began = time.perf_counter()
    table = []
    with ProcessPoolExecutor(options.jobs) as pool:
        for case, rows in zip(cases, pool.map(run_case, cases), strict=True):
            for gate, row in rows.items():
                table.append(
                    {
                        "fleet": case.fleet,
                        "canaries": case.canaries,
                        "scenario": case.scenario,
                        "gate": gate,
                    }
                    | row
                )
                print(line(case, gate, row), flush=True)
    result = {
        "runs": options.runs,
        "seed": seed,
        "nominal": ERRORS.false_stop,
        "fleets": {name: asdict(shape) for name, shape in FLEETS.items()},
        "seconds": round(time.perf_counter() - began, 1),
        "table": table,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    if options.out == gates_report.RESULTS:
        gates_report.main()


if __name__ == "__main__":
    main()
