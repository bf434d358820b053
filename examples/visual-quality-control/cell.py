"""The inspection cell: a camera that drops pictures into a folder, a PLC that throws parts out, and
the plant's broker, on which every answer is heard.
"""

import asyncio
import json
import logging
import queue
import subprocess
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Self

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion
from parts import CLASSES, Line
from PIL import Image
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from muster_hub.mqtt.broker import find_mosquitto

REJECT_COIL, HEARTBEAT_REGISTER = 0, 10
COILS, HOLDING = 1, 3
"""Function codes by which a server's own values are read."""
PICTURE_SECONDS = 0.25
"""A disc every so often."""
TOPIC = "cell-1/answers"
WAIT_SECONDS = 60.0


class Camera:
    """Drops pictures until it is closed; knows what each truly shows."""

    def __init__(self, folder: Path, line: Line) -> None:
        self.line = line
        self.truth: dict[str, str] = {}
        self._folder = folder
        self._taken = 0
        self._closed = threading.Event()
        self._running = threading.Event()
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)
        self._thread.start()

    def start(self) -> None:
        """Let the belt run."""
        self._running.set()

    def close(self) -> None:
        """Stop the belt for good."""
        self._closed.set()
        self._running.set()
        self._thread.join(WAIT_SECONDS)

    def _run(self) -> None:
        self._running.wait()
        due = time.monotonic()
        while not self._closed.is_set():
            self._take()
            due += PICTURE_SECONDS
            time.sleep(max(due - time.monotonic(), 0))  # the belt's own pace

    def _take(self) -> None:
        picture, label = self.line.next()
        name = f"disc-{self._taken:06d}.png"
        self._taken += 1
        self.truth[name] = label
        half = self._folder / f"{name}.part"
        Image.fromarray(picture).save(half, format="PNG", compress_level=1)
        half.replace(self._folder / name)  # whole at once


class Plc:
    """Speaks Modbus TCP (pymodbus), in a thread of its own."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.rejects = 0
        """How often the coil went on."""
        self.beats = 0
        """How often the heartbeat moved."""
        self._loop = asyncio.new_event_loop()
        ready: Future[None] = Future()
        threading.Thread(target=self._serve, args=(ready,), name="plc", daemon=True).start()
        ready.result(WAIT_SECONDS)

    def _serve(self, ready: "Future[None]") -> None:
        logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._live(ready))

    async def _live(self, ready: "Future[None]") -> None:
        coils = [SimData(0, values=[False] * 16, datatype=DataType.BITS)]
        registers = [SimData(0, values=[0] * 32, datatype=DataType.REGISTERS)]
        device = SimDevice(1, simdata=(coils, coils, registers, registers))
        server = ModbusTcpServer(device, address=("127.0.0.1", self.port))
        await server.serve_forever(background=True)
        ready.set_result(None)
        reject, beat = False, 0
        while True:
            now = bool((await server.async_getValues(1, COILS, REJECT_COIL, 1))[0])
            (heartbeat,) = await server.async_getValues(1, HOLDING, HEARTBEAT_REGISTER, 1)
            self.rejects += now and not reject
            self.beats += heartbeat != beat
            reject, beat = now, heartbeat
            await asyncio.sleep(0.02)  # a PLC's cycle


class Plant:
    """The plant's own broker, which lets anybody in, and what was said on it."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        self.answers: dict[str, dict[str, Any]] = {}
        """The answer to each picture, by its name."""
        self.repeated = 0
        """Answers to a picture that had one already."""
        folder.mkdir()
        config = folder / "plant.conf"
        config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n", encoding="ascii")
        self._broker = subprocess.Popen(
            [find_mosquitto(), "-c", str(config)], stderr=subprocess.DEVNULL
        )
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.on_message = lambda _client, _data, message: self._hear(message.payload)
        subscribed: queue.Queue[int] = queue.Queue()
        self._client.on_connect = lambda *_: self._client.subscribe(TOPIC, 1)
        self._client.on_subscribe = lambda *_: subscribed.put(1)
        self._connect()
        self._client.loop_start()
        subscribed.get(timeout=WAIT_SECONDS)

    def _connect(self) -> None:
        ends = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                self._client.connect("127.0.0.1", self.port)
            except OSError:
                if time.monotonic() > ends:
                    raise
                time.sleep(0.05)  # It is starting.
            else:
                return

    def _hear(self, payload: bytes) -> None:
        said = json.loads(payload)
        if name := said.get("picture"):
            self.repeated += name in self.answers
            self.answers[name] = said

    def judged(self, truth: dict[str, str], since: int = 0) -> tuple[int, float, float]:
        """Discs judged, the share of scratched ones found, and of good ones thrown out.

        ``since``: leave out so many pictures, the first ones.
        """
        names = [name for name in sorted(truth)[since:] if name in self.answers]
        found = {label: [0, 0] for label in CLASSES}
        for name in names:
            if self.answers[name]["basis"] == "model":
                counted = found[truth[name]]
                counted[0] += self.answers[name]["label"] == CLASSES[1]
                counted[1] += 1
        ok, scratched = (hits / max(count, 1) for hits, count in found.values())
        return len(names), scratched, ok

    def close(self) -> None:
        """End the broker."""
        self._client.disconnect()
        self._client.loop_stop()
        self._broker.terminate()
        self._broker.wait(WAIT_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
