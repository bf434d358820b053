"""A PLC that speaks Modbus TCP and an OPC UA server, both by their makers' libraries."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import Self

from asyncua import Server, ua
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from muster_agent.base.system_clock import SystemClock
from muster_agent.feeds.ending import end
from muster_agent.feeds.inlet import Inlet
from muster_agent.feeds.samples import Arrival, Sample
from support.ports import free_port

logging.getLogger("asyncua").setLevel(logging.CRITICAL)
NAMESPACE = "urn:plant:line-1"
PATIENCE_SECONDS = 60.0


class Plc:
    """Holding registers 0-9 and 20-29 with a gap between, input registers 0-3, coils 0-15."""

    def __init__(self, port: int | None = None) -> None:
        self.port = port or free_port()
        registers = [
            SimData(0, values=[0] * 10, datatype=DataType.REGISTERS),
            SimData(20, values=[0] * 10, datatype=DataType.REGISTERS),
        ]
        bits = [SimData(0, values=[False] * 16, datatype=DataType.BITS)]
        inputs = [SimData(0, values=[7] * 4, datatype=DataType.REGISTERS)]
        self._device = SimDevice(1, simdata=(bits, bits, registers, inputs))
        self.server: ModbusTcpServer | None = None

    async def __aenter__(self) -> Self:
        self.server = ModbusTcpServer(self._device, address=("127.0.0.1", self.port))
        await self.server.serve_forever(background=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self.server is not None
        await self.server.shutdown()

    async def set(self, register: int, values: list[int]) -> None:
        assert self.server is not None
        await self.server.async_setValues(1, 16, register, values)

    async def get(self, register: int, count: int = 1) -> list[int]:
        assert self.server is not None
        return list(await self.server.async_getValues(1, 3, register, count))

    async def coil(self, address: int) -> bool:
        assert self.server is not None
        return bool((await self.server.async_getValues(1, 1, address, 1))[0])


class OpcuaPlant:
    """Variables under ``Objects/Line`` in a namespace of the plant, by string ids."""

    def __init__(self, port: int | None = None, **values: object) -> None:
        self.port = port or free_port()
        self._values = values
        self.url = f"opc.tcp://127.0.0.1:{self.port}/plant/"
        self.nodes: dict[str, object] = {}

    async def __aenter__(self) -> Self:
        self.server = Server()
        await self.server.init()
        self.server.set_endpoint(self.url)
        await self.server.register_namespace("urn:something:before")
        index = await self.server.register_namespace(NAMESPACE)
        line = await self.server.nodes.objects.add_object(index, "Line")
        for name, value in self._values.items():
            node = await line.add_variable(ua.NodeId(f"Line.{name}", index), name, value)
            await node.set_writable()
            self.nodes[name] = node
        await self.server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.server.stop()

    async def set(self, name: str, value: float, status: int = 0) -> None:
        data = ua.DataValue(ua.Variant(value, ua.VariantType.Double), ua.StatusCode(status))
        await self.server.write_attribute_value(self.nodes[name].nodeid, data)  # type: ignore[attr-defined]  # no stubs


class Heard:
    """What a source gave to its inlet, drained by tests."""

    def __init__(self) -> None:
        self.inlet = Inlet(SystemClock(), 10_000, lambda: None)
        self.arrivals: list[Arrival] = []

    async def until(self, holds: Callable[[Arrival], bool]) -> Arrival:
        """The next arrival of which this is true; those before it are dropped."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                self.arrivals += self.inlet.drain()
                while self.arrivals:
                    if holds(arrival := self.arrivals.pop(0)):
                        return arrival
                await asyncio.sleep(0.01)  # The source gives when it has something.

    async def sample(self, signal: str, holds: Callable[[Sample], bool] = lambda _: True) -> Sample:
        found = await self.until(
            lambda each: isinstance(each, Sample) and each.signal == signal and holds(each)
        )
        assert isinstance(found, Sample)
        return found


@contextlib.asynccontextmanager
async def running(source: object) -> AsyncIterator["asyncio.Task[None]"]:
    """A source that runs meanwhile."""
    task = asyncio.create_task(source.run())  # type: ignore[attr-defined]  # of the double
    try:
        yield task
    finally:
        await end([task])
