"""Clients that ask when they are answered: ``serving_client.py ADDRESS CLIENTS SECONDS FILE``.

Closed loop: each of CLIENTS connections sends the request in FILE, byte for byte, waits for the
whole answer and sends it again, all on one thread, where none waits for another. ADDRESS is
a loopback port or a socket's path.
Prints JSON: requests a second, percentiles in milliseconds, answers that were no 200.
"""

import json
import select
import socket
import sys
import time
from pathlib import Path


def connect(address: str) -> socket.socket:
    if address.isdigit():
        client = socket.create_connection(("127.0.0.1", int(address)))
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client
    client = socket.socket(socket.AF_UNIX)
    client.connect(address)
    return client


def whole(data: bytearray) -> bool:
    """Whether a whole answer has come; every server here says its length."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return False
    head = bytes(data[:end]).lower()
    at = head.index(b"content-length:") + len(b"content-length:")
    return len(data) >= end + 4 + int(head[at:].split(b"\r\n", 1)[0])


class Client:
    """One connection: what of its question is not sent yet, and what of the answer has come."""

    def __init__(self, address: str, question: bytes, poll: select.epoll) -> None:
        self._poll, self._question = poll, memoryview(question)
        self._socket = connect(address)
        self._socket.settimeout(0.0)
        self.number = self._socket.fileno()
        self.number = self._socket.fileno()
        self._unsent = self._question[:0]
        self.data = bytearray()
        self.since = 0.0
        poll.register(self.number, select.EPOLLIN)

    def ask(self, now: float) -> None:
        self.data.clear()
        self.since, self._unsent = now, self._question
        if not self.send():
            self._poll.modify(self.number, select.EPOLLIN | select.EPOLLOUT)

    def go_on(self) -> None:
        if self._unsent and self.send():
            self._poll.modify(self.number, select.EPOLLIN)

    def send(self) -> bool:
        """Whether the whole question is with the kernel."""
        try:
            while self._unsent:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            return False
        return True

    def receive(self) -> None:
        part = self._socket.recv(262_144)
        if not part:
            sys.exit("the server closed a connection")
        self.data += part


def main() -> None:
    address, count, seconds, file = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
    request = Path(file).read_bytes()
    poll = select.epoll()
    clients = [Client(address, request, poll) for _ in range(count)]
    by_number = {client.number: client for client in clients}
    taken: list[float] = []
    wrong = 0
    for client in clients:
        client.ask(time.perf_counter())
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds:
        for number, events in poll.poll(1.0):
            client = by_number[number]
            if events & select.EPOLLOUT:
                client.go_on()
            if not events & ~select.EPOLLOUT:
                continue
            client.receive()
            if not whole(client.data):
                continue
            wrong += not client.data.startswith(b"HTTP/1.1 200")
            now = time.perf_counter()
            taken.append(now - client.since)
            client.ask(now)
    spent = time.perf_counter() - begun
    taken.sort()
    print(
        json.dumps(
            {
                "requests_per_second": len(taken) / spent,
                "p50_ms": taken[len(taken) // 2] * 1e3,
                "p99_ms": taken[min(int(len(taken) * 0.99), len(taken) - 1)] * 1e3,
                "wrong": wrong,
            }
        )
    )


if __name__ == "__main__":
    main()
