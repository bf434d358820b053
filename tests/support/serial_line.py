"""A serial line of two pseudo terminals, and a PLC at one end of it that speaks Modbus RTU."""

import asyncio
import contextlib
import os
import pty
import tty
from collections.abc import AsyncIterator, Callable

from pymodbus.server import ModbusSerialServer
from pymodbus.simulator import DataType, SimData, SimDevice


def _carry(source: int, target: int) -> Callable[[], None]:
    def carry() -> None:
        with contextlib.suppress(OSError):  # Nobody has the other end open.
            os.write(target, os.read(source, 4096))

    return carry


@contextlib.asynccontextmanager
async def serial_line() -> AsyncIterator[tuple[str, str]]:
    """The two ends of a serial line: what is written at one is read at the other."""
    loop, files, names = asyncio.get_running_loop(), [], []
    for _ in range(2):
        ours, theirs = pty.openpty()
        tty.setraw(theirs)
        files += [ours, theirs]  # Theirs stays open too: a line is there while nobody listens.
        names.append(os.ttyname(theirs))
    here, there = files[0], files[2]
    loop.add_reader(here, _carry(here, there))
    loop.add_reader(there, _carry(there, here))
    try:
        yield names[0], names[1]
    finally:
        loop.remove_reader(here)
        loop.remove_reader(there)
        for file in files:
            os.close(file)


@contextlib.asynccontextmanager
async def plc(port: str) -> AsyncIterator[ModbusSerialServer]:
    """Registers 0-9 and coils 0-15 behind a serial port."""
    registers = [SimData(0, values=[0] * 10, datatype=DataType.REGISTERS)]
    bits = [SimData(0, values=[False] * 16, datatype=DataType.BITS)]
    device = SimDevice(1, simdata=(bits, bits, registers, registers))
    server = ModbusSerialServer(device, port=port, baudrate=115_200)
    await server.serve_forever(background=True)
    try:
        yield server
    finally:
        await server.shutdown()
