"""Light agents: ``update_agents.py FILES PORT FIRST COUNT CHUNKS [STORE]``.

Real links and the real policy of fetching, one thread that works them all; a device begins when
its directive comes. With STORE, a directory, verified chunks are stored as the agent stores them,
otherwise dropped. Says ``ready``, and in the end {"begun", "ended": [monotonic seconds, ...],
"wants": how often the hub was asked}.
"""

import json
import queue
import random
import sys
import time
from pathlib import Path

from bench.update_disk import Kept

from muster_agent.fetch import actions as f
from muster_agent.fetch.window import Fetch
from muster_agent.link.link import Connected, LinkEvent, Message, Subscribed
from muster_agent.link.mqtt import MqttLink, MqttSettings
from muster_agent.trust.time import Instant
from muster_protocol.wire import messages, topics
from muster_protocol.wire.limits import FETCH_WINDOW_CHUNKS

SILENCE_SECONDS = 4.0
TICK_SECONDS = 0.2


class LightAgent:
    def __init__(self, link: MqttLink, name: str, store: Kept | None) -> None:
        self._link, self._name, self._store = link, name, store
        self.wants = 0
        self.ended = 0.0
        self.fetch = Fetch(
            window=FETCH_WINDOW_CHUNKS, silence_seconds=SILENCE_SECONDS, http_sources=0,
            rng=random.Random(name),
        )  # fmt: skip

    def do(self, actions: list[f.Action]) -> None:
        for action in actions:
            match action:
                case f.Subscribe(digests):
                    self._link.subscribe(*map(topics.chunk, digests))
                case f.Unsubscribe(digests):
                    self._link.unsubscribe(*map(topics.chunk, digests))
                case f.AskHub(digests, _):
                    self.wants += 1
                    want = messages.encode(messages.Want(list(digests)))
                    self._link.publish(topics.up(self._name, "want"), want)
                case f.Keep(digest, data):
                    if self._store is not None:
                        self._store.put(digest, data)
                case _:
                    raise AssertionError(action)
        if actions and self.fetch.done:
            if self._store is not None:
                self._store.end()
            self.ended = time.monotonic()


def work(
    agents: dict[str, LightAgent], inbox: "queue.Queue[tuple[str, LinkEvent]]", chunks: list[str]
) -> float:
    """Until every agent has every chunk; when the first directive came."""
    begun = float("inf")
    connected: set[str] = set()
    while not all(agent.ended for agent in agents.values()):
        try:
            name, event = inbox.get(timeout=TICK_SECONDS)
        except queue.Empty:
            for agent in agents.values():
                agent.do(agent.fetch.tick(time.monotonic()))
            continue
        agent, now = agents[name], time.monotonic()
        if isinstance(event, Connected):
            agent.do(agent.fetch.link_up(now))
            connected.add(name)
            if len(connected) == len(agents):
                print("ready", flush=True)
        elif isinstance(event, Message) and event.topic.endswith("/directive"):
            begun = min(begun, now)
            agent.do(agent.fetch.need(chunks, now))
        elif isinstance(event, Message):
            agent.do(agent.fetch.arrived(event.topic.rpartition("/")[2], event.payload, now))
        elif isinstance(event, Subscribed):
            agent.fetch.subscribed([topic.rpartition("/")[2] for topic in event.topics], now)
        if isinstance(event, Connected):
            agent.do(agent.fetch.tick(now))
    return begun


def main() -> None:
    files, port, first, count, listed, *stored = sys.argv[1:]
    chunks = json.loads(Path(listed).read_text())
    inbox: queue.Queue[tuple[str, LinkEvent]] = queue.Queue()
    agents: dict[str, LightAgent] = {}
    links = []
    for number in range(int(first), int(first) + int(count)):
        name = f"dev-{number}"
        settings = MqttSettings(
            host="127.0.0.1", port=int(port), device=name, key=Path(files) / f"{name}.key",
            cert=Path(files) / f"{name}.pem", ca=Path(files) / "ca.pem",
        )  # fmt: skip
        will = (topics.up(name, "presence"), messages.encode(messages.Presence(online=False)))
        link = MqttLink(
            settings, will, lambda event, name=name: inbox.put((name, event)),
            lambda: Instant(int(time.time()), "synchronised"),
        )  # fmt: skip
        store = Kept(Path(stored[0])) if stored else None
        agents[name] = LightAgent(link, name, store)
        link.subscribe(topics.down(name, "directive"))
        link.start()
        links.append(link)
    begun = work(agents, inbox, chunks)
    wants = sum(agent.wants for agent in agents.values())
    ended = [agent.ended for agent in agents.values()]
    print(json.dumps({"begun": begun, "ended": ended, "wants": wants}), flush=True)
    for link in links:
        link.stop()


if __name__ == "__main__":
    main()
