"""What fails in a step of the engine is left out and named; everything else of it goes on."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError
from sqlmodel import col, select

from muster_hub.access.scope import EVERYTHING
from muster_hub.heartbeats import Heartbeats, Standing
from muster_hub.monitoring import reading
from muster_hub.mqtt.intake import Intake
from muster_hub.reconcile.engine import Engine
from muster_hub.registry.published import Bundles
from muster_hub.storage import models
from muster_hub.storage.models import Alert, EventRow, Rollup, SummaryWindow
from muster_protocol.signals import summary_wire
from muster_protocol.signals.summary import Summary, Tally
from muster_protocol.wire import limits, topics
from muster_protocol.wire.directive import Directive
from support.hub_engine import FixedCatalogue, Plant
from support.hub_store import batch, stamp

DEVICES = ("d1", "d2", "d3")
HOUR = 3600.0


@pytest.fixture
def plant(tmp_path: Path, database: str) -> Iterator[Plant]:
    plant = Plant(tmp_path, *DEVICES, url=database)
    yield plant
    plant.close()


def engine_of(plant: Plant, heartbeats: Heartbeats, **more) -> Engine:
    settled = {"bundles": Bundles(plant.store, plant.blobs), "signing": plant.signing} | more
    return Engine(
        plant.store, FixedCatalogue(), settled["signing"], settled["bundles"], plant.settings,
        heartbeats=heartbeats, now=lambda: plant.now,
    )  # fmt: skip


def standing(heartbeats: Heartbeats, part: str) -> Standing:
    return heartbeats.standings()[f"engine/{part}"]


def wide(manifest: str, count: int) -> bytes:
    """A window as an older hub would have taken it: all it counts is ``count``."""
    tally = Tally(*[count] * len(Tally().values()))
    return summary_wire.encode(
        Summary("digits", "1", manifest, stamp(0.0), stamp(5.0), counts=tally), merged=True
    )


def store_wide(plant: Plant, manifest: str, rows: int) -> None:
    """As stored by a hub that had no bounds: they must not stop one that was upgraded."""
    most = limits.INTEGER_MAX
    with plant.store.write() as session:
        for number in range(rows):
            session.add(
                SummaryWindow(
                    device="d1", epoch="00" * 12, sequence=number + 1, model="digits", version="1",
                    manifest=manifest, start=plant.now, seconds=5.0, n=most, errors=5 * most,
                    labels_right=most, labels_wrong=most, received=plant.now, folded=True,
                    payload=wide(manifest, most),
                )
            )  # fmt: skip


def test_counts_as_large_as_they_can_be_stop_no_sum(plant: Plant):
    manifest = plant.publish("1")
    plant.start("1", gate={"metrics": ["errors"]})
    store_wide(plant, manifest, 240)
    heartbeats = Heartbeats()
    plant.now += 3 * HOUR
    for _ in range(2):
        assert engine_of(plant, heartbeats).step(), "also after a restart"
    assert all(item.ok for item in heartbeats.standings().values())
    with plant.store.read() as session:
        rollups = session.exec(select(Rollup)).all()
        assert {row.n for row in rollups} == {limits.INTEGER_MAX}
        counted = reading.counts(session, EVERYTHING, "d1")
    assert counted["inferences"] == limits.INTEGER_MAX
    assert plant.versions() == dict.fromkeys(DEVICES, "1")


def test_a_count_beyond_a_windows_bound_is_kept_as_bytes_and_told_under_its_device(plant: Plant):
    manifest = plant.publish("1")
    payload = wide(manifest, limits.COUNT_MAX + 1)
    message = topics.up("d1", "telemetry"), batch({1: payload})
    done = Intake(plant.store, lambda _: True).take([message], plant.now)
    assert done is not None
    assert done.acks[0][1].sequence == 1
    plant.tick()
    with plant.store.read() as session:
        (window,) = session.exec(select(SummaryWindow)).all()
        alert = session.exec(select(Alert).where(Alert.kind == "set_aside")).one()
    assert (window.n, window.payload) == (0, payload)
    assert alert.device == "d1"
    assert "d1 sends what can't be taken" in alert.title


class Broken(Bundles):
    """Bundles of which one manifest's baseline makes whoever reads it fail."""

    def __init__(self, plant: Plant, broken: str) -> None:
        super().__init__(plant.store, plant.blobs)
        self._broken = broken

    def baseline(self, manifest: str):
        if manifest == self._broken:
            raise ZeroDivisionError("a baseline no code foresaw")
        return


