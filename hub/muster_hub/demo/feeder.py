"""A real client of a device: feeds digits through the slot's socket and counts what came back.

Every request is sent once. Whatever does not come back whole and well-formed is a failed request;
nothing is tried again. Labels follow seconds later, by inference id, on the same connection.
"""

import http.client
import json
import os
import socket
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from muster_hub.demo import export
from muster_hub.demo.camera import CLEAN, Camera
from muster_hub.demo.digits import CLASSES, SIDE, Floats, Labels

TIMEOUT_SECONDS = 10.0
LABELS_PER_REQUEST = 64
FAILURES_KEPT = 20


class UnixConnection(http.client.HTTPConnection):
    """HTTP/1.1 over a Unix socket at any path, kept alive between requests."""

    def __init__(self, path: Path, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        super().__init__("localhost", timeout=timeout_seconds)
        self._path = path

    def connect(self) -> None:
        """Connect to the slot's Unix socket, however long its path is."""
        # A socket address holds 107 bytes; a path through an open directory is always shorter.
        directory = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY)
        try:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(self.timeout)
            self.sock.connect(f"/proc/self/fd/{directory}/{self._path.name}")
        finally:
            os.close(directory)


class WrongAnswer(Exception):
    """The device answered, but not with an inference; the message says how."""


@dataclass
class Tally:
    """What one device was asked and what it answered."""

    sent: int = 0
    answered: int = 0
    failed: int = 0
    labels_sent: int = 0
    failures: list[str] = field(default_factory=list)
    """The first few, in words."""
    latest: str = ""
    """Version that answered last."""
    seen: Counter[tuple[str, Camera]] = field(default_factory=Counter)
    """Answers by version and camera."""
    right: Counter[tuple[str, Camera]] = field(default_factory=Counter)

    def accuracy(self, version: str, camera: Camera) -> float | None:
        """Share of right answers of a version behind a camera; None when there was none."""
        seen = self.seen[version, camera]
        return self.right[version, camera] / seen if seen else None

    @property
    def versions(self) -> list[str]:
        """Versions that answered, in the order in which they first did."""
        return list(dict.fromkeys(version for version, _ in tuple(self.seen)))

    def fail(self, what: str) -> None:
        """Count a failed request and keep the first few reasons."""
        self.failed += 1
        if len(self.failures) < FAILURES_KEPT:
            self.failures.append(what)


class Feeder(threading.Thread):
    """Feeds one device at ``rate`` images a second until stopped; ``camera`` may be exchanged."""

    def __init__(
        self,
        device: str,
        socket_path: Path,
        model: str,
        images: Floats,
        labels: Labels,
        *,
        rate: float,
        label_delay_seconds: float,
        seed: int,
    ) -> None:
        super().__init__(name=f"feeder-{device}", daemon=True)
        self.device = device
        self.camera = CLEAN
        self.tally = Tally()
        self._connection = UnixConnection(socket_path)
        self._path = f"/v2/models/{model}"
        self._images = images
        self._labels = labels
        self._rate = rate
        self._label_delay_seconds = label_delay_seconds
        self._seed = seed
        self._random = np.random.default_rng(seed)
        self._waiting: deque[tuple[float, str, str]] = deque()
        self._ending = threading.Event()

    def run(self) -> None:
        """Ask at a fixed rate until ``finish``; the body of the thread."""
        due = time.monotonic() + self._random.uniform(0, 1 / self._rate)
        while not self._ending.wait(max(due - time.monotonic(), 0.0)):
            # A machine that stalled is not made up for by a burst: the rate is a ceiling.
            due = max(due + 1 / self._rate, time.monotonic())
            self._infer()
            self._send_labels(time.monotonic() - self._label_delay_seconds)
        self._send_labels(float("inf"))
        self._connection.close()

    def finish(self) -> Tally:
        """Stop after the request under way and the labels that wait."""
        self._ending.set()
        self.join()
        return self.tally

    def _infer(self) -> None:
        place = int(self._random.integers(len(self._images)))
        camera, label = self.camera, int(self._labels[place])
        image = camera.see(self._images[place : place + 1])
        tally = self.tally
        tally.sent += 1
        name = f"{self.device}-{self._seed}-{tally.sent}"
        try:
            version, predicted = read_answer(self._post("/infer", request(name, image)), name)
        except (WrongAnswer, OSError, http.client.HTTPException) as error:
            self._connection.close()
            tally.fail(f"{name}: {type(error).__name__}: {error}")
            return
        tally.answered += 1
        tally.latest = version
        tally.seen[version, camera] += 1
        tally.right[version, camera] += predicted == label
        self._waiting.append((time.monotonic(), name, CLASSES[label]))

    def _send_labels(self, older_than: float) -> None:
        due: list[dict[str, str]] = []
        while self._waiting and self._waiting[0][0] <= older_than:
            _, name, label = self._waiting.popleft()
            due.append({"id": name, "label": label})
        for start in range(0, len(due), LABELS_PER_REQUEST):
            batch = due[start : start + LABELS_PER_REQUEST]
            try:
                self._post("/labels", {"labels": batch})
            except (WrongAnswer, OSError, http.client.HTTPException) as error:
                self._connection.close()
                self.tally.fail(f"labels: {type(error).__name__}: {error}")
            else:
                self.tally.labels_sent += len(batch)

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        self._connection.request(
            "POST",
            self._path + path,
            body=json.dumps(body),
            headers={"Content-Type": "application/json"},
        )
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status != http.client.OK:
            raise WrongAnswer(f"HTTP {answer.status}: {text[:200].decode(errors='replace')}")
        try:
            parsed = json.loads(text)
        except ValueError:
            raise WrongAnswer(f"not JSON: {text[:200]!r}") from None
        if not isinstance(parsed, dict):
            raise WrongAnswer(f"not an object: {text[:200]!r}")
        return parsed


def request(name: str, image: Floats) -> dict[str, Any]:
    """An Open Inference Protocol V2 request for one image ``[1, 8, 8]``."""
    tensor = {
        "name": export.INPUT,
        "shape": [1, SIDE, SIDE],
        "datatype": "FP32",
        "data": image.ravel().tolist(),
    }
    return {"id": name, "inputs": [tensor]}


def read_answer(answer: dict[str, Any], name: str) -> tuple[str, int]:
    """Version and predicted class of an answer to ``name``; raises WrongAnswer if it is none."""
    quality = (answer.get("parameters") or {}).get("quality", "good")
    if answer.get("id") != name or quality != "good":
        raise WrongAnswer(f"expected an inference for {name}, got {str(answer)[:200]}")
    outputs = answer.get("outputs")
    output = outputs[0] if isinstance(outputs, list) and len(outputs) == 1 else {}
    if output.get("name") != export.OUTPUT or output.get("shape") != [1, len(CLASSES)]:
        raise WrongAnswer(f"expected {export.OUTPUT} of shape [1, 10], got {str(answer)[:200]}")
    scores = np.asarray(output.get("data"), dtype=np.float64).ravel()
    if scores.shape != (len(CLASSES),) or not abs(float(scores.sum()) - 1) < 1e-3:
        raise WrongAnswer(f"expected ten probabilities, got {str(answer)[:200]}")
    return str(answer.get("model_version")), int(scores.argmax())
