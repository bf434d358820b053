"""Passing an open client connection, and its unanswered bytes, to another worker."""

import array
import os
import socket
from enum import Enum
from typing import NamedTuple

from muster_agent.worker.slot_socket import HANDOVER_BYTES

_EMPTY = b"\0"
_WITH_BYTES = b"\1"
"""A packet can't be empty, so its first byte says nothing but that it isn't."""


class Outcome(Enum):
    """What became of a connection that was passed on."""

    SENT = "sent"
    """The other worker has it."""
    FULL = "full"
    """Try again when the pair can be written."""
    IMPOSSIBLE = "impossible"
    """It can't be passed on: this worker has to end it."""


class Taken(NamedTuple):
    """A client's connection, and bytes of it that were read already."""

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
    """Take one connection over; None when another worker was quicker, or for what is none.

    Who sent it may be a hostile model: anything but a connection is closed, not kept.
    """
    try:
        data, rights, flags, _ = source.recvmsg(
            1 + HANDOVER_BYTES, socket.CMSG_SPACE(4), socket.MSG_DONTWAIT
        )
    except (BlockingIOError, ConnectionError):
        return None
    descriptors = array.array("i")
    for level, kind, content in rights:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
    whole = len(descriptors) == 1 and not flags & (socket.MSG_CTRUNC | socket.MSG_TRUNC)
    client = _connection(descriptors[0]) if whole else None
    if client is not None:
        return Taken(client, data[1:])
    for descriptor in descriptors:
        os.close(descriptor)
    return None


def _connection(descriptor: int) -> socket.socket | None:
    """The descriptor as a connected client of a slot; None, and not closed, if it is none."""
    try:
        found = socket.socket(fileno=descriptor)
    except OSError:  # no socket
        return None
    listens = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    known = found.family in {socket.AF_UNIX, socket.AF_INET}
    if known and found.type == socket.SOCK_STREAM and not listens:
        return found  # One that is not connected ends with the server's first look at it.
    found.detach()
    return None
