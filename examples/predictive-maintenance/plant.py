"""The line: the pump behind an OPC UA server (asyncua) and a PLC that speaks Modbus TCP (pymodbus).

The PLC has the interlock. Its coil 0 stops the line, and so does a heartbeat that stands still.
Only a person starts the line again.
"""

import asyncio
import logging
import struct
import threading
import time
from concurrent.futures import Future
from typing import Any

from asyncua import Server, ua
from pump import STEP_SECONDS, Pump
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

NAMESPACE = "urn:example:pump-line"
STOP_COIL = 0
CURRENT_REGISTER, HEARTBEAT_REGISTER, RISK_REGISTER = 0, 10, 12
HEARTBEAT_SECONDS = 20.0
COILS, HOLDING = 1, 3
"""Function codes by which a server's own values are read."""


class Plant:
    """Runs in a thread of its own; everything public may be called from any other."""

    def __init__(self, seed: int, opcua_port: int, modbus_port: int) -> None:
        self.pump = Pump(seed, running=False)
        self.url = f"opc.tcp://127.0.0.1:{opcua_port}/line/"
        self.modbus_port = modbus_port
        self.stopped_because = "nobody has started it"
        self.risk_max = 0.0
        """The highest risk that was written to the PLC since ``forget``."""
        self._beat = (0, 0.0)
        self._loop = asyncio.new_event_loop()
        self._ready: Future[None] = Future()
        threading.Thread(target=self._run, name="plant", daemon=True).start()
        self._ready.result(timeout=120)

    def start_line(self) -> None:
        """A person presses start; the interlock must allow it."""
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(timeout=30)

    def forget(self) -> None:
        """Begin to watch the risk anew."""
        self.risk_max = 0.0

    async def _start(self) -> None:
        if await self._coil():
            raise RuntimeError("the interlock says stop")
        self.stopped_because = ""
        self.pump.running = True

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._live())

    async def _live(self) -> None:
        for library in ("asyncua", "pymodbus"):
            logging.getLogger(library).setLevel(logging.CRITICAL)
        server, nodes = await self._opcua()
        self._plc = await self._modbus()
        async with server:
            self._ready.set_result(None)
            due = self._loop.time()
            while True:
                self.pump.step()
                await self._publish(server, nodes)
                await self._interlock()
                due += STEP_SECONDS
                await asyncio.sleep(max(due - self._loop.time(), 0))  # the pump's own pace

    async def _opcua(self) -> tuple[Server, dict[str, Any]]:
        server = Server()
        await server.init()
        server.set_endpoint(self.url)
        index = await server.register_namespace(NAMESPACE)
        line = await server.nodes.objects.add_object(index, "Pump")
        names = {"vibration": "Pump.Vibration", "bearing_temperature": "Pump.BearingTemperature"}
        nodes = {
            signal: await line.add_variable(ua.NodeId(name, index), name, 0.0)
            for signal, name in names.items()
        }
        return server, nodes

    async def _modbus(self) -> ModbusTcpServer:
        coils = [SimData(0, values=[True] * 16, datatype=DataType.BITS)]
        registers = [SimData(0, values=[0] * 32, datatype=DataType.REGISTERS)]
        device = SimDevice(1, simdata=(coils, coils, registers, registers))
        plc = ModbusTcpServer(device, address=("127.0.0.1", self.modbus_port))
        await plc.serve_forever(background=True)
        return plc

    async def _publish(self, server: Server, nodes: dict[str, Any]) -> None:
        measured = self.pump.measured()
        for signal, node in nodes.items():
            value = ua.DataValue(ua.Variant(measured[signal], ua.VariantType.Double))
            await server.write_attribute_value(node.nodeid, value)
        current = round(max(measured["motor_current"], 0.0) * 100)
        await self._plc.async_setValues(1, 16, CURRENT_REGISTER, [current])

    async def _interlock(self) -> None:
        now = time.monotonic()
        (beat,) = await self._plc.async_getValues(1, HOLDING, HEARTBEAT_REGISTER, 1)
        if beat != self._beat[0]:
            self._beat = (beat, now)
        words = await self._plc.async_getValues(1, HOLDING, RISK_REGISTER, 2)
        self.risk_max = max(self.risk_max, struct.unpack(">f", struct.pack(">HH", *words))[0])
        if not self.pump.running:
            return
        if await self._coil():
            self._stop("the model's stop")
        elif now - self._beat[1] > HEARTBEAT_SECONDS:
            self._stop("the heartbeat stands still")

    async def _coil(self) -> bool:
        return bool((await self._plc.async_getValues(1, COILS, STOP_COIL, 1))[0])

    def _stop(self, reason: str) -> None:
        self.pump.running = False
        self.stopped_because = reason
