"""A serial line (RTU) of which every part of a feed has the same client: they take turns."""

import asyncio

from pymodbus.client import AsyncModbusSerialClient

from muster_agent.base.feed_settings import ModbusAddress, Parity

PARITIES: dict[Parity, str] = {"none": "N", "even": "E", "odd": "O"}
"""As pymodbus names them."""


class SerialLine:
    """An open port: one request at a time, whoever asks."""

    def __init__(self, address: ModbusAddress) -> None:
        self.turn = asyncio.Lock()
        self.users = 0
        self.client = AsyncModbusSerialClient(
            address.serial_port,
            baudrate=address.baudrate,
            parity=PARITIES[address.parity],
            stopbits=address.stop_bits,
            timeout=address.timeout_seconds,
            retries=0,
            reconnect_delay=0,
        )


_LINES: dict[str, SerialLine] = {}
"""Those in use, by the port's name."""


def join(address: ModbusAddress) -> SerialLine:
    """The line of a port, for one more."""
    line = _LINES.get(address.serial_port)
    if line is None:
        line = _LINES[address.serial_port] = SerialLine(address)
    line.users += 1
    return line


def leave(address: ModbusAddress, line: SerialLine) -> None:
    """One less; the last closes the port."""
    line.users -= 1
    if line.users == 0:
        line.client.close()
        if _LINES.get(address.serial_port) is line:
            del _LINES[address.serial_port]
