"""The socket that the API listens on."""

import socket

BACKLOG = 2048
"""Connections that wait to be accepted: a fleet that comes back at once connects at once."""


def listen(host: str, port: int) -> socket.socket:
    """A TCP socket that listens on ``host`` (IPv4 or IPv6) and ``port``; raises OSError.

    Accepted connections send at once. The server writes an answer's head and body apart, and with
    Nagle's algorithm the body would wait for the client's delayed acknowledgement: 40 ms an answer.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
