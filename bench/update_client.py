"""A client at a steady rate: ``update_client.py SOCKET RATE``; stops when its input closes.

Open loop: request k is due at start + k / rate, and its latency counts from then, so that a server
that stalls can't slow the questions down. Prints a JSON list of [due, seconds, ok], due on the
monotonic clock. Each request is a first attempt over one kept connection; there are no retries.
"""

import json
import select
import socket
import sys
import time
from typing import BinaryIO

BODY = json.dumps(
    {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1.0, 2.0, 3.0, 4.0]}]}
).encode()


def main() -> None:
    address, rate = sys.argv[1], float(sys.argv[2])
    client, stream = connect(address)
    samples = []
    due = time.monotonic()
    while not select.select([sys.stdin], [], [], max(due - time.monotonic(), 0))[0]:
        try:
            client.sendall(question())
            ok = answered(stream)
        except OSError:
            ok = False
        samples.append((due, time.monotonic() - due, ok))
        if not ok:
            client, stream = connect(address)
        due += 1 / rate
    print(json.dumps(samples))


def question() -> bytes:
    head = (
        "POST /v2/models/dense/infer HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(BODY)}\r\n\r\n"
    )
    return head.encode() + BODY


def connect(address: str) -> tuple[socket.socket, BinaryIO]:
    while True:
        try:
            if address.isdigit():
                client = socket.create_connection(("127.0.0.1", int(address)))
            else:
                client = socket.socket(socket.AF_UNIX)
                client.connect(address)
        except OSError:
            time.sleep(0.005)  # the service is starting
            continue
        return client, client.makefile("rb")


def answered(stream: BinaryIO) -> bool:
    status = stream.readline()
    size = 0
    while (line := stream.readline().strip()) != b"":
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            size = int(value)
    body = stream.read(size)
    return status.startswith(b"HTTP/1.1 200") and b"probabilities" in body


if __name__ == "__main__":
    main()
