"""Speed and size of summaries, the cost of recording, and the alert rule, measured here and now.

    python -m bench signals [--months 60] [--trials 200] [--seed N] [--quick]

Writes ``bench/results/signals.json``. Alert scenarios take minutes of one core each at 60 months;
``--quick`` runs the speed figures and two months of the smallest scenarios. Rules were tuned on
seeds below 1000; reported seeds are drawn afresh from above, and written down.
"""

import argparse
import json
import os
import platform
import secrets
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from bench.signals_alerts import RULES, MusterRule, Scenario, measure

from muster_agent.worker.recorder import Recorder
from muster_agent.worker.ring import Ring
from muster_agent.worker.rows import RingLayout
from muster_protocol import baseline, binning, features, histogram, summary, summary_wire
from muster_protocol.manifest import Tensor
from muster_protocol.messages import Stamp
from muster_protocol.summary import Summary, Tally

RESULTS = Path(__file__).parent / "results" / "signals.json"
ROWS, FEATURES = 3000, 50
TUNING_SEEDS_BELOW = 1000
SCENARIOS = tuple(
    Scenario(dependence, rows, count)
    for count in (8, 50)
    for dependence in ("iid", "ar", "wander")
    for rows in (50, 300, 3000)
)


def best(run: Callable[[], object], repeats: int = 7, seconds: float = 0.2) -> float:
    """Seconds of one call: the least of several means, as noise only ever adds."""
    run()
    begun = time.perf_counter()
    run()
    calls = max(1, int(seconds / max(time.perf_counter() - begun, 1e-9)))
    means = []
    for _ in range(repeats):
        begun = time.perf_counter()
        for _ in range(calls):
            run()
        means.append((time.perf_counter() - begun) / calls)
    return min(means)


def window(rng: np.random.Generator) -> tuple[Summary, dict[str, np.ndarray[Any, Any]]]:
    """A window of 3000 × 50 normal values as a device would send it."""
    trained = baseline.fit(
        {"x": rng.normal(size=(100_000, FEATURES))}, features.elements("x", FEATURES)
    )
    tensors = {"x": rng.normal(size=(ROWS, FEATURES)).astype(np.float32)}
    boot = rng.bytes(16)
    opened = Stamp(boot, 1234.5678, 1.7e9 + 0.25, "synchronised")
    made = Summary(
        "pump-anomaly",
        "1.4.2",
        rng.bytes(32).hex(),
        opened,
        replace_stamp(opened, 300.0123),
        counts=Tally(inferences=ROWS),
        latency=histogram.count_latency(rng.lognormal(5, 0.3, ROWS)),
        cpu_seconds=1.234,
        features=binning.count(trained, tensors),
    )
    return made, tensors


def replace_stamp(stamp: Stamp, later: float) -> Stamp:
    return Stamp(
        stamp.boot, stamp.monotonic_seconds + later, stamp.wall_seconds + later, stamp.quality
    )


def speeds(seed: int) -> dict[str, float]:
    """Fold, merge and wire figures at 3000 × 50."""
    rng = np.random.default_rng(seed)
    made, tensors = window(rng)
    counted = made.features
    assert counted is not None
    trained = counted.baseline
    payload = summary_wire.encode(made)
    return {
        "fold_values_per_second": ROWS * FEATURES / best(lambda: binning.count(trained, tensors)),
        "merge_features_microseconds": best(lambda: counted + counted) * 1e6,
        "merge_summary_microseconds": best(lambda: summary.merge(made, made)) * 1e6,
        "encode_microseconds": best(lambda: summary_wire.encode(made)) * 1e6,
        "decode_microseconds": best(lambda: summary_wire.decode(payload, trained)) * 1e6,
        "summary_bytes": len(payload),
        "bytes_per_feature": len(payload) / FEATURES,
        "bytes_per_feature_without_head": (
            len(payload) - len(summary_wire.encode(replace(made, features=None)))
        )
        / FEATURES,
    }


def recording() -> dict[str, float]:
    """What recording one inference of 30 inputs and 2 outputs costs its worker."""
    layout = RingLayout(
        manifest="ab" * 32,
        inputs=(Tensor("x", "FP32", (-1, 30)),),
        outputs=(Tensor("y", "FP32", (-1, 2)),),
    )
    inputs = {"x": np.zeros((1, 30), np.float32)}
    outputs = {"y": np.zeros((1, 2), np.float32)}
    with tempfile.TemporaryDirectory() as directory:
        ring = Ring.create(Path(directory) / "bench.ring", layout, 65_536)
        recorder = Recorder(ring, layout)
        seconds = best(lambda: recorder.answered("", 1, inputs, outputs, 0, 1_000_000))
        ring.close()
    return {"recording_microseconds": seconds * 1e6}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench signals", description=__doc__)
    parser.add_argument("--months", type=float, default=60.0)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 2) // 2))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    seed = options.seed
    if seed is None:
        seed = TUNING_SEEDS_BELOW + secrets.randbelow(2**31)
    months, trials, scenarios = options.months, options.trials, SCENARIOS
    if options.quick:
        months, trials = min(months, 2.0), min(trials, 20)
        scenarios = tuple(one for one in SCENARIOS if one.features == 8 and one.rows == 300)
    results: dict[str, Any] = {
        "machine": {"processor": platform.processor() or platform.machine(), "cpus": os.cpu_count(),
                    "python": platform.python_version(), "numpy": np.__version__},
        "seed": seed,
        "months": months,
        "trials": trials,
        "rules": [rule.name for rule in RULES],
        "speeds": speeds(seed) | recording(),
        "alerts": [],
    }  # fmt: skip
    for name, value in results["speeds"].items():
        print(f"{name:34} {value:,.2f}")
    with ProcessPoolExecutor(options.jobs) as pool:
        jobs = [(scenario, months, trials, seed) for scenario in scenarios]
        for scenario, row in zip(scenarios, pool.map(measure, jobs), strict=True):
            results["alerts"].append(row)
            told = "; ".join(
                f"{name} {told['per_month']:.2f} (≤ {told['upper']:.2f}), first day "
                f"{told['per_first_day']:.2f}, windows {told['windows_flagged']:.1%}"
                for name, told in row["false_alerts"].items()
            )
            found = row["detected_within_3_windows"]
            print(f"{scenario}: {told}; {MusterRule.name} finds {found:.0%}", flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
