"""What on the device may forbid a swap: the operator's hold and the machine's interlock.

A hold is a file under ``holds/`` that ``muster-agent hold`` writes and ``release`` removes. An
interlock is an input that must say ``1``: a regular file, or a Unix socket that says so to whoever
connects. Missing, unreadable, silent or saying anything else, it does not permit.
"""

import os
import socket
import stat
import time
from collections.abc import Mapping
from pathlib import Path

from muster_agent.storage.files import make_directory, unlink_durably, write_durably
from muster_protocol.wire.topics import check_name

DIRECTORY = "holds"
EVERY_SLOT = "+every"
"""A file name that no slot can have."""
REASON_BYTES_MAX = 200
ANSWER_BYTES_MAX = 64
ANSWER_SECONDS = 0.3
"""A socket that hasn't said all of it by then does not permit."""
PERMITTED = b"1"


class DeviceConditions:
    """Implements ``permit.SwapConditions`` on a directory and the configured interlocks."""

    def __init__(self, directory: Path, interlocks: Mapping[str, str]) -> None:
        self._holds = directory / DIRECTORY
        self._interlocks = interlocks

    def hold(self, slot: str) -> str:
        for name in (EVERY_SLOT, slot):
            try:
                reason = (self._holds / name).read_bytes()[:REASON_BYTES_MAX]
            except FileNotFoundError:
                continue
            except OSError as error:
                return f"the operator's hold, which can't be read: {error.strerror}"
            words = reason.decode(errors="replace").strip()
            return f"the operator's release: {words}" if words else "the operator's release"
        return ""

    def interlock(self, slot: str) -> str:
        place = self._interlocks.get(slot)
        if place is None:
            return ""
        try:
            answer = _read(place)
        except OSError as error:
            return f"the machine's interlock, missing: {place}: {error.strerror or error}"
        if answer.strip() == PERMITTED:
            return ""
        said = answer.strip().decode(errors="replace")[:20]
        return f"the machine's interlock: {place} says {said!r}, 1 permits"


def put_hold(directory: Path, slot: str | None, reason: str) -> None:
    """Hold one slot, or all; raises ProtocolError for an impossible name, OSError."""
    make_directory(directory / DIRECTORY)
    data = reason.encode()[:REASON_BYTES_MAX]
    write_durably(directory / DIRECTORY / _name(slot), data)


def remove_hold(directory: Path, slot: str | None) -> bool:
    """Take a hold away; False when there was none."""
    return unlink_durably(directory / DIRECTORY / _name(slot))


def _name(slot: str | None) -> str:
    return EVERY_SLOT if slot is None else check_name(slot, "slot")


def _read(place: str) -> bytes:
    mode = Path(place).stat().st_mode
    if stat.S_ISSOCK(mode):
        return _ask(place)
    if not stat.S_ISREG(mode):
        raise OSError("neither a file nor a Unix socket")
    descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return os.read(descriptor, ANSWER_BYTES_MAX)
    finally:
        os.close(descriptor)


def _ask(place: str) -> bytes:
    end = time.monotonic() + ANSWER_SECONDS
    data = b""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWER_SECONDS)
        connection.connect(place)
        while len(data) < ANSWER_BYTES_MAX:
            connection.settimeout(max(end - time.monotonic(), 0.001))
            piece = connection.recv(ANSWER_BYTES_MAX)
            if not piece:
                break
            data += piece
    return data
