"""The broker in memory behaves as the real one does, one deterministic step at a time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_agent.link.link import Connected, Disconnected, LinkEvent, Message
from muster_agent.link.memory import InFlight, MemoryBroker, MemoryLink, matches
from muster_protocol.wire import topics

WILL = (topics.up("dev-1", "presence"), b"gone")
DIRECTIVE = topics.down("dev-1", "directive")


def connect(broker: MemoryBroker, device: str = "dev-1") -> tuple[MemoryLink, list[LinkEvent]]:
    events: list[LinkEvent] = []
    link = MemoryLink(broker, device, (topics.up(device, "presence"), b"gone"), events.append)
    link.start()
    return link, events


def test_retained_messages_come_when_a_topic_is_asked_for_and_asked_for_again() -> None:
    broker = MemoryBroker()
    broker.publish(DIRECTIVE, b"one", retain=True)
    link, events = connect(broker)
    for _ in range(2):
        link.subscribe(DIRECTIVE)
    assert events == [Connected()]
    assert broker.pump() == 2
    assert events[1:] == [Message(DIRECTIVE, b"one", retained=True)] * 2


def test_live_messages_come_in_order_and_stop_after_unsubscribing() -> None:
    broker = MemoryBroker()
    link, events = connect(broker)
    link.subscribe(DIRECTIVE)
    for payload in (b"1", b"2"):
        broker.publish(DIRECTIVE, payload)
    broker.pump()
    link.unsubscribe(DIRECTIVE)
    broker.publish(DIRECTIVE, b"3")
    broker.pump()
    assert [e.payload for e in events if isinstance(e, Message)] == [b"1", b"2"]


def test_a_cut_link_loses_what_was_on_its_way_and_gets_what_was_retained_when_restored() -> None:
    broker = MemoryBroker()
    link, events = connect(broker)
    link.subscribe(DIRECTIVE)
    broker.publish(DIRECTIVE, b"lost")
    broker.cut("dev-1", "the cable is out")
    assert not link.publish(topics.up("dev-1", "report"), b"unheard")
    broker.publish(DIRECTIVE, b"kept", retain=True)
    broker.restore("dev-1")
    broker.pump()
    kept = Message(DIRECTIVE, b"kept", retained=True)
    assert events == [Connected(), Disconnected("the cable is out"), Connected(), kept]
    assert [(p.topic, p.payload) for p in broker.published] == [WILL]


def test_a_device_that_stops_leaves_its_will() -> None:
    broker = MemoryBroker()
    link, _ = connect(broker)
    link.stop()
    assert broker.retained == {WILL[0]: WILL[1]}


@pytest.mark.parametrize(
    "topic", [DIRECTIVE, topics.up("dev-2", "report"), topics.tuf("timestamp.json")]
)
def test_a_device_writes_nowhere_but_its_own_tree(topic: str) -> None:
    broker = MemoryBroker()
    link, _ = connect(broker)
    link.publish(topic, b"mischief", retain=True)
    assert not broker.retained
    assert not broker.published


def test_a_device_that_follows_everything_gets_nothing_of_another() -> None:
    broker = MemoryBroker()
    link, events = connect(broker)
    link.subscribe("#")
    broker.publish(topics.down("dev-2", "directive"), b"secret", retain=True)
    broker.publish(topics.up("dev-2", "report"), b"secret")
    broker.pump()
    assert events == [Connected()]


def test_a_fault_may_drop_double_or_alter_what_is_delivered() -> None:
    broker = MemoryBroker()
    link, events = connect(broker)
    link.subscribe(DIRECTIVE)
    bad = Message(DIRECTIVE, b"bad", retained=False)

    def fault(delivery: InFlight) -> list[InFlight]:
        twice = [delivery, InFlight(delivery.device, bad)]
        return [] if delivery.message.payload == b"drop" else twice

    broker.fault = fault
    broker.publish(DIRECTIVE, b"drop")
    broker.publish(DIRECTIVE, b"keep")
    broker.pump()
    assert events[1:] == [Message(DIRECTIVE, b"keep", retained=False), bad]


def test_clearing_a_retained_message_leaves_nothing_for_late_comers() -> None:
    broker = MemoryBroker()
    broker.publish(DIRECTIVE, b"one", retain=True)
    broker.publish(DIRECTIVE, b"", retain=True)
    assert not broker.retained


LEVELS = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=4)


@given(LEVELS, LEVELS)
def test_a_plain_filter_matches_its_own_topic_only(items: list[str], other: list[str]) -> None:
    assert matches("/".join(items), "/".join(other)) == (items == other)
    assert matches("#", "/".join(items))
    assert matches("/".join([*items[:-1], "+"]), "/".join(items))
    assert matches("/".join([*items, "#"]), "/".join(items))
