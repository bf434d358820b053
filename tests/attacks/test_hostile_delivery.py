"""A broker that drops, doubles, reorders and replays: nothing old is taken, all heals after."""

import tempfile
from contextlib import suppress
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from muster_agent.link.link import LinkEvent, Message
from muster_agent.link.memory import InFlight, MemoryBroker, MemoryLink
from muster_agent.trust.mirror import ABSENT_SECONDS, TrustMirror
from muster_agent.trust.trusted import TrustRefused
from muster_protocol.wire import topics
from support.trust_device import RIGHT, TrustDevice
from support.tuf_repository import NOW, Repository

REPOSITORY = Repository()
HISTORY = [dict(REPOSITORY.files)]
for _version in ("1.0.0", "1.1.0", "1.2.0"):
    LAST = REPOSITORY.release("digits", _version)
    HISTORY.append(dict(REPOSITORY.files))


class Follower:
    """A device that follows the TUF topics over a link and runs a cycle whenever one is due."""

    def __init__(self, directory: Path, broker: MemoryBroker) -> None:
        self.device = TrustDevice(directory, REPOSITORY.factory_root)
        self.store = self.device.store
        self.now = 0.0
        self.mirror = TrustMirror(self.store.versions(), frozenset({"digits"}), now=0.0)
        self.seen: list[int] = []
        self._followed: frozenset[str] = frozenset()
        self._broker = broker
        self.link = MemoryLink(broker, "dev-1", (topics.up("dev-1", "presence"), b""), self._take)
        self.link.start()

    def _take(self, event: LinkEvent) -> None:
        if isinstance(event, Message):
            file = topics.parse_tuf(event.topic)
            if file is not None:
                self.mirror.put(file, event.payload, self.now)

    def run(self, turns: int = 12) -> None:
        for _ in range(turns):
            wanted = self.mirror.wanted()
            self.link.unsubscribe(*map(topics.tuf, self._followed - wanted))
            self.link.subscribe(*map(topics.tuf, sorted(wanted)))
            self._followed = wanted
            self._broker.pump()
            self.now += ABSENT_SECONDS / 4
            if self.mirror.due(self.now):
                with suppress(TrustRefused):
                    self.store.refresh(self.mirror.files, self.mirror.models, RIGHT)
                self.mirror.refreshed(self.store.versions(), self.now)
                self.seen.append(self.store.versions().get("timestamp", 0))


@given(st.lists(st.sampled_from(["pass", "drop", "double", "replay", "swap"]), max_size=60))
@settings(max_examples=40)
def test_a_broker_that_drops_doubles_reorders_and_replays_can_only_delay(
    fates: list[str],
) -> None:
    broker = MemoryBroker()
    queue = list(fates)
    kept: list[InFlight] = []

    def fault(delivery: InFlight) -> list[InFlight]:
        kept.append(delivery)
        match queue.pop() if queue else "pass":
            case "drop":
                return []
            case "swap" if len(kept) > 1:
                return [delivery, kept[-2]]
            case "double":
                return [delivery, delivery]
            case "replay":
                return [kept[0], delivery, kept[len(kept) // 2]]
            case _:
                return [delivery]

    broker.fault = fault
    with tempfile.TemporaryDirectory() as directory:
        follower = Follower(Path(directory), broker)
        for files in HISTORY:
            for name, data in files.items():
                if broker.retained.get(topics.tuf(name)) != data:
                    broker.publish(topics.tuf(name), data, retain=True)
            follower.run(2)
        queue.clear()
        follower.run()
        assert follower.seen == sorted(follower.seen)
        assert_updates(follower)


def assert_updates(follower: Follower) -> None:
    """With the broker honest again it has the newest release without being asked."""
    trusted = follower.store.trusted()
    assert trusted is not None
    found = trusted.manifest_target("digits", "1.2.0", now=NOW)
    assert found is not None
    assert found[0] == LAST
