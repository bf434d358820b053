"""One outage is one alert, and silence is a device's own only while the hub itself hears well."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlmodel import select

from muster_hub.alerts import grouping
from muster_hub.alerts.rules import Condition, refused
from muster_hub.storage import models
from support.hub_engine import Plant

DEVICES = tuple(f"d{number:02}" for number in range(40))
SITES = {name: ("berlin", "oslo")[number % 2] for number, name in enumerate(DEVICES)}
ALLOWED = 300.0


def silences(*silent: str, alone: frozenset[str] = frozenset()) -> list[str]:
    active = {"berlin": 20, "oslo": 20}
    found = grouping.silences(set(silent), alone, SITES, active, ALLOWED)
    return [condition.key for condition in found]


def at(site: str) -> list[str]:
    return [name for name in DEVICES if SITES[name] == site]


def test_a_few_silent_devices_are_an_alert_each() -> None:
    assert silences("d00", "d01", "d02") == ["silent/d00", "silent/d01", "silent/d02"]


def test_most_of_a_site_is_one_alert_and_others_keep_their_own() -> None:
    assert silences("d01", *at("berlin")[:12]) == ["silent//berlin", "silent/d01"]


def test_half_of_the_fleet_is_one_alert() -> None:
    (found,) = grouping.silences(set(DEVICES[:20]), (), SITES, {"berlin": 20, "oslo": 20}, ALLOWED)
    assert found.key == "silent//"
    assert found.title.startswith("20 of 40 devices have not been heard of for more than 300 s")
    assert found.severity == "critical"


def test_a_device_that_was_told_of_already_keeps_its_alert() -> None:
    listed = frozenset({"d03"})
    assert silences(*DEVICES, alone=listed) == ["silent/d03", "silent//"]


def test_many_that_have_nothing_in_common_are_one_alert_too() -> None:
    scattered = {f"s{number}" for number in range(grouping.ALONE_MAX + 1)}
    found = grouping.silences(scattered, (), {}, {"": 1000}, ALLOWED)
    assert [condition.key for condition in found] == ["silent//"]


def refusal(device: str, manifest: str = "ab") -> Condition:
    update = {
        "state": "failed", "refusal": "golden_mismatch", "model": "m", "version": "2",
        "manifest": manifest,
    }  # fmt: skip
    found = refused(device, "main", update)
    assert found is not None
    return found


def test_a_version_that_many_devices_refuse_alike_is_one_alert() -> None:
    many = [refusal(f"d{number}") for number in range(grouping.ALONE_MAX + 2)]
    first, whole = grouping.refusals(many, {many[0].key})
    assert whole.key == "refused//main/ab/golden_mismatch"
    assert whole.title == f"{len(many) - 1} devices refused m 2 in main: golden_mismatch"
    assert first == many[0], "it was told of already"
    assert grouping.refusals([refusal("x", "cd")], ()) == [refusal("x", "cd")]


class Listening:
    seconds = float("inf")


@pytest.fixture
def listening() -> Listening:
    return Listening()


@pytest.fixture
def plant(tmp_path: Path, listening: Listening) -> Iterator[Plant]:
    plant = Plant(tmp_path, *DEVICES, listening_seconds=lambda: listening.seconds)
    for name, site in SITES.items():
        plant.change(name, labels={"site": site})
    plant.tick()
    yield plant
    plant.close()


def standing(plant: Plant) -> list[str]:
    with plant.store.read() as session:
        query = select(models.Alert.key).where(models.Alert.state != "resolved")
        return sorted(session.exec(query).all())


def test_an_outage_of_all_is_one_alert_that_resolves_when_they_are_back(plant: Plant) -> None:
    plant.tick(301)
    assert standing(plant) == ["silent//"]
    for name in DEVICES:
        plant.change(name, last_seen=plant.now)
    plant.tick()
    plant.tick(61)
    assert standing(plant) == []


def test_while_the_hub_lags_nobody_is_called_silent(plant: Plant, listening: Listening) -> None:
    listening.seconds = 0.0
    plant.tick(400)
    assert standing(plant) == []
    listening.seconds = 299.0
    plant.tick(299)
    assert standing(plant) == []
    for name in DEVICES[1:]:
        plant.change(name, last_seen=plant.now)
    listening.seconds = 301.0
    plant.tick(2)
    assert standing(plant) == ["silent/d00"]


def test_who_was_silent_before_the_hub_lagged_stays_so_until_it_is_heard_of(
    plant: Plant, listening: Listening
) -> None:
    plant.tick(200)
    for name in DEVICES[2:]:
        plant.change(name, last_seen=plant.now)
    plant.tick(101)
    assert standing(plant) == ["silent/d00", "silent/d01"]
    listening.seconds = 0.0
    plant.change("d01", last_seen=plant.now)
    for _ in range(3):
        plant.tick(61)
    assert standing(plant) == ["silent/d00"]
