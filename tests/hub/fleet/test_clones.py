"""Two machines with one identity: told by the connection they take from each other."""

import pytest
from sqlmodel import select

from muster_hub.alerts import open_step, reading
from muster_hub.alerts.troubles import Troubles
from muster_hub.fleet.clones import SAME_ADDRESS_MIN, TURNS_MIN, Handover, fighting
from muster_hub.mqtt.takeover_log import TakeoverLog
from muster_hub.mqtt.takeovers import REPORT_SECONDS, Takeover, Takeovers
from muster_hub.storage.models import Alert, Device, Stream
from support.hub_kit import open_kit

HERE, THERE = "10.0.0.1", "10.0.0.2"


def lines(address, *, taking):
    if taking:
        yield "2026-11-30T12:00:00: Client d1 already connected, closing old connection."
    yield f"2026-11-30T12:00:00: New client connected from {address}:5001 as d1 (p5, c1, k30)."


def read(takeovers, address, now, *, taking=True):
    return [found for line in lines(address, taking=taking) if (found := takeovers.read(line, now))]


def test_a_connection_that_takes_the_others_place_is_a_takeover_with_both_addresses():
    takeovers = Takeovers()
    assert read(takeovers, HERE, 0.0, taking=False) == []
    assert read(takeovers, THERE, 1.0) == [Takeover("d1", THERE, HERE)]
    assert read(takeovers, HERE, 100.0) == [Takeover("d1", HERE, THERE)]


def test_two_machines_that_take_over_all_the_time_are_told_of_now_and_then():
    takeovers = Takeovers()
    read(takeovers, HERE, 0.0, taking=False)
    found = [
        taken
        for second in range(60)
        for taken in read(takeovers, (HERE, THERE)[second % 2], float(second))
    ]
    assert len(found) <= 2 * (60 / REPORT_SECONDS + 1)
    assert fighting(Handover(each.address, each.before) for each in found) == (HERE, THERE)


def test_a_line_that_only_looks_like_one_is_none():
    takeovers = Takeovers()
    for line in ("", "Client d1 disconnected.", "New client connected from nowhere", "x" * 10_000):
        assert takeovers.read(line, 0.0) is None


def test_to_and_fro_between_two_addresses_are_two_machines():
    turns = [Handover(THERE, HERE), Handover(HERE, THERE)] * (TURNS_MIN // 2)
    assert fighting(turns) == (HERE, THERE)


def test_a_device_that_moves_or_comes_back_now_and_then_is_one_machine():
    moved = [Handover(f"10.0.0.{n + 1}", f"10.0.0.{n}") for n in range(50)]
    assert fighting(moved) == ()
    assert fighting([Handover(HERE, HERE)] * (SAME_ADDRESS_MIN - 1)) == ()
    assert fighting([Handover(HERE, "")] * 100) == ()


def test_two_machines_behind_one_address_are_seen_by_how_often():
    assert fighting([Handover(HERE, HERE)] * SAME_ADDRESS_MIN) == (HERE,)


@pytest.fixture
def kit(tmp_path):
    made = open_kit(tmp_path)
    with made.hub.store.write() as session:
        session.add_all(Device(id=name, created=0.0) for name in ("d1", "d2"))
    yield made
    made.close()


def opened(kit):
    with kit.hub.store.write() as session:
        changes = open_step.look(session, Troubles(), {}, kit.clock())
        open_step.persist(session, changes, kit.clock())
    with kit.hub.store.read() as session:
        return {alert.device: alert for alert in session.exec(select(Alert))}


def test_an_alert_names_both_addresses_and_what_to_do(kit):
    log = TakeoverLog(kit.hub.store, kit.clock)
    for number in range(TURNS_MIN + 2):
        kit.clock.now += 30.0
        for line in lines((HERE, THERE)[number % 2], taking=number > 0):
            log(line)
    found = opened(kit)
    assert found.keys() == {"d1"}
    assert found["d1"].title == f"two machines use d1: from {HERE} and {THERE}"
    assert "enrol it anew" in reading.alert(found["d1"])["advice"]


def test_two_outboxes_in_use_at_once_are_two_machines_and_a_wiped_device_is_one(kit):
    now = kit.clock()
    streams = {"d1": [(now - 9000, now - 10), (now - 3000, now - 5)],
               "d2": [(now - 9000, now - 2990), (now - 3000, now - 5)]}  # fmt: skip
    with kit.hub.store.write() as session:
        session.add_all(
            Stream(device=device, stream="summary", epoch=f"{number:032x}", contiguous=1,
                   created=created, updated=updated)
            for device, rows in streams.items()
            for number, (created, updated) in enumerate(rows)
        )  # fmt: skip
    assert {device: alert.title for device, alert in opened(kit).items()} == {
        "d1": "two machines use d1"
    }
