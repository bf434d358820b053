"""Between the network and the writer: bounded, without losing a row or the latest of a device."""

import threading
from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from muster_hub.mqtt.client import Delivery
from muster_hub.mqtt.inbox import Inbox

_mids = count(1)
LEAVES = ("report", "presence", "telemetry", "event")


def message(device: str, leaf: str, payload: bytes = b"x") -> Delivery:
    return Delivery(
        f"muster/v1/up/{device}/{leaf}", payload, retained=False, mid=next(_mids), qos=1,
        connection=1,
    )  # fmt: skip


def taken(inbox: Inbox) -> list[Delivery]:
    return inbox.take(1_000_000, 0.0, 0.0)


def test_a_report_takes_the_turn_of_the_one_it_replaces() -> None:
    inbox = Inbox()
    first, row, second = (message("a", leaf) for leaf in ("report", "telemetry", "report"))
    assert [inbox.put(item) for item in (first, row, second)] == [None, None, first]
    assert taken(inbox) == [second, row]
    assert inbox.waiting == 0


def test_a_report_after_a_farewell_does_not_come_before_it() -> None:
    inbox = Inbox()
    early, farewell, late = (message("a", leaf) for leaf in ("report", "presence", "report"))
    for item in (early, farewell):
        inbox.put(item)
    assert inbox.put(late) is early
    assert taken(inbox) == [farewell, late]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(LEAVES)), max_size=60))
def test_every_row_and_the_latest_of_each_state_come_out_in_order(
    said: list[tuple[str, str]],
) -> None:
    inbox, put, replaced = Inbox(), [], []
    for device, leaf in said:
        put.append(message(device, leaf))
        replaced.append(inbox.put(put[-1]))
    found = taken(inbox)
    let_go = [item for item in replaced if item is not None]
    assert sorted(item.mid for item in (*found, *let_go)) == [item.mid for item in put]
    rows = [item for item in put if item.topic.endswith(("telemetry", "event"))]
    assert [item for item in found if item in rows] == rows
    states = {item.topic: item for item in put if item not in rows}
    assert {item.topic: item for item in found if item not in rows} == states
    assert len(found) == len(rows) + len(states)
    for device in "abc":
        mine = [item.topic for item in found if f"/{device}/" in item.topic and item not in rows]
        latest = [item.topic for item in states.values() if f"/{device}/" in item.topic]
        assert mine[-1:] == sorted(latest, key=lambda topic: states[topic].mid)[-1:]


def test_a_full_inbox_holds_the_network_back_until_there_is_room() -> None:
    inbox = Inbox(messages_max=2)
    rows = [message("a", "telemetry") for _ in range(3)]
    for row in rows[:2]:
        inbox.put(row)
    network = threading.Thread(target=inbox.put, args=(rows[2],))
    network.start()
    while not inbox.blocked:
        assert network.is_alive()
    assert inbox.take(1, 0.0, 0.0) == rows[:1]
    network.join(60)
    assert taken(inbox) == rows[1:]
    assert not inbox.blocked


def test_large_messages_fill_it_too() -> None:
    inbox = Inbox(bytes_max=100)
    inbox.put(message("a", "telemetry", bytes(100)))
    network = threading.Thread(target=inbox.put, args=(message("a", "telemetry"),))
    network.start()
    while not inbox.blocked:
        assert network.is_alive()
    inbox.close()
    network.join(60)
    assert len(taken(inbox)) == 1


def test_what_waits_is_counted_from_when_it_came() -> None:
    now = [0.0]
    inbox = Inbox(monotonic=lambda: now[0])
    assert inbox.lag_seconds == 0.0
    inbox.put(message("a", "report"))
    now[0] = 7.0
    inbox.put(message("a", "report"))
    assert inbox.lag_seconds == 7.0
    taken(inbox)
    assert inbox.lag_seconds == 0.0
