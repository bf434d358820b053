"""Two pumps that a model tells well from worn, and what becomes of it when both are replaced.

The new pumps read otherwise, and each in its own way: the old model is wrong about both, and one
that learnt from a single pump is wrong about the other.
"""

import csv
import http.client
import itertools
import json
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muster_hub.demo.feeder import UnixConnection

COLUMNS = ("flow", "temp", "pressure", "vibration")
STATES = ("ok", "worn", "blocked")
SHARES = (0.5, 0.25, 0.25)
CENTRES = np.array([[0, 0, 0, 0], [0, 3, 0, 3], [-3, 0, 3, 0]], np.float64)
NEW_PUMP = np.array([0, 3, 0, 3], np.float64)
SHIFTS: Mapping[str, NDArray[np.float64]] = {"pump-1": NEW_PUMP, "pump-2": -NEW_PUMP}
"""What each pump's replacement adds to its readings."""
NOISE = 0.5
ROWS_PER_SECOND = 30.0
LABELS_PER_REQUEST = 20
FAULTS_KEPT = 5


def readings(
    rng: np.random.Generator, pump: str, count: int, *, replaced: bool
) -> tuple[NDArray[np.float64], list[str]]:
    """Rows ``[count, 4]`` and the state that each is of."""
    states = rng.choice(len(STATES), size=count, p=SHARES)
    rows = CENTRES[states] + rng.normal(scale=NOISE, size=(count, len(COLUMNS)))
    return rows + (SHIFTS[pump] if replaced else 0.0), [STATES[state] for state in states]


def state_of(pump: str, row: Iterable[float]) -> str:
    """What a person who looks at a replaced pump says of its readings."""
    apart = CENTRES + SHIFTS[pump] - np.array([*row])
    return STATES[int(np.linalg.norm(apart, axis=1).argmin())]


def write_history(path: Path, rows: int) -> None:
    """Labelled rows of both pumps before they were replaced, in order of time."""
    rng = np.random.default_rng(4)
    of = {pump: readings(rng, pump, rows // 2, replaced=False) for pump in SHIFTS}
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow([*COLUMNS, "label", "device", "sha256", "stratum"])
        for number in range(rows // 2):
            for pump, (values, states) in of.items():
                table.writerow([*values[number].round(4), states[number], pump, "", ""])


@dataclass
class Tally:
    """Answers by version: how many, and how many were right."""

    answers: dict[str, int] = field(default_factory=dict)
    right: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


class Pump(threading.Thread):
    """Asks its device's model for each reading, and says later what was right."""

    def __init__(self, name: str, socket: Path, seed: int) -> None:
        super().__init__(name=name, daemon=True)
        self.replaced = False
        self.tally = Tally()
        """Since the pump was replaced, once it was."""
        self._connection = UnixConnection(socket)
        self._rng = np.random.default_rng(seed)
        self._ending = threading.Event()

    def replace(self) -> None:
        self.replaced = True
        self.tally = Tally(faults=self.tally.faults)

    def run(self) -> None:
        labels: list[dict[str, str]] = []
        for number in itertools.count():
            if self._ending.wait(1 / ROWS_PER_SECOND):
                break
            try:
                labels.append(self._ask(f"{self.name}-{number}"))
                if len(labels) >= LABELS_PER_REQUEST:
                    self._post("/labels", {"labels": labels})
                    labels = []
            except (OSError, ValueError, http.client.HTTPException) as error:
                self._connection.close()
                if len(self.tally.faults) < FAULTS_KEPT:
                    self.tally.faults.append(f"{type(error).__name__}: {error}")
        self._connection.close()

    def finish(self) -> None:
        self._ending.set()
        self.join()

    def _ask(self, name: str) -> dict[str, str]:
        tally = self.tally
        rows, (state,) = readings(self._rng, self.name, 1, replaced=self.replaced)
        tensor = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": rows[0].tolist()}
        answer = self._post("/infer", {"id": name, "inputs": [tensor]})
        *_, scores = answer["outputs"]
        said = sorted(STATES)[int(np.argmax(scores["data"]))]
        version = answer["model_version"]
        tally.answers[version] = tally.answers.get(version, 0) + 1
        tally.right[version] = tally.right.get(version, 0) + (said == state)
        return {"id": name, "label": state}

    def _post(self, path: str, body: dict[str, object]) -> Any:
        self._connection.request(
            "POST", f"/v2/models/pump{path}", body=json.dumps(body),
            headers={"Content-Type": "application/json"},
        )  # fmt: skip
        answer = self._connection.getresponse()
        said = answer.read()
        if answer.status != http.client.OK:
            raise ValueError(f"HTTP {answer.status}: {said[:200]!r}")
        return json.loads(said)
