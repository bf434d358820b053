"""What the system has counted of a connection: bytes that are here before a message is whole."""

import contextlib
import socket
import struct

_RECEIVED_AT = 128
"""Of ``tcpi_bytes_received`` in Linux's ``struct tcp_info``, there since Linux 4.1."""
_RECEIVED = struct.Struct("=Q")
_INFO_BYTES = _RECEIVED_AT + _RECEIVED.size


def received_bytes(opened: object) -> int:
    """Bytes received over a TCP socket, TLS and all; 0 without one, or where none is told."""
    if not isinstance(opened, socket.socket):
        return 0
    with contextlib.suppress(OSError):
        info = opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
        if len(info) == _INFO_BYTES:
            return int(_RECEIVED.unpack_from(info, _RECEIVED_AT)[0])
    return 0
