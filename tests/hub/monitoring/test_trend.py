"""How features moved over time: read from the database, merged to few points, drawn."""

import pytest

from muster_client.commands.drift import render
from muster_hub.monitoring import trend
from muster_hub.storage.models import SummaryWindow
from muster_protocol.signals import summary_wire
from support.hub_store import open_store
from support.summaries import MANIFEST, fitted, window

SHIFTED_FROM = 6


@pytest.fixture
def store(tmp_path):
    """Ten windows; from the seventh on the temperature is two standard deviations higher."""
    made = open_store(tmp_path, "cam-1")
    with made.write() as session:
        for number in range(10):
            shift = 2.0 if number >= SHIFTED_FROM else 0.0
            item = window(300, seed=number, start=300.0 * number, shift=shift)
            session.add(
                SummaryWindow(
                    device="cam-1", epoch="00", sequence=number + 1, model="press",
                    manifest=MANIFEST, start=300.0 * number, seconds=300.0, n=300,
                    received=0.0, payload=summary_wire.encode(item),
                )
            )  # fmt: skip
        session.add(
            SummaryWindow(device="cam-1", epoch="00", sequence=11, manifest=MANIFEST, start=9e9,
                          n=5, received=0.0, payload=b"not a summary")
        )  # fmt: skip
    yield made
    made.close()


def test_a_shift_shows_in_the_windows_it_came_in(store):
    with store.read() as session:
        moved = trend.read(session, "cam-1", MANIFEST, fitted())
    points = moved["temperature"]
    assert [point["start"] for point in points] == [300.0 * number for number in range(10)]
    assert all(point["n"] == 300 for point in points)
    assert all(abs(point["shift"]) < 0.3 and point["psi"] < 0.1 for point in points[:SHIFTED_FROM])
    assert all(point["shift"] > 1.5 and point["psi"] > 0.5 for point in points[SHIFTED_FROM:])
    assert all(abs(point["psi"]) < 0.2 for point in moved["pressure"])


def test_many_windows_are_merged_to_few_points_and_none_is_left_out():
    windows = [(300.0 * number, window(100, seed=number)) for number in range(10)]
    points = trend.points(windows, 4)["temperature"]
    assert [(point["start"], point["n"]) for point in points] == [
        (0.0, 300), (900.0, 300), (1800.0, 300), (2700.0, 100),
    ]  # fmt: skip
    assert trend.points([], 4) == {}


def test_the_trend_is_drawn_below_a_features_bars(store):
    with store.read() as session:
        moved = trend.read(session, "cam-1", MANIFEST, fitted())
    feature = {"name": "temperature", "p0": [0.5, 0.5], "now": [1, 2], "status": "drifting",
               "trend": moved["temperature"]}  # fmt: skip
    lines = [str(line) for line in render({"device": "cam-1", "features": [feature]})]
    (drawn,) = [line for line in lines if "trend" in line]
    low, high = drawn.split("▕")[1][:SHIFTED_FROM], drawn.split("▕")[1][SHIFTED_FROM:10]
    assert set(low) <= set(" ▁▂")
    assert set(high) <= set("▆▇█")
    calm = feature | {"trend": []}
    assert not any("trend" in str(line) for line in render({"features": [calm]}))
