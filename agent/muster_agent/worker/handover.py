"""Passing an open client connection, and its unanswered bytes, to another worker."""

import array
import socket
from enum import Enum
from typing import NamedTuple

from muster_agent.worker.slot_socket import HANDOVER_BYTES

_EMPTY = b"\0"
_WITH_BYTES = b"\1"
"""A packet can't be empty, so its first byte says nothing but that it isn't."""


class Outcome(Enum):
    SENT = "sent"
    FULL = "full"
    """Try again when the pair can be written."""
    IMPOSSIBLE = "impossible"


class Taken(NamedTuple):
    client: socket.socket
    pending: bytes


def send(target: socket.socket | None, client: socket.socket, pending: bytes) -> Outcome:
    """Send one connection; the caller then closes its own copy."""
    if target is None or len(pending) > HANDOVER_BYTES:
        return Outcome.IMPOSSIBLE
    rights = array.array("i", [client.fileno()])
    head = _WITH_BYTES if pending else _EMPTY
    try:
        target.sendmsg([head, pending], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    except BlockingIOError:
        return Outcome.FULL
    except OSError:
        return Outcome.IMPOSSIBLE
    return Outcome.SENT


def receive(source: socket.socket) -> Taken | None:
    """Take one connection over; None when another worker was quicker."""
    try:
        data, rights, flags, _ = source.recvmsg(1 + HANDOVER_BYTES, socket.CMSG_SPACE(4))
    except BlockingIOError:
        return None
    descriptors = array.array("i")
    for level, kind, content in rights:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
    if not descriptors or flags & socket.MSG_CTRUNC:
        return None
    return Taken(socket.socket(fileno=descriptors[0]), data[1:])
