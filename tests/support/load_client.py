"""A client process that asks without pause, by every habit a client may have.

``load_client.py SOCKET MODEL`` runs until its standard input closes, then prints JSON
``{"answers", "failures", "versions"}``. A failure is any first attempt without a correct answer:
there are no retries here.
"""

import json
import socket
import sys
import threading
from collections import Counter

KEEP_ALIVE, PIPELINED, IDLE, FRESH, DRIBBLED = (
    "keep-alive",
    "pipelined",
    "idle",
    "fresh",
    "dribbled",
)


class Habit(threading.Thread):
    def __init__(self, path: str, model: str, kind: str, stop: threading.Event) -> None:
        super().__init__(name=kind)
        self.path, self.model, self.kind, self.stop = path, model, kind, stop
        self.answers: Counter[str] = Counter()
        self.failures: list[str] = []
        self.count = 0

    def run(self) -> None:
        connection = self.connect()
        while not self.stop.is_set():
            try:
                if self.kind == FRESH:
                    connection = self.connect()
                self.ask(*connection)
            except (OSError, ValueError, AssertionError) as error:
                self.failures.append(f"{self.kind}: {type(error).__name__}: {error}")
                connection = self.connect()
            if self.kind == IDLE:
                self.stop.wait(0.15)

    def connect(self) -> tuple[socket.socket, object]:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(30)
        connection.connect(self.path)
        return connection, connection.makefile("rb")

    def ask(self, connection: socket.socket, stream: object) -> None:
        ids = []
        burst = b""
        for _ in range(8 if self.kind == PIPELINED else 1):
            self.count += 1
            ids.append(f"{self.kind}-{self.count}")
            burst += self.request(ids[-1])
        if self.kind == DRIBBLED:
            for start in range(0, len(burst), 50):
                connection.sendall(burst[start : start + 50])
                self.stop.wait(0.002)
        else:
            connection.sendall(burst)
        for identifier in ids:
            self.answers[self.answer(stream, identifier)] += 1

    def request(self, identifier: str) -> bytes:
        entry = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}
        body = json.dumps({"id": identifier, "inputs": [entry]}).encode()
        close = "Connection: close\r\n" if self.kind == FRESH else ""
        head = f"POST /v2/models/{self.model}/infer HTTP/1.1\r\nHost: x\r\n{close}"
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    def answer(self, stream: object, identifier: str) -> str:
        status = stream.readline()  # type: ignore[attr-defined]  # a buffered reader
        assert status.startswith(b"HTTP/1.1 200 "), status
        size = 0
        while (line := stream.readline().strip()) != b"":  # type: ignore[attr-defined]  # a file
            name, _, value = line.partition(b":")
            assert name.lower() != b"connection" or self.kind == FRESH, "told to close"
            if name.lower() == b"content-length":
                size = int(value)
        answer = json.loads(stream.read(size))  # type: ignore[attr-defined]  # a file
        assert answer["id"] == identifier, answer
        assert abs(sum(answer["outputs"][0]["data"]) - 1) < 1e-5, answer
        return str(answer["model_version"])


def main() -> None:
    path, model = sys.argv[1:]
    stop = threading.Event()
    kinds = [KEEP_ALIVE, KEEP_ALIVE, PIPELINED, IDLE, IDLE, FRESH, DRIBBLED]
    habits = [Habit(path, model, kind, stop) for kind in kinds]
    for habit in habits:
        habit.start()
    sys.stdin.read()
    stop.set()
    versions: Counter[str] = Counter()
    for habit in habits:
        habit.join()
        versions += habit.answers
    failures = [failure for habit in habits for failure in habit.failures]
    total = versions.total()
    print(json.dumps({"answers": total, "failures": failures, "versions": dict(versions)}))


if __name__ == "__main__":
    main()
