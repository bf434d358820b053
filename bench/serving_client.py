"""Clients that ask when they are answered: ``serving_client.py ADDRESS CLIENTS SECONDS FILE``.

Closed loop: each of CLIENTS connections sends the request in FILE, byte for byte, waits for the
whole answer and sends it again, all on one thread. ADDRESS is a loopback port or a socket's path.
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


def main() -> None:
    address, count, seconds, file = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
    request = Path(file).read_bytes()
    clients = [connect(address) for _ in range(count)]
    poll = select.epoll()
    by_number = {each.fileno(): each for each in clients}
    since: dict[int, float] = {}
    data = {number: bytearray() for number in by_number}
    taken: list[float] = []
    wrong = 0
    for number, client in by_number.items():
        poll.register(number, select.EPOLLIN)
        since[number] = time.perf_counter()
        client.sendall(request)
    begun = time.perf_counter()
    while (now := time.perf_counter()) - begun < seconds:
        for number, _ in poll.poll(1.0):
            client = by_number[number]
            part = client.recv(262_144)
            if not part:
                sys.exit("the server closed a connection")
            data[number] += part
            if not whole(data[number]):
                continue
            wrong += not data[number].startswith(b"HTTP/1.1 200")
            now = time.perf_counter()
            taken.append(now - since[number])
            data[number].clear()
            since[number] = now
            client.sendall(request)
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
