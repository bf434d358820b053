"""Summaries and the alert rule measured here and now, beside their peers, on the same data.

    python -m bench signals [--parts speed,peers] [--months 60] [--minutes 15] [--quick]

Parts are speed, peers, outbox, time (the rule of baselines in time) and alerts (of those out of
order). Writes ``bench/results/signals.json``, part by part, and the tables in ``bench/README.md``
and ``docs/drift.md``. Both simulations live through all scenarios in rounds of a device each, and
begin no other device after ``--minutes`` of their own: how many months each row has is in it. Rules
were tuned on seeds below 1000; a run's seed is drawn afresh from above, and written down.
"""

import argparse
import json
import os
import platform
import secrets
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from bench import signals_alerts, signals_in_time, signals_report, signals_rounds
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
    """The rows so far, after every device, of baselines out of order."""
    cells: dict[Scenario, signals_alerts.Cell] = {}
    life = partial(signals_alerts.life, months=months / devices, seed=seed)
    for scenario, found in signals_rounds.lived(life, scenarios, devices, minutes):
        cell = cells.setdefault(scenario, signals_alerts.Cell(scenario))
        cell.add(found)
        own = cell.muster
        print(f"{scenario}, {cell.devices} devices: {own.alerts} alerts", flush=True)
        yield [cells[item].row() for item in scenarios if item in cells]


def in_time(
    scenarios: tuple[Scenario, ...], devices: int, seed: int, minutes: float
) -> Iterator[list[dict[str, Any]]]:
    """The rows so far, after every device, of baselines in time."""
    cells: dict[Scenario, dict[str, signals_in_time.Cell]] = {}
    life = partial(signals_in_time.life, days=DAYS_IN_TIME, seed=seed)
    for scenario, found in signals_rounds.lived(life, scenarios, devices, minutes):
        before = cells.get(scenario)
        cells[scenario] = (
            found if before is None else {name: before[name] + found[name] for name in found}
        )
        for trained, cell in cells[scenario].items():
            print(
                f"{scenario}, {trained}, {cell.devices} devices: {cell.alerts} alerts in "
                f"{cell.windows / signals_in_time.WINDOWS_PER_MONTH:.0f} months",
                flush=True,
            )
        yield [signals_in_time.row(item, cells[item]) for item in scenarios if item in cells]


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
    parser.add_argument("--minutes", type=float, default=15.0)
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
