"""A slot's sockets: opened once by the supervisor, inherited by every worker of the slot.

Besides the listening sockets there is a pair through which a worker that pauses hands its open
connections to whichever worker accepts next; with nobody accepting they wait in it, as new
connections wait in the listening socket's backlog. So no client sees a swap.
"""

import contextlib
import os
import socket
from pathlib import Path

from muster_protocol.wire.errors import MusterError

PATH_BYTES_MAX = 107
BACKLOG = 128
HANDOVER_BYTES = 64 * 1024
"""Unanswered bytes that may travel with a connection."""


class SlotSocketError(MusterError):
    """A slot's address can't be opened."""


class SlotSockets:
    """Listening sockets plus the two ends of the handover pair."""

    def __init__(self, path: Path, listeners: tuple[socket.socket, ...]) -> None:
        self.path = path
        self.listeners = listeners
        self.handover_out, self.handover_in = socket.socketpair(
            socket.AF_UNIX, socket.SOCK_SEQPACKET
        )
        for end in (self.handover_out, self.handover_in):
            end.settimeout(0.0)
        self.handover_out.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * HANDOVER_BYTES)

    @property
    def tcp_port(self) -> int | None:
        """Port of the loopback listener, if there is one."""
        for listener in self.listeners:
            if listener.family == socket.AF_INET:
                return int(listener.getsockname()[1])
        return None

    def close(self) -> None:
        """Close everything and remove the path; connections waiting in the pair are reset."""
        for each in (*self.listeners, self.handover_out, self.handover_in):
            each.close()
        self.path.unlink(missing_ok=True)


def open_listeners(path: Path, tcp_port: int | None = None) -> SlotSockets:
    """Open a slot's Unix socket, and loopback TCP when a port is given (0 picks a free one).

    A stale socket file is replaced; one that somebody answers on is not. Raises SlotSocketError.
    """
    check_path(path)
    listeners: list[socket.socket] = []
    try:
        listeners.append(_unix(path))
        if tcp_port is not None:
            listeners.append(_tcp(tcp_port))
        for listener in listeners:
            listener.settimeout(0.0)
            listener.listen(BACKLOG)
        return SlotSockets(path, tuple(listeners))
    except OSError as error:
        for listener in listeners:
            listener.close()
        where = path if len(listeners) == 0 else f"127.0.0.1:{tcp_port}"
        raise SlotSocketError(f"can't listen on {where}: {error.strerror or error}") from None


def check_path(path: Path) -> None:
    """Raise SlotSocketError when the kernel can't hold the path."""
    size = len(os.fsencode(path))
    if size > PATH_BYTES_MAX:
        raise SlotSocketError(
            f"{path}: a socket path of {size} bytes, the limit is {PATH_BYTES_MAX}: "
            "set a shorter run_dir in agent.toml"
        )


def _unix(path: Path) -> socket.socket:
    path.parent.mkdir(parents=True, exist_ok=True)
    _unlink_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(os.fspath(path))
        path.chmod(0o660)
    except OSError:
        listener.close()
        raise
    return listener


def _unlink_stale(path: Path) -> None:
    if not path.is_socket():
        if path.exists():
            raise SlotSocketError(f"{path} exists and is not a socket: move it away")
        return
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        probe.settimeout(1.0)
        probe.connect(os.fspath(path))
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
    else:
        raise SlotSocketError(f"{path}: another process serves it: is an agent already running?")
    finally:
        probe.close()


def _tcp(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
    except OSError:
        listener.close()
        raise
    return listener
