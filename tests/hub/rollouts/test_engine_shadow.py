"""A rollout that begins in shadow, on real databases: directives, windows, reports, and its end."""

import pytest
from sqlmodel import Session, select

from muster_hub.mqtt import commit as mqtt
from muster_hub.mqtt import inbound
from muster_hub.rollouts import commands, comparisons, reading
from muster_hub.storage import models
from muster_protocol.signals import summary_wire
from muster_protocol.signals.summary import Summary, Tally
from muster_protocol.wire import messages
from muster_protocol.wire.messages import Batch, Row, Stamp
from support.hub_engine import SLOT, Plant

DEVICES = [f"d{number}" for number in range(6)]
SHADOW = {"devices": 4, "min_seconds": 900.0, "compared_min": 1000}
EPOCH = bytes(range(12))


class Shadowed(Plant):
    """Six devices that run version 1, and version 2 to be tried."""

    def __init__(self, directory, url=None):
        super().__init__(directory, *DEVICES, url=url)
        self.publish("1")
        self.manifest = self.publish("2")
        self.start("1")
        self.tick()
        for device in DEVICES:
            self.report(device, "1")
        self.tick()
        self.sequence = 0

    def challengers(self):
        held = {device: self.directive(device).slots[SLOT].challenger for device in DEVICES}
        return {device: goal.version for device, goal in held.items() if goal is not None}

    def window(self, device, **counts):
        """A challenger's window comes, as a device sends it."""
        self.sequence += 1
        stamps = [Stamp(b"boot", at, 0.0, "unknown") for at in (0.0, 5.0, 6.0)]
        payload = summary_wire.encode(
            Summary("digits", "2", self.manifest, stamps[0], stamps[1], counts=Tally(**counts))
        )
        batch = messages.encode(Batch(1, EPOCH, stamps[2], [Row(self.sequence, payload)]))
        with self.store.write() as session:
            rows = inbound.read(f"muster/v1/up/{device}/telemetry", batch, self.now)
            mqtt.commit(session, [rows], self.now)

    def says(self, device, **challenger):
        """Of its challenger, beside what it runs."""
        self.report(device, "1")
        report = models_report(self, device)
        report["slots"][SLOT]["challenger"] = {"manifest": self.manifest} | challenger
        self.change(device, report=report)

    def beat(self, seconds=300.0):
        for device in DEVICES:
            self.change(device, last_seen=self.now + seconds)
        self.tick(seconds)


def models_report(plant, device):
    with plant.store.read() as session:
        return dict(session.get(models.Device, device).report)


@pytest.fixture
def plant(tmp_path, database):
    made = Shadowed(tmp_path, database)
    yield made
    made.close()


def test_a_release_that_answers_alike_passes_its_shadow_and_goes_on_to_the_canary(plant):
    number = plant.start("2", canary=2, shadow=SHADOW)
    plant.tick()
    watching = plant.challengers()
    assert len(watching) == 4
    assert set(watching.values()) == {"2"}
    assert set(plant.versions().values()) == {"1"}
    plant.beat(10.0)
    for _ in range(3):
        for device in watching:
            plant.says(device, state="comparing", compared=300)
            plant.window(device, compared=300, disagreed=3)
        plant.beat()
    plant.tick()
    assert plant.challengers() == {}
    assert sorted(plant.versions().values()) == ["1", "1", "1", "1", "2", "2"]
    with plant.store.read() as session:
        view = reading.rollout(session, number, plant.now)
    assert [device["compared"] for device in view["shadow"]["devices"]] == [900] * 4
    reasons = [step["reason"] for step in view["history"]]
    assert any(
        "Shadow passed: 1.00% of 3600 answers differ, as allowed" in item for item in reasons
    )


def test_a_release_that_answers_otherwise_is_stopped_and_nobody_ever_ran_it(plant):
    number = plant.start("2", canary=2, shadow=SHADOW)
    plant.tick()
    for _ in range(4):
        for device in plant.challengers():
            plant.window(device, compared=300, disagreed=200)
        plant.beat()
    assert plant.rollout(number).state == "stopped"
    assert "Stopped in shadow, before any device ran it" in plant.rollout(number).reason
    assert plant.challengers() == plant.states(number) == {}
    assert set(plant.versions().values()) == {"1"}


def test_a_device_that_refuses_the_challenger_stops_the_rollout_at_once(plant):
    number = plant.start("2", canary=2, shadow=SHADOW)
    plant.tick()
    device = next(iter(plant.challengers()))
    plant.says(device, state="failed", refusal="golden_mismatch", detail="golden case 3")
    plant.beat(5.0)
    plant.tick()
    assert plant.rollout(number).state == "stopped"
    assert f"{device} golden_mismatch: golden case 3" in plant.rollout(number).reason


def test_an_operator_may_pass_a_shadow_by_hand_or_abort_it(plant):
    number = plant.start("2", canary=2, shadow=SHADOW)
    plant.tick()
    with plant.store.write() as session:
        commands.advance_rollout(session, number, by="ada", now=plant.now)
    plant.tick()
    assert plant.challengers() == {}
    assert sorted(set(plant.versions().values())) == ["1", "2"]
    with plant.store.write() as session:
        commands.abort_rollout(session, number, by="ada", now=plant.now)
    plant.tick()
    other = plant.start("2", canary=2, shadow=SHADOW)
    plant.tick()
    assert len(plant.challengers()) == 4
    with plant.store.write() as session:
        commands.abort_rollout(session, other, by="ada", now=plant.now)
    plant.tick()
    assert plant.challengers() == {}


def test_a_window_that_comes_twice_is_compared_once(plant):
    plant.start("2", canary=2, shadow=SHADOW)
    plant.tick()
    device = next(iter(plant.challengers()))
    plant.window(device, compared=300, disagreed=3)
    plant.sequence -= 1
    plant.window(device, compared=300, disagreed=3)
    with plant.store.read() as session:
        sums = comparisons.compared(session, [device], manifest=plant.manifest, since=0.0)
    assert sums[device]["compared"] == 300


def test_a_challengers_windows_are_no_service_of_its_release(plant):
    plant.start("2", canary=2, shadow=SHADOW)
    plant.tick()
    device = next(iter(plant.challengers()))
    plant.window(device, compared=300)
    with plant.store.read() as session:
        row = _window(session, device)
    assert (row.n, row.errors, row.seconds, row.log_p95) == (0, 0, 0.0, None)
    assert row.compared == 300


def _window(session: Session, device: str) -> models.SummaryWindow:
    query = select(models.SummaryWindow).where(models.SummaryWindow.device == device)
    return session.exec(query).one()
