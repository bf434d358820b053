"""One device with a good certificate sends whatever it likes; the fleet goes on regardless."""

import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlmodel import func, select

from muster_hub.errors import CatalogueError
from muster_hub.mqtt.commit import EPOCHS_PER_STREAM_MAX
from muster_hub.storage import models, quarantine
from muster_protocol.signals import summary_wire
from muster_protocol.signals.summary import Summary, Tally
from muster_protocol.wire import limits, messages
from muster_protocol.wire.messages import Facts, Report, TrustReport
from support.besieged import HONEST, HOSTILE, Besieged
from support.hub_store import batch, event, stamp, summary
from support.schema import encoded

SUMMARIES = 64


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Besieged]:
    made = Besieged(tmp_path)
    yield made
    made.close()


def row(sequence: object, payload: bytes = b"") -> bytes:
    return encoded([1, bytes(12), [b"boot", 1.0, 0.0, "floor"], [[sequence, payload]]])


def plain_report(**changed: object) -> bytes:
    tree = {"at": [b"boot", 1.0, 0.0, "unknown"], "facts": {"agent_version": "1"}}
    return encoded(tree | changed)


def claims(**versions: int) -> bytes:
    return messages.encode(
        Report(at=stamp(1.0), facts=Facts(agent_version="1"), trust=TrustReport(versions=versions))
    )


def of_version_1(fleet: Besieged) -> str:
    """The hash of its manifest."""
    with fleet.plant.store.read() as session:
        row = session.get(models.Version, ("digits", "1"))
    assert row is not None
    return row.manifest_sha256


def named(fleet: Besieged, kind: str) -> list[str | None]:
    return sorted(alert.device or "" for alert in fleet.alerts().values() if alert.kind == kind)


def test_a_sequence_wider_than_a_column(fleet: Besieged):
    fleet.attack("telemetry", row(2**63))
    assert named(fleet, "set_aside") == [HOSTILE]
    fleet.assert_updates()


def test_a_generation_wider_than_a_column(fleet: Besieged):
    fleet.attack("report", plain_report(generation=2**63, epoch=2**63))
    fleet.attack("event", batch({1: encoded({"kind": "note", "at": [b"", 1.0, 0.0, "floor"],
                                             "generation": 2**64 - 1})}))  # fmt: skip
    assert named(fleet, "set_aside") == [HOSTILE]
    fleet.assert_updates()


def test_a_grant_asked_for_with_a_generation_wider_than_a_column(fleet: Besieged):
    asked = {"nonce": bytes(12), "slot": "vision", "manifest": "ab" * 32, "generation": 2**63}
    fleet.attack("grant", encoded(asked))
    assert named(fleet, "set_aside") == [HOSTILE]
    fleet.assert_updates()


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf"), 1.7e308])
def test_a_moment_that_is_no_number(fleet: Besieged, number: float):
    stamped = encoded([1, bytes(12), [b"boot", number, number, "synchronised"], [[1, b""]]])
    fleet.attack("telemetry", stamped)
    fleet.attack("event", stamped)
    assert named(fleet, "set_aside") == [HOSTILE]
    fleet.assert_updates()


def test_names_that_hold_nul_and_steer_terminals(fleet: Besieged):
    text = "\0\x1b]52;c;ZXZpbA==\x07\x1b[2J\u202e"
    fleet.attack("report", plain_report(refusal_detail=text, refusal="x\0"))
    fleet.attack("event", batch({1: event(detail=text)}))
    with fleet.plant.store.read() as session:
        device = session.get(models.Device, HOSTILE)
        details = session.exec(select(models.EventRow.detail)).all()
    assert device is not None
    for text in (str(device.report), *details):
        assert not set("\0\x1b\x07\u202e") & set(text)
    fleet.assert_updates()


def test_a_year_of_windows_that_each_count_as_much_as_they_may(fleet: Besieged):
    manifest = of_version_1(fleet)
    tally = Tally(*[limits.COUNT_MAX] * len(Tally().values()))
    window = summary_wire.encode(
        Summary("digits", "1", manifest, stamp(0.0), stamp(5.0), counts=tally)
    )
    fleet.attack_with(
        lambda n: ("telemetry", batch({n * SUMMARIES + i: window for i in range(1, SUMMARIES)})), 8
    )
    fleet.tick(2 * 86_400.0)
    fleet.restart()
    fleet.assert_updates()


def test_a_window_that_counts_more_than_one_may(fleet: Besieged):
    tally = Tally(inferences=2**53)
    window = Summary("digits", "1", "ab" * 32, stamp(0.0), stamp(5.0), counts=tally)
    fleet.attack("telemetry", batch({1: summary_wire.encode(window, merged=True)}))
    assert named(fleet, "set_aside") == [HOSTILE]
    fleet.assert_updates()


def test_a_summary_that_inflates_to_a_thousand_times_its_size(fleet: Besieged):
    bomb = zlib.compress(bytes(64 << 20), 9)[: 60 * limits.KIB]
    parts = bytes([summary_wire.VERSION]) + encoded([bomb, b"", b""])
    fleet.attack("telemetry", batch({1: parts[: 50 * limits.KIB]}), times=5)
    assert named(fleet, "set_aside") == [HOSTILE]
    fleet.assert_updates()