def test_a_window_that_fails_is_set_aside_and_the_others_are_taken_in(plant: Plant):
    bad, good = plant.publish("1"), plant.publish("2")
    for device, manifest, version in (("d1", bad, "1"), ("d2", good, "2")):
        window = Summary("digits", version, manifest, stamp(0.0), stamp(5.0), counts=Tally(7))
        message = topics.up(device, "telemetry"), batch({1: summary_wire.encode(window)})
        assert Intake(plant.store, lambda _: True).take([message], plant.now)
    heartbeats = Heartbeats()
    engine = engine_of(plant, heartbeats, bundles=Broken(plant, bad))
    plant.now += 3 * HOUR
    assert engine.step()
    named = standing(heartbeats, "drift")
    assert named.state == "lagging"
    assert "window 1 of d1: ZeroDivisionError" in named.detail
    with plant.store.read() as session:
        rows = session.exec(select(SummaryWindow).order_by(col(SummaryWindow.device))).all()
        device = session.get(models.Device, "d1")
        assert [(row.device, row.n) for row in rows] == [("d1", 7), ("d2", 7)]
        assert {row.device for row in session.exec(select(Rollup))} == {"d2", ""}
    assert "ZeroDivisionError" in rows[0].fault
    assert device is not None
    assert device.set_aside == 1
    assert engine.step()
    assert standing(heartbeats, "drift").ok, "what was set aside does not come again"


class FailingFor:
    """A signer that can't sign for one device."""

    def __init__(self, plant: Plant, device: str, error: Exception) -> None:
        self._signing, self._device, self._error = plant.signing, device, error

    @property
    def keyid(self) -> str:
        return self._signing.keyid

    def sign(self, wanted: Directive) -> bytes:
        if wanted.device == self._device:
            raise self._error
        return self._signing.sign(wanted)


def test_a_device_whose_directive_fails_keeps_nobody_else_from_theirs(plant: Plant):
    plant.publish("1")
    plant.start("1")
    heartbeats = Heartbeats()
    engine = engine_of(plant, heartbeats, signing=FailingFor(plant, "d2", ValueError("no")))
    assert engine.step()
    assert plant.versions() == {"d1": "1", "d3": "1"}
    assert "the directive of d2: ValueError: no" in standing(heartbeats, "directives").detail


def test_what_passes_is_tried_again_and_no_row_is_blamed_for_it(plant: Plant):
    plant.publish("1")
    plant.start("1")
    heartbeats = Heartbeats()
    busy = OperationalError("UPDATE", {}, Exception("the server is gone"))
    engine = engine_of(plant, heartbeats, signing=FailingFor(plant, "d2", busy))
    with pytest.raises(OperationalError):
        engine.step()
    assert standing(heartbeats, "directives").state == "retrying"
    assert plant.versions() == {}


def test_a_plan_that_no_code_can_read_stops_only_its_own_rollout(plant: Plant):
    plant.publish("1")
    plant.publish("2")
    broken = plant.start("1", selector="site=nowhere")
    whole = plant.start("2")
    with plant.store.write() as session:
        row = session.get(models.Rollout, broken)
        assert row is not None
        session.add(row.sqlmodel_update({"plan": {"canary": "a lot"}}))
    heartbeats = Heartbeats()
    assert engine_of(plant, heartbeats).step()
    assert f"rollout {broken}" in standing(heartbeats, "rollouts").detail
    assert set(plant.states(whole)) == set(DEVICES)


def test_an_event_of_a_device_never_stops_the_engine(plant: Plant):
    with plant.store.write() as session:
        session.add(EventRow(device="d1", kind="note", received=plant.now, detail="x" * 100_000))
    heartbeats = Heartbeats()
    assert engine_of(plant, heartbeats).step()
    assert all(item.ok for item in heartbeats.standings().values())


def test_every_part_is_heard_of_in_hours_in_which_it_has_nothing_to_do(plant: Plant):
    moment = 0.0
    beats = Heartbeats(lambda: moment)
    engine = engine_of(plant, beats)
    for _ in range(40):
        moment += 100.0
        plant.now += 100.0
        engine.step()
    parts = {name: at for name, at in beats.standings().items() if name.startswith("engine/")}
    assert [name for name, at in parts.items() if not at.ok] == []
