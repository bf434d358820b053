"""A release of the agent goes to devices in waves, stops at harm, and goes back, as models do."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import UNSET

from muster_hub.fleet import retrying
from muster_hub.rollouts import commands
from muster_hub.storage import models
from muster_protocol.wire import agent_release, directive
from muster_protocol.wire.agent_release import NAME
from muster_protocol.wire.directive import WantedAgent
from muster_protocol.wire.manifest import File
from support.hub_engine import SLOT, Plant

DEVICES = ("cam-1", "cam-2", "cam-3")
UNDERSTANDS = [directive.AGENT, retrying.FIELD]


class Fleet(Plant):
    """Devices whose agents say what they do about releases of themselves."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, *DEVICES)
        self.listings: dict[str, str] = {}
        for device in DEVICES:
            self.say(device, None)

    def push(self, version: str) -> None:
        listing = agent_release.encode_listing(version, File("agent.muster", 9, "ab" * 32))
        self.listings[version] = self.blobs.put(listing)
        with self.store.write() as session:
            if session.get(models.Model, NAME) is None:
                session.add(models.Model(name=NAME, created=self.now))
                session.flush()
            session.add(
                models.Version(
                    model=NAME, version=version, manifest_sha256=self.listings[version],
                    manifest=listing, status="published", size_bytes=9, created=self.now,
                    created_by="test",
                )
            )  # fmt: skip

    def roll_out(self, version: str, **options: Any) -> int:
        settled = {"selector": "", "min_soak_seconds": 0, "canary": 1} | options
        with self.store.write() as session:
            number = commands.start_rollout(
                session, model=NAME, version=version, slot="main", by="test", now=self.now,
                **settled,
            )  # fmt: skip
        self.tick()
        self.tick()
        return number

    def wanted(self, device: str) -> str:
        """The version that its directive asks its agent to be; empty: none."""
        held = self.directive(device)
        agent = held.agent if held is not None else UNSET
        return agent.release.version if isinstance(agent, WantedAgent) else ""

    def say(self, device: str, state: str | None, **more: Any) -> None:
        """Have a device report where the update that it was asked for stands."""
        held = self.directive(device)
        facts: dict[str, Any] = {"agent_version": "0.1.0", "understands": UNDERSTANDS}
        report: dict[str, Any] = {"epoch": 1, "generation": 0, "slots": {}, "facts": facts}
        if state is not None:
            assert held is not None
            assert held.agent is not UNSET
            goal = held.agent.release
            report["generation"] = held.generation
            facts["agent_update"] = {
                "state": state, "manifest": goal.manifest, "version": goal.version,
                "generation": held.generation,
            } | more  # fmt: skip
        self.change(device, last_seen=self.now, report=report)

    def all_take(self) -> None:
        for _ in DEVICES:
            for device in DEVICES:
                if self.wanted(device):
                    self.say(device, "committed")
            self.tick()
            self.tick()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path)
    made.push("0.2.0")
    made.push("0.3.0")
    yield made
    made.close()


def test_the_canary_comes_first_and_all_follow_once_it_is_healthy(fleet):
    number = fleet.roll_out("0.2.0")
    asked = [device for device in DEVICES if fleet.wanted(device)]
    assert len(asked) == 1
    fleet.say(asked[0], "fetching", bytes_done=3, bytes_total=9)
    fleet.tick()
    assert fleet.states(number) == {asked[0]: "in_progress"}
    fleet.all_take()
    assert fleet.rollout(number).state == "completed"
    assert {fleet.wanted(device) for device in DEVICES} == {"0.2.0"}
    assert fleet.rollout(number).slot == NAME
    assert all(not held.slots for held in fleet.directives().values())


def test_one_that_comes_back_stops_the_rollout_and_all_keep_what_they_had(fleet):
    fleet.roll_out("0.2.0")
    fleet.all_take()
    number = fleet.roll_out("0.3.0")
    (tried,) = [device for device in DEVICES if fleet.wanted(device) == "0.3.0"]
    fleet.say(tried, "failed", refusal="agent_taken_back", detail="not healthy within 300 s")
    fleet.tick()
    fleet.tick()
    row = fleet.rollout(number)
    assert (row.state, row.wave) == ("stopped", 0)
    assert "agent_taken_back: not healthy within 300 s" in row.reason
    assert {fleet.wanted(device) for device in DEVICES} == {"0.2.0"}


def test_a_device_that_goes_offline_to_try_its_release_is_waited_for_and_fails_in_the_end(fleet):
    number = fleet.roll_out("0.2.0", canary=0, timeout_seconds=600)
    for device in ("cam-1", "cam-2"):
        fleet.say(device, "committed")
    fleet.say("cam-3", "starting")
    fleet.change("cam-3", online=False)
    fleet.tick()
    assert fleet.rollout(number).state == "running"
    assert "waiting for cam-3" in fleet.rollout(number).reason
    for _ in range(8):
        fleet.tick(100)
    assert fleet.rollout(number).state == "stopped"
    assert "timed out" in fleet.rollout(number).reason


def test_a_rollback_wants_the_release_before_again(fleet):
    fleet.roll_out("0.2.0")
    fleet.all_take()
    number = fleet.roll_out("0.3.0")
    fleet.all_take()
    assert {fleet.wanted(device) for device in DEVICES} == {"0.3.0"}
    with fleet.store.write() as session:
        commands.rollback_rollout(session, number, by="test", now=fleet.now)
    fleet.tick()
    assert {fleet.wanted(device) for device in DEVICES} == {"0.2.0"}


def test_a_retry_is_a_fresh_attempt_and_so_is_another_rollout(fleet):
    fleet.roll_out("0.2.0", canary=0, failures_allowed=3)
    fleet.say("cam-1", "failed", refusal="agent_uninstallable", detail="no wheel fits")
    fleet.tick()
    with fleet.store.write() as session:
        row = session.get_one(models.Device, "cam-1")
        assert retrying.retry(session, row, slot=None, by="test", now=fleet.now) == [NAME]
    fleet.tick()
    fleet.tick()
    held = fleet.directive("cam-1")
    assert held.agent.attempt == "0.1"
    fleet.all_take()
    fleet.roll_out("0.3.0", canary=0)
    fleet.all_take()
    fleet.roll_out("0.2.0", canary=0)
    assert fleet.directive("cam-2").agent.attempt.endswith(".0")


def test_an_agent_that_can_not_be_told_counts_as_failed_with_words_and_is_not_told(fleet):
    plain = {"epoch": 1, "generation": 0, "slots": {}, "facts": {"agent_version": "0.0.9"}}
    for device in DEVICES:
        fleet.change(device, report=plain)
    number = fleet.roll_out("0.2.0")
    for device in DEVICES:
        fleet.change(device, last_seen=fleet.now)  # its next report
    fleet.tick()
    assert fleet.rollout(number).state == "stopped"
    assert "0.0.9" in fleet.rollout(number).reason
    assert "muster-agent-launch" in fleet.rollout(number).reason
    assert not any(fleet.wanted(device) for device in DEVICES)


def test_models_of_the_same_devices_are_left_as_they_are(fleet):
    fleet.publish("1")
    fleet.start("1")
    fleet.tick()
    fleet.roll_out("0.2.0", canary=0)
    held = fleet.directive("cam-1")
    assert (held.slots[SLOT].champion.version, held.agent.release.version) == ("1", "0.2.0")
    assert held.sources