@pytest.mark.parametrize(
    "junk",
    [b"", b"\xc1", b"\x91" * 60_000, b"\xdf\xff\xff\xff\xff", bytes(70_000), b"\xd9\xff\xff"],
)
def test_what_is_not_a_message_at_all(fleet: Besieged, junk: bytes):
    for leaf in ("report", "presence", "telemetry", "event", "want", "grant", "csr", "shown"):
        fleet.attack(leaf, junk)
    assert named(fleet, "set_aside") == [HOSTILE]
    fleet.assert_updates()


def test_a_flood_of_junk(fleet: Besieged):
    for _ in range(30):
        fleet.attack_with(lambda n: ("report", b"\xc1" + bytes(n)), 100)
    with fleet.plant.store.read() as session:
        kept = session.exec(select(func.count()).select_from(quarantine.SetAside)).one()
        device = session.get(models.Device, HOSTILE)
    assert kept <= quarantine.ROWS_PER_DEVICE_MAX
    assert device is not None
    assert device.set_aside == 3_000
    fleet.assert_updates()


def test_a_hoard_of_epochs(fleet: Besieged):
    fleet.attack_with(
        lambda n: ("telemetry", batch({1: summary(1)}, epoch=n.to_bytes(12, "big"))), 300
    )
    with fleet.plant.store.read() as session:
        held = session.exec(
            select(func.count()).select_from(models.Stream).where(models.Stream.device == HOSTILE)
        ).one()
    assert held <= 300
    fleet.attack("telemetry", batch({1: summary(1)}, epoch=b"one more one"))
    assert named(fleet, "epochs") == [HOSTILE]
    with fleet.plant.store.read() as session:
        marks = session.exec(select(models.Stream).where(models.Stream.device == HOSTILE)).all()
    assert len(marks) <= EPOCHS_PER_STREAM_MAX
    fleet.assert_updates()


def test_a_claim_of_versions_far_ahead_of_the_fleets(fleet: Besieged):
    before = fleet.catalogue.files_to_publish()
    for leap in (2_000_004, 2**53):
        fleet.attack("report", claims(timestamp=leap, snapshot=leap, targets=leap))
        fleet.tick()
    assert fleet.catalogue.files_to_publish() == before
    assert fleet.alerts()["ahead"].device == HOSTILE
    assert fleet.asked_to_show() == [HOSTILE]
    fleet.assert_updates()


def test_metadata_shown_that_this_hubs_keys_did_not_sign(fleet: Besieged):
    held = fleet.device.store.files()
    timestamp = json.loads(held["timestamp.json"])
    timestamp["signed"]["version"] += 1_000
    altered = json.dumps(timestamp).encode()
    before = fleet.catalogue.files_to_publish()
    for timestamp in (altered, b"", b"{}", b"\xff" * 2_000, held["snapshot.json"]):
        with pytest.raises(CatalogueError):
            fleet.show(HOSTILE, timestamp, held["snapshot.json"])
    assert fleet.catalogue.files_to_publish() == before
    fleet.assert_updates()


def test_metadata_shown_that_are_old_move_nothing(fleet: Besieged):
    held = fleet.device.store.files()
    before = fleet.catalogue.files_to_publish()
    fleet.show(HOSTILE, held["timestamp.json"], held["snapshot.json"])
    assert fleet.catalogue.files_to_publish() == before
    assert fleet.published == 0
    fleet.assert_updates()


def test_a_generation_that_the_hub_never_gave(fleet: Besieged):
    fleet.attack("report", plain_report(epoch=1, generation=10**9))
    (alert,) = (item for item in fleet.alerts().values() if item.kind == "doubt")
    assert alert.device == HOSTILE
    assert "generation 1000000000" in alert.title
    fleet.assert_updates()


def test_fewer_inferences_than_none(fleet: Besieged):
    running = {
        "model": "digits", "version": "1", "manifest": "ab" * 32, "runtime": "onnx",
        "since": [b"boot", 0.0, 0.0, "floor"], "inferences": -5,
    }  # fmt: skip
    slot = {"health": "ok", "update": {"state": "idle"}, "running": running}
    fleet.attack("report", plain_report(slots={"vision": slot}))
    assert named(fleet, "set_aside") == [HOSTILE]
    fleet.assert_updates()


def test_more_inferences_than_any_device_makes(fleet: Besieged):
    running = {
        "model": "digits", "version": "1", "manifest": "ab" * 32, "runtime": "onnx",
        "since": [b"boot", 0.0, 0.0, "floor"], "inferences": 2**53,
    }  # fmt: skip
    slot = {"health": "ok", "update": {"state": "idle"}, "running": running}
    fleet.attack("report", plain_report(slots={"vision": slot}))
    assert named(fleet, "doubt") == [HOSTILE]
    fleet.assert_updates()


def test_a_window_that_says_it_is_another_models(fleet: Besieged):
    manifest = of_version_1(fleet)
    window = Summary("pump", "7", manifest, stamp(0.0), stamp(5.0), counts=Tally(inferences=9))
    fleet.attack("telemetry", batch({1: summary_wire.encode(window)}))
    with fleet.plant.store.read() as session:
        found = session.exec(
            select(models.SummaryWindow).where(models.SummaryWindow.device == HOSTILE)
        ).one()
    assert found.fault == "the summary's manifest is that of digits 1"
    fleet.assert_updates()


def test_reports_in_the_name_of_another_device_are_no_message_of_its(fleet: Besieged):
    fleet.attack("report", plain_report(device=HONEST[0], generation=5, epoch=1))
    with fleet.plant.store.read() as session:
        other = session.get(models.Device, HONEST[0])
    assert other is not None
    assert (other.report or {}).get("generation", 0) == 0
    fleet.assert_updates()
