"""What a step costs follows from what changed, not from how many devices there are."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from muster_hub.settings.retention import Telemetry
from muster_hub.storage.store import Store
from support.bulk_fleet import QuickSigner, fill, name_of
from support.hub_engine import Plant

pytestmark = pytest.mark.timeout(900)
FEW, MANY = 100, 10_000
COUNTED_EVERY = 20
"""Instructions of SQLite's virtual machine between two counts."""
SLACK = 1.1
"""A tree ten thousand rows deep is a level or so deeper than one of a hundred."""


@dataclass
class Cost:
    """Statements given to the database, and how far it had to work for them."""

    statements: Counter[str] = field(default_factory=Counter)
    instructions: int = 0


@contextmanager
def counted(store: Store) -> Iterator[Cost]:
    """Every row that is looked at, scanned or returned costs SQLite some instructions."""
    cost = Cost()

    def count() -> int:
        cost.instructions += COUNTED_EVERY
        return 0

    def statement(_connection: Any, _cursor: Any, text: str, *_: Any) -> None:
        cost.statements[text] += 1

    def watch(connection: Any, *_: Any) -> None:
        connection.set_progress_handler(count, COUNTED_EVERY)

    listened: tuple[tuple[str, Callable[..., Any]], ...] = (
        ("before_cursor_execute", statement), ("checkout", watch),
    )  # fmt: skip
    for name, listener in listened:
        event.listen(store.engine, name, listener)
    try:
        yield cost
    finally:
        for name, listener in listened:
            event.remove(store.engine, name, listener)


class Fleets:
    """Settled fleets of two sizes; making the large one takes a few seconds."""

    def __init__(self, directory: Path) -> None:
        self.plants: dict[int, Plant] = {}
        for devices in (FEW, MANY):
            home = directory / str(devices)
            home.mkdir()
            plant = Plant(home, signing=QuickSigner(), telemetry=Telemetry())
            fill(plant, devices, plant.publish("1"))
            for _ in range(3):
                plant.now += 2.0
                plant.engine.step()
            self.plants[devices] = plant

    def costs(self, act: Callable[[Plant], None]) -> tuple[Cost, Cost]:
        """What it costs in the small fleet and in the large one."""
        found = []
        for plant in self.plants.values():
            with counted(plant.store) as cost:
                act(plant)
            found.append(cost)
        return found[0], found[1]


@pytest.fixture(scope="module")
def fleets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleets]:
    fleets = Fleets(tmp_path_factory.mktemp("fleets"))
    yield fleets
    for plant in fleets.plants.values():
        plant.close()


def step(plant: Plant) -> None:
    plant.now += 1.0
    plant.engine.step()


def assert_equal(few: Cost, many: Cost) -> None:
    assert many.statements == few.statements
    assert many.instructions <= SLACK * few.instructions + 20 * COUNTED_EVERY


def test_a_step_in_which_nothing_changed_costs_the_same_whatever_the_fleet(fleets: Fleets) -> None:
    fleets.costs(step)
    few, many = fleets.costs(step)
    assert_equal(few, many)
    assert sum(few.statements.values()) < 12


def test_so_do_alerts_hours_and_housekeeping_and_the_review_of_directives(fleets: Fleets) -> None:
    def long_after(plant: Plant) -> None:
        plant.now += 61.0
        plant.engine.step()

    fleets.costs(long_after)
    few, many = fleets.costs(long_after)
    assert_equal(few, many)
    assert len(few.statements) > 20, "they were looked at"


def test_a_device_that_reports_costs_as_much_in_a_large_fleet_as_in_a_small_one(
    fleets: Fleets,
) -> None:
    def one_reports(plant: Plant) -> None:
        plant.change(name_of(3), last_seen=plant.now)
        step(plant)

    few, many = fleets.costs(one_reports)
    assert_equal(few, many)


def test_a_rollout_that_waits_reads_nothing_of_devices_that_did_not_change(fleets: Fleets) -> None:
    for plant in fleets.plants.values():
        plant.publish("2")
        plant.start("2", selector="site=s3", canary=2, min_soak_seconds=1e6)
        plant.tick()
        step(plant)
        step(plant)
    few, many = fleets.costs(step)
    assert_equal(few, many)
