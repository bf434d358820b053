"""Gates over windows that devices sent: stop and roll back, advance, or say what is missing."""

import math
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlmodel import update

from muster_hub import queries
from muster_hub.db import models
from muster_hub.domain.plans import GatePlan
from muster_hub.engine import commands, placebo
from muster_hub.errors import Invalid
from support.hub_engine import SLOT, Plant

WINDOW = 300.0
PAST_WINDOWS = 12


class Fleet(Plant):
    """A plant of 90 devices whose windows the test writes: errors and latency by release."""

    def __init__(self, directory: Path, url: str | None, devices: int = 90) -> None:
        super().__init__(directory, url=url)
        self.names = tuple(f"p{n:03}" for n in range(devices))
        with self.store.write() as session:
            session.add_all(
                models.Device(
                    id=name, created=0.0, online=True, last_seen=self.now,
                    labels={"line": "ab"[n % 2]},
                )
                for n, name in enumerate(self.names)
            )  # fmt: skip
        self.publish("1")
        self.publish("2")
        self.rng = np.random.default_rng(7)
        self.sequence = 0
        number = self.start("1")
        self.tick()
        self.all_report("1")
        self.tick()
        assert self.rollout(number).state == "completed"
        for _ in range(PAST_WINDOWS):
            self.windows(lambda _: 1.0)

    def all_report(self, version: str) -> list[str]:
        """Every device that is asked for ``version`` says it has committed."""
        asked = [name for name, held in self.versions().items() if held == version]
        for name in asked:
            self.report(name, version)
        return asked

    def windows(self, harm: Callable[[str], float], quiet: Collection[str] = ()) -> None:
        """One window passes: each device sends what it counted; ``harm`` multiplies errors."""
        held = self.versions()
        self.now += WINDOW
        rows = []
        for name in self.names:
            if name in quiet:
                continue
            self.sequence += 1
            directive = self.directive(name)
            manifest = directive.slots[SLOT].champion.manifest
            rows.append(
                models.SummaryWindow(
                    device=name, epoch="00" * 8, sequence=self.sequence, model="digits",
                    version=held[name], manifest=manifest, start=self.now - WINDOW, seconds=WINDOW,
                    n=1000, errors=int(self.rng.poisson(20 * harm(held[name]))),
                    log_p95=math.log(0.010) + 0.02 * float(self.rng.normal()),
                    received=self.now, payload=b"", folded=True,
                )
            )  # fmt: skip
        with self.store.write() as session:
            session.add_all(rows)
            session.exec(update(models.Device).values(last_seen=self.now))

    def view(self, number: int) -> dict[str, Any]:
        with self.store.read() as session:
            return queries.rollout(session, number, self.now)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path, None)
    yield fleet
    fleet.close()


GATE = {"metrics": ["errors", "p95 latency"], "looks": 16, "past_seconds": PAST_WINDOWS * WINDOW}


def test_a_harmful_release_is_stopped_by_its_gate_and_rolled_back(tmp_path: Path, database: str):
    fleet = Fleet(tmp_path, database)
    number = fleet.start("2", canary=24, gate=GATE, strata=["line"])
    fleet.tick()
    asked = fleet.all_report("2")
    assert len(asked) == 24
    for _ in range(8):
        fleet.windows(lambda version: 3.0 if version == "2" else 1.0)
        fleet.tick()
        if fleet.rollout(number).state == "stopped":
            break
    told = fleet.view(number)
    assert told["state"] == "stopped"
    assert "by its gate. Stopped: errors" in told["reason"]
    assert "chance of a false stop" in told["reason"]
    assert fleet.rollout(number).wave == 0
    fleet.tick()
    assert fleet.versions() == dict.fromkeys(fleet.names, "1")
    assert [one["why"] for one in told["history"]][:2] == ["started", "asking"]
    assert told["history"][-1]["why"] == "stopped"
    fleet.close()


def test_a_harmless_release_advances_on_evidence(fleet: Fleet):
    number = fleet.start("2", canary=24, gate=GATE, strata=["line"])
    fleet.tick()
    fleet.all_report("2")
    fleet.tick()
    assert "the gate has not looked yet" in fleet.rollout(number).reason
    looked = []
    for _ in range(16):
        fleet.windows(lambda _: 1.0)
        fleet.tick()
        row = fleet.rollout(number)
        looked.append(row.judged["look"])
        if row.wave == 1:
            break
    assert row.wave == 1
    assert looked == sorted(set(looked)), "one look a window"
    assert any("shown to be no worse" in one["reason"] for one in fleet.view(number)["history"])
    assert set(fleet.versions().values()) == {"2"}


def test_a_canary_that_falls_silent_blinds_the_gate(fleet: Fleet):
    number = fleet.start("2", canary=24, gate=GATE)
    fleet.tick()
    asked = fleet.all_report("2")
    for _ in range(5):
        fleet.windows(lambda _: 1.0, quiet=asked[:8])
        fleet.tick()
    assert "Blind: 8 of 24 devices silent; can't advance" in fleet.rollout(number).reason
    assert fleet.rollout(number).wave == 0


def test_a_gate_tried_on_the_fleets_own_past_stops_next_to_nothing(fleet: Fleet):
    since = fleet.now - PAST_WINDOWS * WINDOW
    with fleet.store.read() as session:
        history = placebo.read(
            session, model="digits", selector="", since=since, until=fleet.now,
            window_seconds=WINDOW, strata=("line",),
        )  # fmt: skip
    assert history.errors.events.shape == (90, PAST_WINDOWS)
    assert history.missing.events.sum() == 0
    told = placebo.replay(history, GatePlan(), canaries=20, draws=20, seed=1)
    assert [one.metric.name for one in told] == ["errors", "missing windows"]
    assert all(one.false_stops <= 2 for one in told)
    assert "On this fleet's own past errors stopped" in told[0].words
    with fleet.store.read() as session, pytest.raises(Invalid, match="no device has sent windows"):
        placebo.read(
            session, model="digits", selector="line=z", since=since, until=fleet.now,
            window_seconds=WINDOW,
        )  # fmt: skip


def test_too_few_devices_say_what_would_settle_it_and_wait_for_a_hand(fleet: Fleet):
    number = fleet.start("2", canary=4, gate=GATE)
    fleet.tick()
    fleet.all_report("2")
    for _ in range(2):
        fleet.windows(lambda _: 1.0)
        fleet.tick()
    assert "4 devices in this wave" in fleet.rollout(number).reason
    assert "advance by hand" in fleet.rollout(number).reason
    with fleet.store.write() as session:
        commands.advance_rollout(session, number, by="anna", now=fleet.now)
    fleet.tick()
    assert fleet.rollout(number).wave == 1
    told = [one["reason"] for one in fleet.view(number)["history"]]
    assert "Wave 1 passed by hand by anna, without its gate's word." in told
