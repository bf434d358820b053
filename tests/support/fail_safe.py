"""A plant with a counterpart for each kind of sink, and the faults that a feed must survive.

One feed reads a broker and a PLC, asks a real worker and hands its answers to all of them at once.
"""

import asyncio
import http.server
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, get_args

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from muster_agent.base.feed_settings import SinkKind
from muster_agent.feeds.answers import QUALITY_CODES
from muster_agent.feeds.process import FeedEnded
from muster_agent.feeds.sparkplug.codec import decode
from muster_agent.feeds.sparkplug.host import NodeView
from muster_agent.worker.events import Drained
from muster_protocol.wire.feeding import InputQuality, InputWindow
from support.fed import FedSlot, PlantBroker, fed_bundle
from support.plant_servers import NAMESPACE, OpcuaPlant, Plc
from support.waiting import until

Fault = Literal["killed worker", "hung worker", "lost source", "stale value", "swap"]
FAULTS: tuple[Fault, ...] = get_args(Fault)
DEADLINE_SECONDS = 1.0
"""Declared to the feed."""
STALE_SECONDS = 1.0
TICK_SECONDS = 0.1
SILENCE_SECONDS = 1.0
LOOK_SECONDS = 0.005
"""How often what has no way to call is looked at."""
WAIT_SECONDS = 60.0
SUBSTITUTE, SAFE = 0.5, -1.0
"""Of the signed constant, and what is written to machines in its place."""
VALUE = "probabilities[2]"
GRADES = {code: grade for grade, code in QUALITY_CODES.items()}
SOURCES = """
[feeds.press]
slot = "slot"
deadline_seconds = {deadline}
[feeds.press.sources.uns]
kind = "mqtt"
host = "127.0.0.1"
port = {broker}
tags = {{ flow = {{ topic = "plant/flow", unit = "m3/h" }} }}
[feeds.press.sources.plc]
kind = "modbus"
host = "127.0.0.1"
port = {plc}
every_seconds = {tick}
timeout_seconds = 0.5
tags = {{ temperature = {{ register = 0, unit = "°C" }} }}
"""
T = TypeVar("T")


@dataclass(frozen=True)
class Seen:
    """What a counterpart has."""

    at: float
    """Monotonic seconds."""
    value: float | None
    grade: str


class Counterpart:
    """The other side of a sink; ``seen`` grows while it runs."""

    substitute = SUBSTITUTE

    def __init__(self, plant: "Plant") -> None:
        self.plant = plant
        self.seen: list[Seen] = []

    def settings(self) -> str:
        """What stands below its sink in ``agent.toml``."""
        raise NotImplementedError

    def take(self, value: float | None, grade: str) -> None:
        self.seen.append(Seen(time.monotonic(), value, grade))

    def take_json(self, body: bytes) -> None:
        said = json.loads(body)
        self.take(said["value"], said["quality"])

    def since(self, count: int, holds: Callable[[Seen], bool]) -> Seen:
        """The first of which this is true, after as many as were seen before."""

        def found() -> Seen | None:
            return next(filter(holds, self.seen[count:]), None)

        seen = until(found, bool, seconds=WAIT_SECONDS)
        assert seen is not None
        return seen

    def good(self, seen: Seen) -> bool:
        return seen.grade == "good" and seen.value != self.substitute

    def substituted(self, seen: Seen) -> bool:
        """The fallback's value with the quality that says what it is."""
        return seen.grade == "uncertain" and seen.value == self.substitute

    def undecided(self, seen: Seen) -> bool:
        """Nothing is decided any more; a machine has the safe value."""
        return seen.grade == "bad" and seen.value in {None, SAFE}


class MqttReader(Counterpart):
    def settings(self) -> str:
        self.plant.hear("answers", lambda _, body: self.take_json(body))
        return f'host = "127.0.0.1"\nport = {self.plant.broker.port}\ntopic = "answers"\n{_VALUE}'


class SparkplugHost(Counterpart):
    def settings(self) -> str:
        self._view = NodeView()
        self.plant.hear("spBv1.0/#", self._hear)
        return f'host = "127.0.0.1"\nport = {self.plant.broker.port}\ngroup = "plant"'

    def _hear(self, topic: str, body: bytes) -> None:
        kind = topic.split("/")[2]
        news = self._view.take(kind, "", decode(body))
        if news.dead is not None:
            self.take(None, "bad")
        for metric in news.values:
            if metric.name == "outputs/probabilities/2" and isinstance(metric.value, float):
                self.take(metric.value, metric.grade)


class FileReader(Counterpart):
    def settings(self) -> str:
        self._path = self.plant.folder / "answers.jsonl"
        self._read = 0
        self.plant.look(self._look)
        return f'path = "{self._path}"\n{_VALUE}'

    async def _look(self) -> None:
        if self._path.exists():
            lines = self._path.read_bytes().split(b"\n")[:-1]
            for line in lines[self._read :]:
                self.take_json(line)
            self._read = len(lines)


