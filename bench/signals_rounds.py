"""Devices simulated in rounds: the first of every scenario, the second of every scenario, …

So that every row has as many devices, however long there is. Where many rows are drawn one by one
a scenario lives in every fifth round only: a device of it takes as long as a round of all others.
One process a core.
"""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

from bench.signals_streams import RHO, Scenario

Found = TypeVar("Found")
DEAR_VALUES = 100_000
DEAR_ROUNDS = 5


def lived(
    life: Callable[[Scenario, int], Found],
    scenarios: Sequence[Scenario],
    devices: int,
    minutes: float,
) -> Iterator[tuple[Scenario, Found]]:
    """What each device's ``life`` (scenario, number of the device) found, as they end.

    After ``minutes`` no other device begins, but each scenario's first.
    """
    # Numeric libraries' own threads would wait for each other on the same cores.
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))
    tasks = [
        (scenario, number)
        for number in range(devices)
        for scenario in sorted(scenarios, key=_values)
        if number % DEAR_ROUNDS == 0 or _values(scenario) < DEAR_VALUES
    ]
    one_life = partial(_unless_late, life=life, end=time.monotonic() + 60 * minutes)
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        for scenario, found in pool.imap_unordered(one_life, tasks):
            if found is not None:
                yield scenario, found


def _values(scenario: Scenario) -> int:
    """Drawn for a window: all of its rows' where they depend on each other, else moments."""
    return scenario.features * (scenario.rows if scenario.dependence in RHO else 1)


def _unless_late(
    task: tuple[Scenario, int], life: Callable[[Scenario, int], Found], end: float
) -> tuple[Scenario, Found | None]:
    scenario, number = task
    late = number > 0 and time.monotonic() > end
    return scenario, None if late else life(scenario, number)
