"""Attempts on the slot's own sockets; the last one ends its service where nothing forbids it."""

import socket

from onnxruntime.trying import Targets, attempt, call, descriptor_of, is_listener


@attempt
def connect_through_the_slots_listener(targets: Targets) -> None:
    """A listener that was shut down is a socket like any other: fast open connects it."""
    fast_open = 0x20000000
    descriptor = descriptor_of(is_listener)
    with socket.socket(fileno=descriptor) as end:
        try:
            end.sendto(b"x", fast_open, ("127.0.0.1", targets["sink_port"]))
        finally:
            end.detach()


@attempt
def send_many_at_once(targets: Targets) -> None:
    call("sendmmsg", descriptor_of(is_listener), None, 0, 0)


@attempt
def shorten_the_slots_queue(targets: Targets) -> None:
    with socket.socket(fileno=descriptor_of(is_listener)) as end:
        try:
            end.listen(128)
        finally:
            end.detach()


@attempt
def filter_the_slots_connections(targets: Targets) -> None:
    with socket.socket(fileno=descriptor_of(is_listener)) as end:
        try:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 0)
        finally:
            end.detach()


# Last: without a filter this ends the slot's service over TCP.


@attempt
def end_the_slots_service(targets: Targets) -> None:
    with socket.socket(fileno=descriptor_of(is_listener)) as end:
        try:
            end.shutdown(socket.SHUT_RDWR)
        finally:
            end.detach()