class HookServer(Counterpart):
    def settings(self) -> str:
        take = self.take_json

        class Hook(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                take(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Quiet."""

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
        self.plant.stack.callback(server.server_close)
        self.plant.stack.callback(server.shutdown)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f'url = "http://127.0.0.1:{server.server_port}/"\n{_VALUE}'


class PlcReader(Counterpart):
    """Reads as a PLC does: by the heartbeat, which comes last."""

    substitute = SAFE

    def settings(self) -> str:
        self._plc = Plc()
        self.plant.enter(self._plc)
        self._beat = 0
        self.plant.look(self._look)
        write = f'type = "int16", register = 20, value = "{VALUE}", scale = 100, safe = {SAFE}'
        return (
            f'host = "127.0.0.1"\nport = {self._plc.port}\nallow_writes = true\n'
            "heartbeat_register = 22\nquality_register = 21\n"
            f"writes = {{ risk = {{ {write} }} }}"
        )

    async def _look(self) -> None:
        value, code, beat = await self._plc.get(20, 3)
        if beat != self._beat:
            self._beat = beat
            # An int16 in which the output stands in hundredths.
            self.take(((value + (1 << 15)) % (1 << 16) - (1 << 15)) / 100, GRADES[code])


class OpcuaReader(Counterpart):
    substitute = SAFE

    def settings(self) -> str:
        self._server = OpcuaPlant(Risk=0.0, Quality=0, Beat=0)
        self.plant.enter(self._server)
        self._beat = 0
        self.plant.look(self._look)
        place = f'node = "s=Line.Risk", namespace = "{NAMESPACE}"'
        return (
            f'url = "{self._server.url}"\nallow_writes = true\nnamespace = "{NAMESPACE}"\n'
            'quality_node = "s=Line.Quality"\nheartbeat_node = "s=Line.Beat"\n'
            f'writes = {{ risk = {{ {place}, value = "{VALUE}", safe = {SAFE} }} }}'
        )

    async def _look(self) -> None:
        value, code, beat = [
            await self._server.nodes[name].read_value()  # type: ignore[attr-defined]  # no stubs
            for name in ("Risk", "Quality", "Beat")
        ]
        if beat != self._beat:
            self._beat = beat
            self.take(value, GRADES[code])


_VALUE = f'value = "{VALUE}"'
COUNTERPARTS: Mapping[SinkKind, type[Counterpart]] = {
    "mqtt": MqttReader,
    "sparkplug": SparkplugHost,
    "file": FileReader,
    "webhook": HookServer,
    "modbus": PlcReader,
    "opcua": OpcuaReader,
}


class Plant:
    """Everything at once; each fault begins, is seen by all, and is mended."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stack = ExitStack()
        self._lookers: list[Callable[[], Coroutine[Any, Any, None]]] = []
        self._heard: dict[str, Callable[[str, bytes], None]] = {}
        self._flowing = threading.Event()
        self._ended = threading.Event()
        self._published_at = 0.0

    def __enter__(self) -> Self:
        with self.stack:
            self._begin()
            self.stack = self.stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def _begin(self) -> None:
        self._loop = asyncio.new_event_loop()
        thread = threading.Thread(target=self._loop.run_forever, name="plant", daemon=True)
        thread.start()
        self.stack.callback(lambda: self._loop.call_soon_threadsafe(self._loop.stop))
        self.broker = self.stack.enter_context(PlantBroker(self.folder))
        self._source = Plc()
        self._run(self._source.__aenter__())
        self.stack.callback(lambda: self._run(self._source.__aexit__()))
        self._run(self._source.set(0, [2]))
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.on_message = lambda _client, _data, message: self._dispatch(
            message.topic, message.payload
        )
        self._client.connect("127.0.0.1", self.broker.port)
        self._client.loop_start()
        self.stack.callback(self._client.loop_stop)
        self.stack.callback(self._client.disconnect)
        self.sinks = {kind: made(self) for kind, made in COUNTERPARTS.items()}
        text = SOURCES.format(
            deadline=DEADLINE_SECONDS, broker=self.broker.port, plc=self._source.port,
            tick=TICK_SECONDS,
        )  # fmt: skip
        for kind, sink in self.sinks.items():
            text += f'[feeds.press.sinks.{kind}]\nkind = "{kind}"\n{sink.settings()}\n'
        looking = asyncio.run_coroutine_threadsafe(self._looking(), self._loop)
        self.stack.callback(looking.cancel)
        self._bundle = {
            "window": InputWindow(every_seconds=TICK_SECONDS),
            "quality": InputQuality(stale_seconds=STALE_SECONDS),
        }
        self._fed = self.stack.enter_context(FedSlot(self.folder, text, **self._bundle))
        self._version = 1
        publisher = threading.Thread(target=self._publish, daemon=True)
        publisher.start()
        self.stack.callback(self._ended.set)
        self._flowing.set()
        self._worker = self._fed.begin_worker()
        self._fed.begin_feed()
        self.wait_good(dict.fromkeys(self.sinks, 0))

    # For counterparts

    def hear(self, topic: str, take: Callable[[str, bytes], None]) -> None:
        """Have a subscription of the plant's client."""
        self._heard[topic.split("/", maxsplit=1)[0]] = take
        self._client.subscribe(topic, 1)

    def look(self, looker: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Be looked at every now and then, in the plant's loop."""
        self._lookers.append(looker)

    def enter(self, server: "Plc | OpcuaPlant") -> None:
        """Have a server run in the plant's loop."""
        self._run(server.__aenter__())
        self.stack.callback(lambda: self._run(server.__aexit__()))

    def _dispatch(self, topic: str, body: bytes) -> None:
        self._heard[topic.split("/", maxsplit=1)[0]](topic, body)

    def _run(self, call: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(call, self._loop).result(WAIT_SECONDS)

    async def _looking(self) -> None:
        while True:
            for looker in self._lookers:
                await looker()
            await asyncio.sleep(LOOK_SECONDS)  # They have no way to call.

    def _publish(self) -> None:
        while not self._ended.is_set():
            if self._flowing.wait(TICK_SECONDS):
                self._client.publish("plant/flow", "1.5", 1)
                self._published_at = time.monotonic()
                time.sleep(TICK_SECONDS)  # the machine's own pace

    # Faults

    def wait_good(self, counts: Mapping[SinkKind, int]) -> None:
        """Until every sink has an answer of the model that came after so many."""
        for kind, sink in self.sinks.items():
            sink.since(counts[kind], sink.good)

    def counts(self) -> dict[SinkKind, int]:
        return {kind: len(sink.seen) for kind, sink in self.sinks.items()}

    def suffer(self, fault: Fault) -> dict[SinkKind, float]:
        """Let it happen, and be mended; seconds from it to the fallback at each sink.

        Fails unless each sink has the fallback and, until the mending, nothing good after it.
        """
        before = self.counts()
        mend, began = getattr(self, f"_{fault.replace(' ', '_')}")()
        found = {}
        for kind, sink in self.sinks.items():
            found[kind] = sink.since(before[kind], sink.substituted).at - began
        for kind, sink in self.sinks.items():
            after = [each for each in sink.seen[before[kind] :] if each.at >= began + found[kind]]
            assert not any(map(sink.good, after)), (kind, after)
        fresh = self.counts()
        mend()
        self.wait_good(fresh)
        return found

    def end_feed(self) -> dict[SinkKind, int]:
        """The feed ends in order; how much each sink had seen before."""
        before = self.counts()
        assert self._fed.process is not None
        self._fed.process.stop()
        self._buried()
        return before

    def kill_feed(self) -> dict[SinkKind, int]:
        """The same, without a word."""
        before = self.counts()
        assert self._fed.process is not None
        os.kill(self._fed.process.pid, signal.SIGKILL)
        self._buried()
        return before

    def begin_feed(self) -> None:
        """Another one, until every sink has its answers."""
        before = self.counts()
        self._fed.begin_feed()
        self.wait_good(before)

    def silent(self) -> bool:
        """Whether nothing comes to any sink during several ticks."""
        time.sleep(SILENCE_SECONDS)  # What was under way arrives.
        before = self.counts()
        time.sleep(SILENCE_SECONDS)  # Silence gives no sign.
        return self.counts() == before

    def _buried(self) -> None:
        while not isinstance(self._fed.events.get(timeout=WAIT_SECONDS), FeedEnded):
            pass

    def _killed_worker(self) -> tuple[Callable[[], None], float]:
        began = time.monotonic()
        os.kill(self._worker.pid, signal.SIGKILL)

        def mend() -> None:
            self._worker = self._fed.begin_worker()

        return mend, began

    def _hung_worker(self) -> tuple[Callable[[], None], float]:
        began, pid = time.monotonic(), self._worker.pid
        os.kill(pid, signal.SIGSTOP)
        return lambda: os.kill(pid, signal.SIGCONT), began

    def _lost_source(self) -> tuple[Callable[[], None], float]:
        began = time.monotonic()
        self._run(self._source.__aexit__())

        def mend() -> None:
            self._run(self._source.__aenter__())
            self._run(self._source.set(0, [2]))

        return mend, began

    def _stale_value(self) -> tuple[Callable[[], None], float]:
        self._flowing.clear()
        time.sleep(TICK_SECONDS)  # One may be on its way.
        return self._flowing.set, self._published_at + STALE_SECONDS

    def _swap(self) -> tuple[Callable[[], None], float]:
        """Another version answers, of which the feed is told only by the mending."""
        self._version += 1
        version = str(self._version)
        fed, old = self._fed, self._worker
        fed.bundle = self.folder / f"bundle-{version}"
        fed.manifest, fed.sha256 = fed_bundle(fed.bundle, version=version, **self._bundle)
        self._worker = fed.begin_worker()
        began = time.monotonic()
        old.pause()
        fed.workers.wait(old, Drained)
        old.stop(WAIT_SECONDS)
        return fed.serve, began
