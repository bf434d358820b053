"""Attempts to reach the network, and to harm the slot's own sockets."""

import socket

from onnxruntime.trying import Targets, attempt


@attempt
def open_a_tcp_socket(targets: Targets) -> None:
    socket.socket(socket.AF_INET, socket.SOCK_STREAM).close()


@attempt
def connect_over_tcp(targets: Targets) -> None:
    socket.create_connection(("127.0.0.1", targets["sink_port"]), 1).close()


@attempt
def open_a_udp_socket(targets: Targets) -> None:
    socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).close()


@attempt
def open_a_unix_socket(targets: Targets) -> None:
    socket.socket(socket.AF_UNIX, socket.SOCK_STREAM).close()


@attempt
def make_a_pair_of_sockets(targets: Targets) -> None:
    for end in socket.socketpair():
        end.close()


@attempt
def open_a_netlink_socket(targets: Targets) -> None:
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close()


@attempt
def open_a_packet_socket(targets: Targets) -> None:
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()


@attempt
def open_the_kernels_ciphers(targets: Targets) -> None:
    socket.socket(38, socket.SOCK_SEQPACKET, 0).close()
