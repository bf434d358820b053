"""The engine: directives follow from what was decided, and no crash loses or doubles one."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec import UNSET
from securesystemslib.signer import CryptoSigner
from sqlmodel import select

from muster_hub.errors import Conflict, Invalid, NotFound
from muster_hub.reconcile.engine import REVIEW_SECONDS
from muster_hub.rollouts import commands
from muster_hub.signing.directives import DirectiveSigner
from muster_hub.storage import models
from muster_protocol.wire.directive import Directive
from muster_protocol.wire.errors import ProtocolError
from support.hub_engine import SLOT, Plant

DEVICES = ("d1", "d2", "d3", "d4")


@pytest.fixture
def plant(tmp_path: Path, database: str) -> Iterator[Plant]:
    plant = Plant(tmp_path, *DEVICES, url=database)
    plant.publish("1")
    plant.publish("2")
    yield plant
    plant.close()


def complete(plant: Plant, version: str) -> int:
    number = plant.start(version)
    plant.tick()
    for device in plant.versions():
        plant.report(device, version)
    plant.tick()
    assert plant.rollout(number).state == "completed"
    return number


def test_a_rollout_goes_canary_first_and_ends_as_an_assignment(plant: Plant):
    number = plant.start("1", canary=1, min_soak_seconds=10)
    plant.tick()
    (canary,) = plant.versions()
    plant.report(canary, "1", "probation")
    plant.tick()
    assert plant.states(number) == {canary: "in_progress"}
    plant.report(canary, "1")
    plant.tick()
    assert list(plant.versions()) == [canary]
    assert "soaking" in plant.rollout(number).reason
    plant.tick(10)
    assert plant.versions() == dict.fromkeys(DEVICES, "1")
    for device in DEVICES:
        plant.report(device, "1")
    plant.tick()
    assert plant.rollout(number).state == "completed"
    assert plant.rollout(number).reason == "Completed: 4 committed."
    assert plant.directive("d1").generation == 1


def test_a_device_that_joins_later_gets_the_completed_release(plant: Plant):
    complete(plant, "1")
    with plant.store.write() as session:
        session.add(models.Device(id="late", created=plant.now))
    plant.tick()
    assert plant.versions()["late"] == "1"


def test_a_bad_release_stops_at_the_canary_and_goes_back_by_itself(plant: Plant):
    complete(plant, "1")
    number = plant.start("2", canary=1)
    plant.tick()
    (canary,) = (device for device, version in plant.versions().items() if version == "2")
    plant.report(canary, "2", "failed", refusal="golden_mismatch", detail="case 3")
    plant.tick()
    plant.tick()
    assert plant.rollout(number).state == "stopped"
    assert plant.rollout(number).reason.endswith(f"{canary} golden_mismatch: case 3.")
    assert plant.versions() == dict.fromkeys(DEVICES, "1")
    assert [message.generation for message in plant.messages(canary)] == [1, 2, 3]
    assert plant.states(number) == {canary: "failed"}


def test_a_completed_release_can_be_rolled_back_and_the_one_before_it_too(plant: Plant):
    first, second = complete(plant, "1"), complete(plant, "2")
    with (
        pytest.raises(Conflict, match="a later release has taken the place"),
        plant.store.write() as session,
    ):
        commands.rollback_rollout(session, first, by="anna", now=plant.now)
    for number, left in ((second, "1"), (first, "none")):
        with plant.store.write() as session:
            commands.rollback_rollout(session, number, by="anna", now=plant.now)
        plant.tick()
        assert plant.rollout(number).state == "rolled_back"
        assert set(plant.states(number).values()) == {"withdrawn"}
        assert plant.versions() == dict.fromkeys(DEVICES, left)


def test_a_static_rollout_leaves_later_devices_to_the_assignment(plant: Plant):
    number = plant.start("1", static=True)
    plant.tick()
    with plant.store.write() as session:
        session.add(models.Device(id="late", created=plant.now + 1, online=True))
    plant.tick(2)
    assert "late" not in plant.states(number)
    for device in DEVICES:
        plant.report(device, "1")
    plant.tick()
    plant.tick()
    assert plant.rollout(number).state == "completed"
    assert plant.versions()["late"] == "1"


def test_a_refusal_told_as_an_event_stops_it_too(plant: Plant):
    number = plant.start("1", canary=1)
    plant.tick()
    (canary,) = plant.versions()
    with plant.store.write() as session:
        session.add(
            models.EventRow(
                device=canary,
                epoch="00",
                sequence=1,
                kind="refused",
                received=plant.now + 1,
                slot=SLOT,
                manifest=plant.rollout(number).manifest,
                generation=1,
                refusal="chunk_altered",
            )
        )
    plant.tick()
    assert plant.rollout(number).state == "stopped"


def test_aborting_gives_devices_back_what_they_had(plant: Plant):
    complete(plant, "1")
    number = plant.start("2")
    plant.tick()
    assert set(plant.versions().values()) == {"2"}
    with plant.store.write() as session:
        commands.abort_rollout(session, number, by="ann", now=plant.now)
    plant.tick()
    assert set(plant.versions().values()) == {"1"}
    assert set(plant.states(number).values()) == {"withdrawn"}
    assert plant.rollout(number).reason.startswith("Aborted by ann")


def test_aborting_the_first_release_ever_leaves_an_empty_directive(plant: Plant):
    number = plant.start("1")
    plant.tick()
    with plant.store.write() as session:
        commands.abort_rollout(session, number, by="ann", now=plant.now)
    plant.tick()
    assert set(plant.versions().values()) == {"none"}


def test_a_paused_rollout_reaches_nobody_more_until_it_is_resumed(plant: Plant):
    number = plant.start("1", canary=1)
    plant.tick()
    with plant.store.write() as session:
        commands.pause_rollout(session, number, by="ann", now=plant.now)
    (canary,) = plant.versions()
    plant.report(canary, "1")
    plant.tick()
    plant.tick()
    assert len(plant.versions()) == 1
    with plant.store.write() as session:
        commands.resume_rollout(session, number, by="ann", now=plant.now)
    plant.tick()
    assert len(plant.versions()) == 4


def test_offline_devices_are_left_for_later(plant: Plant):
    plant.change("d3", online=False)
    plant.change("d4", last_seen=plant.now - 10_000)
    number = plant.start("1")
    plant.tick()
    for device in ("d1", "d2"):
        plant.report(device, "1")
    plant.tick()
    assert plant.rollout(number).state == "completed"
    assert "2 not yet (d3, d4)" in plant.rollout(number).reason
    assert plant.versions()["d3"] == "1"
    plant.report("d3", "1")
    plant.tick()
    assert plant.states(number)["d3"] == "committed"


def test_the_generation_rises_only_when_the_content_changes(plant: Plant):
    complete(plant, "1")
    for _ in range(5):
        plant.tick()
    assert [message.generation for message in plant.messages("d1")] == [1]
    plant.tick(50_000)
    first, renewed = plant.messages("d1")
    assert (first.generation, renewed.generation) == (1, 1)
    assert renewed.expires > first.expires
    complete(plant, "2")
    assert plant.directive("d1").generation == 2


def test_the_next_generation_is_above_what_a_device_reports(plant: Plant):
    complete(plant, "1")
    plant.change("d1", report={"epoch": 1, "generation": 70, "slots": {}})
    plant.tick()
    assert plant.directive("d1").generation == 71, "it would refuse an older one as a replay"
    plant.start("2")
    plant.tick()
    assert plant.directive("d1").generation == 72
    assert plant.directive("d2").generation == 2


def test_a_thief_of_the_key_is_outbid_once_a_review_and_not_with_every_report(plant: Plant):
    complete(plant, "1")
    given = len(plant.messages("d1"))
    for generation in range(2, 12):
        plant.now += 0.1
        plant.change("d1", report={"epoch": 1, "generation": 10 * generation, "slots": {}})
        plant.engine.step()
    assert len(plant.messages("d1")) == given
    plant.now += REVIEW_SECONDS
    plant.engine.step()
    assert plant.directive("d1").generation == 111


def test_a_device_that_was_revoked_and_reported_late_is_told_above_what_it_has_seen(plant: Plant):
    complete(plant, "1")
    complete(plant, "2")
    plant.change("d1", report={"epoch": 1, "generation": 1, "slots": {}})
    plant.change("d1", revoked=True)
    plant.tick()
    plant.change("d1", revoked=False)
    plant.tick()
    assert plant.directive("d1").generation == 2
    plant.change("d1", report={"epoch": 1, "generation": 2, "slots": {}})
    plant.tick()
    assert plant.directive("d1").generation == 2
    plant.change("d1", report={"epoch": 1, "generation": 3, "slots": {}})
    plant.tick()
    assert plant.directive("d1").generation == 4


@pytest.mark.parametrize("absurd", [2**53 - 1, 2**63 - 1, -5])
def test_an_absurd_generation_that_a_device_reports_is_not_counted_from(plant: Plant, absurd: int):
    complete(plant, "1")
    plant.change("d1", report={"epoch": 1, "generation": absurd, "slots": {}})
    complete(plant, "2")
    assert plant.directive("d1").generation == 2


def test_a_revoked_device_is_told_nothing_any_more(plant: Plant):
    complete(plant, "1")
    plant.change("d1", revoked=True)
    plant.tick()
    plant.tick()
    assert plant.directive("d1") is None
    assert plant.messages("d1")[-1] is None
    assert len(plant.messages("d1")) == 2


def test_windows_and_sources_travel_with_the_directive(plant: Plant):
    plant.start("1", window_seconds=2.0)
    plant.tick()
    held = plant.directive("d1")
    assert held.window_seconds == 2.0
    assert held.sources[0].url == "https://hub/api/v1/chunks"
    assert held.sources[0].token == f"d1-{held.expires}"


def test_a_public_source_of_chunks_comes_first_and_learns_no_token(tmp_path):
    plant = Plant(tmp_path, "d1", public_chunks_url="https://cdn.test/fleet")
    try:
        plant.publish("1")
        plant.start("1")
        plant.tick()
        public, own = plant.directive("d1").sources
        assert (public.url, public.token) == ("https://cdn.test/fleet", "")
        assert own.url == "https://hub/api/v1/chunks"
        assert own.token
    finally:
        plant.close()


def test_a_rebaseline_travels_with_the_directive_of_that_device_and_model_alone(plant: Plant):
    complete(plant, "1")
    goal = plant.directive("d1").slots[SLOT].champion
    with plant.store.write() as session:
        for device, manifest in (("d1", goal.manifest), ("d2", "0" * 64)):
            session.add(
                models.DriftState(
                    device=device, manifest=manifest, state=b"", updated=1.0, rebaselines=2
                )
            )
    plant.tick()
    assert plant.directive("d1").slots[SLOT].rebaselines == 2
    assert plant.directive("d1").generation == 2
    assert plant.directive("d2").slots[SLOT].rebaselines is UNSET
    assert plant.directive("d2").generation == 1


class FailingAt:
    """Signs until the n-th signature, which fails once: a crash inside the transaction."""

    def __init__(self, nth: int) -> None:
        self._signing = DirectiveSigner(CryptoSigner.generate_ed25519())
        self.left = nth

    @property
    def keyid(self) -> str:
        return self._signing.keyid

    def sign(self, wanted: Directive) -> bytes:
        self.left -= 1
        if self.left == 0:
            raise OSError("the machine stopped here")
        return self._signing.sign(wanted)


@pytest.mark.parametrize("nth", [1, 2, 3, 4])
def test_a_crash_inside_a_step_loses_nothing_and_doubles_nothing(tmp_path: Path, nth: int):
    plant = Plant(tmp_path, *DEVICES, signing=FailingAt(nth))
    try:
        plant.publish("1")
        number = plant.start("1")
        with pytest.raises(OSError, match="stopped here"):
            plant.tick()
        assert plant.versions() == {}
        assert plant.states(number) == dict.fromkeys(DEVICES, "targeted")
        plant.engine.step()
        assert plant.versions() == dict.fromkeys(DEVICES, "1")
        for device in DEVICES:
            assert [message.generation for message in plant.messages(device)] == [1]
    finally:
        plant.close()


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"version": "9"}, NotFound, "no version 9"),
        ({"version": "3"}, Conflict, "is rejected, not published"),
        ({"selector": "site="}, ProtocolError, "expected a value"),
        ({"window_seconds": 0.1}, Invalid, "window_seconds"),
        ({"canary": -1}, ProtocolError, "rollout plan"),
    ],
)
def test_a_rollout_that_makes_no_sense_changes_nothing(plant: Plant, options, error, said):
    plant.publish("3", status="rejected")
    with pytest.raises(error, match=said):
        plant.start(**({"version": "1"} | options))
    with plant.store.read() as session:
        assert session.exec(select(models.Rollout)).all() == []


def test_two_rollouts_in_one_slot_may_not_concern_the_same_devices(plant: Plant):
    plant.change("d1", labels={"site": "a"})
    plant.change("d2", labels={"site": "b"})
    first = plant.start("1", selector="site=a")
    plant.start("1", selector="site=b")
    with pytest.raises(Conflict, match=f"rollout {first} .* concerns 1 of these devices"):
        plant.start("2", selector="site in (a,c)")


def test_a_rollout_can_not_be_resumed_or_aborted_twice(plant: Plant):
    number = plant.start("1")
    with plant.store.write() as session, pytest.raises(Conflict, match="is running"):
        commands.resume_rollout(session, number, by="ann", now=plant.now)
    with plant.store.write() as session:
        commands.abort_rollout(session, number, by="ann", now=plant.now)
    with plant.store.write() as session, pytest.raises(Conflict, match="is aborted"):
        commands.abort_rollout(session, number, by="ann", now=plant.now)
    with plant.store.write() as session, pytest.raises(NotFound, match="no rollout 99"):
        commands.pause_rollout(session, 99, by="ann", now=plant.now)


def alerts(plant: Plant) -> dict[str, str]:
    with plant.store.read() as session:
        return {row.key: row.state for row in session.exec(select(models.Alert)).all()}


def test_a_silent_device_and_a_refusal_raise_one_alert_each_that_resolve(plant: Plant):
    plant.start("1", failures_allowed=9)
    plant.tick()
    plant.report("d1", "1", "failed", refusal="no_space")
    plant.change("d2", last_seen=plant.now - 301)
    plant.tick()
    plant.tick()
    assert sorted(key.split("/")[0] for key in alerts(plant)) == ["refused", "silent"]
    plant.change("d2", last_seen=plant.now)
    plant.tick(1)
    plant.change("d2", last_seen=plant.now)
    plant.tick(61)
    assert alerts(plant)["silent/d2"] == "resolved"


def test_an_alert_can_be_acknowledged_and_resolved_by_hand(plant: Plant):
    plant.change("d2", last_seen=plant.now - 301)
    plant.tick()
    with plant.store.write() as session:
        commands.acknowledge_alert(session, 1, by="ann", now=plant.now)
    plant.tick()
    assert alerts(plant) == {"silent/d2": "acknowledged"}
    plant.change("d2", last_seen=plant.now)
    with plant.store.write() as session:
        commands.resolve_alert(session, 1, by="ann", now=plant.now)
    plant.tick()
    assert alerts(plant) == {"silent/d2": "resolved"}
    with plant.store.write() as session, pytest.raises(Conflict, match="resolved already"):
        commands.acknowledge_alert(session, 1, by="ann", now=plant.now)


def test_the_catalogue_goes_on_from_the_highest_version_any_device_trusts(plant: Plant):
    for device, version in (("d1", 7), ("d2", 9)):
        plant.change(device, report={"trust": {"versions": {"timestamp": version, "root": 1}}})
    plant.tick(100)
    assert plant.catalogue.reported == {"timestamp": 9, "root": 1}


class Interrupted(DirectiveSigner):
    """While it signs for the first time an operator changes something."""

    def __init__(self) -> None:
        super().__init__(CryptoSigner.generate_ed25519())
        self.meanwhile: Callable[[], None] | None = None
        self.signed = 0

    def sign(self, wanted: Directive) -> bytes:
        self.signed += 1
        assert self.signed < 20, "the step goes on and on"
        act, self.meanwhile = self.meanwhile, None
        if act is not None:
            act()
        return super().sign(wanted)


def test_a_device_changed_while_its_directive_is_signed_is_told_in_the_next_step(tmp_path: Path):
    signing = Interrupted()
    plant = Plant(tmp_path, *DEVICES, signing=signing)
    plant.publish("1")
    signing.meanwhile = lambda: plant.change("d1", labels={"site": "north"})
    plant.start("1")
    plant.tick()
    assert plant.versions() == dict.fromkeys(("d2", "d3", "d4"), "1")
    plant.now += 1
    plant.engine.step()
    assert plant.versions() == dict.fromkeys(DEVICES, "1")
    assert signing.signed == 5
    plant.close()
