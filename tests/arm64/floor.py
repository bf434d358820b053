"""The plant's own machines, on this machine: a broker, a PLC, an OPC UA server, an edge node."""

import asyncio
import http.server
import json
import struct
import threading
import time
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec

from muster_agent.base.feed_settings import SparkplugSink, SparkplugSource
from muster_agent.feeds.answers import FeedAnswer
from muster_agent.feeds.sources.base import FeedPlace
from muster_agent.feeds.sparkplug.answers import SparkplugAnswers
from muster_agent.feeds.sparkplug.tags import SparkplugTags
from support.fed import PlantBroker
from support.plant_servers import Heard, OpcuaPlant, Plc, running
from support.serial_line import plc, serial_line

T = TypeVar("T")
PATIENCE_SECONDS = 300.0
"""Bounds a failure: what is on the other side may be emulated."""
GROUP, EDGE_NODE = "plant", "mixer"


class Floor:
    """Used as a context manager. What these servers ask of asyncio runs in a thread of its own."""

    def __init__(self, directory: Path, device: str) -> None:
        directory.mkdir()
        self.device = device
        self.broker = PlantBroker(directory)
        self.plc = Plc()
        self.opcua = OpcuaPlant(Flow=1.0, Temperature=1.0, Answer=0.0)
        self.serial_port = ""
        """The device's end of a serial line."""
        self.posted: list[dict[str, Any]] = []
        """What was posted to ``hook_url``."""
        self._place = FeedPlace(EDGE_NODE, "its", "own", "slot", directory)
        self._node: SparkplugAnswers | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="floor")
        self._servers = AsyncExitStack()

    def _sparkplug(self, kind: type[T], **fields: Any) -> T:
        address = {"kind": "sparkplug", "host": "127.0.0.1", "port": self.broker.port}
        return msgspec.convert(address | {"group": GROUP} | fields, kind)

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Await it on the servers' side; TimeoutError when that takes too long."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_SECONDS)

    def give_plc(self, flow: float, temperature: float) -> None:
        """Into four registers, high words first."""
        self.do(
            self.plc.set(0, list(struct.unpack(">HHHH", struct.pack(">ff", flow, temperature))))
        )

    def written_plc(self) -> float:
        """What stands in its registers 4 and 5."""
        words = self.do(self.plc.get(4, 2))
        return float(struct.unpack(">f", struct.pack(">HH", *words))[0])

    def give_serial(self, flow: float, temperature: float) -> None:
        """Into four registers of the PLC on the serial line, high words first."""
        words = list(struct.unpack(">HHHH", struct.pack(">ff", flow, temperature)))
        self.do(self._serial.async_setValues(1, 16, 0, words))

    def give_opcua(self, flow: float, temperature: float) -> None:
        self.do(self.opcua.set("Flow", flow))
        self.do(self.opcua.set("Temperature", temperature))

    def written_opcua(self) -> float:
        node: Any = self.opcua.nodes["Answer"]
        return float(self.do(node.read_value()))

    def give_edge_node(self, flow: float, temperature: float) -> None:
        """Metrics outputs/flow and outputs/temperature."""
        outputs = {"flow": [flow], "temperature": [temperature]}
        said = FeedAnswer(outputs, "good", "", "model", "mixer", "1", time.time())
        assert self._node is not None, "it is open"
        self.do(self._node.write(said))

    def heard_sparkplug(self, wanted: float, within: float) -> float:
        """The first value near ``wanted`` of the second probability that the device's node says."""
        tags = {"answer": {"metric": "outputs/probabilities/1"}}
        settings = self._sparkplug(SparkplugSource, edge_node=self.device, tags=tags)

        async def hear() -> float:
            heard = Heard()
            place = FeedPlace("historian", "its", "own", "slot", Path())
            async with running(SparkplugTags(settings, heard.inlet.of(settings.tags), place)):
                found = await heard.sample(
                    "answer", lambda sample: abs(sample.value - wanted) < within
                )
            return found.value

        return self.do(hear())

    async def _open(self) -> None:
        await self._servers.enter_async_context(self.plc)
        await self._servers.enter_async_context(self.opcua)
        # Its backlog belongs to the thread that opens it.
        node = SparkplugAnswers(self._sparkplug(SparkplugSink, edge_node=EDGE_NODE), self._place)
        self._servers.push_async_callback(node.close)
        await node.open()
        self._node = node
        self.serial_port, far = await self._servers.enter_async_context(serial_line())
        self._serial = await self._servers.enter_async_context(plc(far))

    def _open_hook(self) -> None:
        posted = self.posted

        class Hook(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self._hook = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
        self.hook_url = f"http://127.0.0.1:{self._hook.server_port}/answers"
        threading.Thread(target=self._hook.serve_forever, name="hook", daemon=True).start()

    async def _close(self) -> None:
        await self._servers.aclose()

    def __enter__(self) -> Self:
        self.broker.start()
        self._thread.start()
        self._open_hook()
        self.do(self._open())
        Path(self.serial_port).chmod(0o666)  # The agent has a user of its own.
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.do(self._close())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(PATIENCE_SECONDS)
            self._hook.shutdown()
            self._hook.server_close()
            self.broker.stop()
