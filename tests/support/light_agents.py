"""Light agents: scripted devices in one process that speak the real protocol over real MQTT links.

They adopt directives, ask for a permit where they must, swap, and report as an agent does; they
load no model. One thread works them all, so that a test can hold twenty.
"""

import queue
import random
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from securesystemslib.dsse import Envelope

from muster_agent.link.link import Connected, LinkEvent, Message
from muster_agent.link.mqtt import MqttLink, MqttSettings
from muster_agent.trust.time import Instant
from muster_protocol.wire import directive as wire
from muster_protocol.wire import messages, topics
from muster_protocol.wire.directive import Directive
from muster_protocol.wire.messages import (
    Facts,
    Grant,
    GrantRequest,
    Presence,
    Report,
    Running,
    SlotReport,
    Stamp,
    Update,
)

SLOT = "vision"
SWAP_SECONDS = 0.15
RETRY_SECONDS = 0.3


@dataclass
class LightAgent:
    """One device: what it runs, what it is asked to run, and what it has done."""

    name: str
    link: MqttLink
    bad: frozenset[str]
    """Versions it refuses after the swap, as a failed golden vector would have it do."""
    held: Directive | None = None
    running: str = ""
    state: messages.UpdateState = "idle"
    nonce: bytes = b""
    swap_ends: float = 0.0
    ask_at: float = float("inf")
    swapped: list[str] = field(default_factory=list)
    heard_of: list[tuple[int, int]] = field(default_factory=list)
    """Epoch and generation of each directive, as they came."""

    def goal(self) -> wire.Goal | None:
        slot = self.held.slots.get(SLOT) if self.held else None
        return slot.champion if slot else None


class Fleet:
    """``swaps`` is every swap that began: (time, device, version); ``most_down`` at once."""

    def __init__(self) -> None:
        self.agents: dict[str, LightAgent] = {}
        self.swaps: list[tuple[float, str, str]] = []
        self.most_down = 0
        self._inbox: queue.Queue[tuple[str, LinkEvent]] = queue.Queue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def join(self, name: str, port: int, files: Path, ca: Path, *, bad: Iterable[str] = ()) -> None:
        """Connect a device with ``<name>.pem`` and ``<name>.key`` of ``files``."""
        settings = MqttSettings(
            host="127.0.0.1", port=port, device=name,
            key=files / f"{name}.key", cert=files / f"{name}.pem", ca=ca,
        )  # fmt: skip
        will = (topics.up(name, "presence"), messages.encode(Presence(online=False)))
        link = MqttLink(
            settings, will, lambda event: self._inbox.put((name, event)),
            lambda: Instant(int(time.time()), "synchronised"),
        )  # fmt: skip
        self.agents[name] = LightAgent(name, link, frozenset(bad))
        link.subscribe(topics.down(name, "directive"), topics.down(name, "grant"))
        link.start()

    def close(self) -> None:
        self._stopping.set()
        self._thread.join()
        for agent in self.agents.values():
            agent.link.stop()

    def running(self) -> dict[str, str]:
        return {name: agent.running for name, agent in self.agents.items()}

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                name, event = self._inbox.get(timeout=0.02)
            except queue.Empty:
                pass
            else:
                self._hear(self.agents[name], event)
            now = time.monotonic()
            for agent in list(self.agents.values()):
                self._act(agent, now)
            down = sum(
                1 for agent in self.agents.values() if agent.state in ("starting", "probation")
            )
            self.most_down = max(self.most_down, down)

    def _hear(self, agent: LightAgent, event: LinkEvent) -> None:
        if isinstance(event, Connected):
            online = messages.encode(Presence(online=True))
            agent.link.publish(topics.up(agent.name, "presence"), online, retain=True)
            self._report(agent)
        elif isinstance(event, Message) and event.topic.endswith("/directive") and event.payload:
            envelope = Envelope.from_dict(msgspec.json.decode(event.payload))
            agent.held = wire.decode(envelope.payload)
            agent.heard_of.append((agent.held.epoch, agent.held.generation))
            goal = agent.goal()
            if goal is not None and goal.version != agent.running:
                agent.state, agent.ask_at = "staged", 0.0
            elif goal is not None:
                agent.state = "committed"
            self._report(agent)
        elif isinstance(event, Message) and event.topic.endswith("/grant"):
            grant = messages.decode(event.payload, Grant)
            if grant.nonce != agent.nonce or agent.state != "staged":
                return
            if grant.given:
                self._swap(agent)
            else:
                agent.ask_at = time.monotonic() + RETRY_SECONDS * random.uniform(0.8, 1.2)

    def _act(self, agent: LightAgent, now: float) -> None:
        goal = agent.goal()
        if goal is None or agent.held is None:
            return
        if agent.state == "staged" and now >= agent.ask_at:
            if agent.held.slots[SLOT].swap == "free":
                self._swap(agent)
                return
            agent.nonce = random.randbytes(12)
            agent.ask_at = now + 5.0
            request = GrantRequest(
                nonce=agent.nonce, slot=SLOT, manifest=goal.manifest,
                generation=agent.held.generation,
            )  # fmt: skip
            agent.link.publish(topics.up(agent.name, "grant"), messages.encode(request))
        elif agent.state == "starting" and now >= agent.swap_ends:
            if goal.version in agent.bad:
                agent.state = "failed"
            else:
                agent.running, agent.state = goal.version, "committed"
            self._report(agent)

    def _swap(self, agent: LightAgent) -> None:
        goal = agent.goal()
        assert goal is not None
        agent.state, agent.swap_ends = "starting", time.monotonic() + SWAP_SECONDS
        agent.swapped.append(goal.version)
        self.swaps.append((time.monotonic(), agent.name, goal.version))
        self._report(agent)

    def _report(self, agent: LightAgent) -> None:
        stamp = Stamp(b"boot" * 2, time.monotonic(), time.time(), "synchronised")
        goal = agent.goal()
        slots = {}
        if agent.held is not None and goal is not None:
            committed = agent.state == "committed"
            slots[SLOT] = SlotReport(
                health="ok",
                running=Running(
                    model=goal.model, version=goal.version, manifest=goal.manifest,
                    runtime="onnx", since=stamp,
                ) if committed else None,
                update=Update(
                    state=agent.state, model=goal.model, version=goal.version,
                    manifest=goal.manifest, generation=agent.held.generation,
                    refusal="golden_mismatch" if agent.state == "failed" else None,
                    detail="case 3" if agent.state == "failed" else "",
                ),
            )  # fmt: skip
        report = Report(
            at=stamp, epoch=agent.held.epoch if agent.held else 0,
            generation=agent.held.generation if agent.held else 0, slots=slots,
            facts=Facts(agent_version="light"),
        )  # fmt: skip
        agent.link.publish(topics.up(agent.name, "report"), messages.encode(report))
