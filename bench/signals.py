"""Summaries and the alert rule measured here and now, beside their peers, on the same data.

    python -m bench signals [--parts speed,peers] [--months 60] [--minutes 120] [--quick]

Parts are speed, peers, outbox, time (the rule of baselines in time) and alerts (of those out of
order). Writes ``bench/results/signals.json``, part by part, and the tables in ``bench/README.md``
and ``docs/drift.md``. Alert scenarios run one to a core, the costliest last, and none
starts another device after ``--minutes``: the months that each could simulate are in its row. Rules
were tuned on seeds below 1000; a run's seed is drawn afresh from above, and written down.
"""

import argparse
import json
import multiprocessing
import os
import platform
import secrets
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from bench import signals_in_time, signals_report
from bench.signals_alerts import measured
from bench.signals_outbox import ninety_days
from bench.signals_peers import compared, peers
from bench.signals_streams import Scenario

DAYS_IN_TIME = 30
"""That each device lives whose baseline is in time."""
RESULTS = Path(__file__).parent / "results" / "signals.json"
TUNING_SEEDS_BELOW = 1000
PARTS = ("speed", "peers", "outbox", "time", "alerts")
SCENARIOS = tuple(
    Scenario(dependence, rows, count)
    for count in (8, 50)
    for rows in (50, 300, 3000)
    for dependence in ("iid", "wander", "weak", "ar")
)


def alerts(
    scenarios: tuple[Scenario, ...], months: float, devices: int, seed: int, minutes: float
) -> Iterator[list[dict[str, Any]]]:
    """The rows so far, after every scenario."""
    rows: list[dict[str, Any]] = []
    end = time.monotonic() + 60 * minutes
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        item = partial(measured, months=months, devices=devices, seed=seed, end=end)
        for row in pool.imap(item, scenarios):
            rows.append(row)
            rates_in_words = "; ".join(
                f"{name} {rule['per_month']:.2f} (≤ {rule['upper']:.2f})"
                for name, rule in row["false_alerts"].items()
            )
            simulated = row["false_alerts"]["Muster"]["months"]
            found = row["detected_within_3_windows"]
            name = Scenario(row["dependence"], row["rows"], row["features"])
            print(f"{name}, {simulated} months: {rates_in_words}; finds {found:.0%}", flush=True)
            yield rows


def in_time(
    scenarios: tuple[Scenario, ...], devices: int, seed: int, minutes: float
) -> Iterator[list[dict[str, Any]]]:
    """The rows so far, after every scenario, of baselines in time."""
    rows: list[dict[str, Any]] = []
    share = 60 * minutes * (os.cpu_count() or 1) / len(scenarios)
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        item = partial(
            signals_in_time.measured, devices=devices, days=DAYS_IN_TIME, seed=seed, seconds=share
        )
        for row in pool.imap(item, scenarios):
            rows.append(row)
            name = Scenario(row["dependence"], row["rows"], row["features"])
            for trained, cell in row["trained"].items():
                print(
                    f"{name}, {trained}, {cell['months']} months: {cell['per_month']:.2f} (≤ "
                    f"{cell['upper']:.2f}); finds {cell['found_in_3']} of {cell['trials']}",
                    flush=True,
                )
            yield rows


def made(
    part: str, scenarios: tuple[Scenario, ...], months: float, devices: int, seed: int,
    minutes: float,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """What a part finds; after every scenario, where there are several."""
    if part == "time":
        for rows in in_time(scenarios, devices, seed, minutes):
            yield {"rows": rows}
    elif part == "alerts":
        for rows in alerts(scenarios, months, devices, seed, minutes):
            yield {"wanted_months": months, "rows": rows}
    else:
        yield {"speed": compared, "peers": peers, "outbox": ninety_days}[part](seed)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench signals", description=__doc__)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--months", type=float, default=60.0)
    parser.add_argument("--devices", type=int, default=20, help="that share a scenario's months")
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--quick", action="store_true", help="five minutes, four scenarios")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    seed = options.seed
    if seed is None:
        seed = TUNING_SEEDS_BELOW + secrets.randbelow(2**31)
    months, minutes, scenarios = options.months, options.minutes, SCENARIOS
    if options.quick:
        months, minutes = min(months, 6.0), min(minutes, 3.0)
        scenarios = tuple(item for item in SCENARIOS if item.features == 8 and item.rows == 300)
    results = json.loads(options.out.read_text()) if options.out.exists() else {}
    machine = {
        "processor": platform.machine(), "cpus": os.cpu_count(), "load": os.getloadavg()[0],
        "python": platform.python_version(), "numpy": np.__version__,
    }  # fmt: skip

    def keep(part: str, found: dict[str, Any]) -> None:
        results[part] = {"seed": seed, "machine": machine} | found
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(results, indent=1) + "\n")

    wanted = options.parts.split(",")
    if unknown := set(wanted) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}: one of {', '.join(PARTS)}")
    for part in wanted:
        for found in made(part, scenarios, months, options.devices, seed, minutes):
            keep(part, found)
        if "rows" not in results[part]:
            print(json.dumps(results[part], indent=1), flush=True)
    if options.out == RESULTS:
        signals_report.write(results)


if __name__ == "__main__":
    main()
