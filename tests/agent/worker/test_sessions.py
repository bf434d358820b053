"""A model that remembers: each connection has its own, or all share one, as its manifest says."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from muster_agent.runtimes import ModelError, OutOfMemoryError
from muster_agent.worker.events import Ready
from muster_agent.worker.sessions import SESSIONS_MAX, SessionModel
from muster_protocol.wire.tensors import ModelState
from support import shapes
from support.workers import Client, Workers, infer_body


def sums(client: Client, *values: float) -> list[float]:
    """What a client is answered, one request after the other."""
    got = []
    for value in values:
        status, answer = client.call("POST", "/v2/models/shaped/infer", infer_body([value]))
        assert status == 200, answer
        got.append(answer["outputs"][0]["data"][0])
    return got


@pytest.mark.parametrize(
    ("sessions", "second"), [("per_connection", [10.0, 11.0]), ("single", [13.0, 14.0])]
)
def test_a_clients_state_is_its_own_or_everybodys_as_declared(
    tmp_path: Path, sessions: Any, second: list[float]
) -> None:
    shaped = shapes.running_sum(state=ModelState("internal", sessions=sessions))
    manifest, sha256 = shaped.write(tmp_path / "bundle")
    with Workers(tmp_path) as workers:
        worker = workers.start(tmp_path / "bundle", manifest, sha256, "tflite")
        workers.wait(worker, Ready)
        worker.accept()
        path = workers.sockets.path
        with Client(path) as ann, Client(path) as bob:
            # The golden vectors, which were run before, have left nothing behind.
            assert sums(ann, 1, 2) == [1.0, 3.0]
            assert sums(bob, 10, 1) == second
            assert sums(ann, 1) == [4.0 if sessions == "per_connection" else 15.0]
        with Client(path) as late:
            assert sums(late, 5) == [5.0 if sessions == "per_connection" else 20.0]


class Counting:
    """A model that counts its runs."""

    inputs = outputs = ()

    def __init__(self) -> None:
        self.runs = 0

    def keep(self, names: Sequence[str]) -> None:
        """It has no outputs to leave out."""

    def run(self, inputs: Any) -> dict[str, Any]:
        self.runs += 1
        return {"runs": np.array(self.runs)}


def loader(most: int) -> Callable[[], Counting]:
    made: list[Counting] = []

    def load() -> Counting:
        if len(made) == most:
            raise OutOfMemoryError("out of memory")
        made.append(Counting())
        return made[-1]

    return load


def test_a_session_that_ends_is_forgotten_and_makes_room_for_another() -> None:
    model = SessionModel(loader(2 * SESSIONS_MAX))
    for session in range(SESSIONS_MAX):
        model.enter(session)
        model.run({})
    model.enter(99)
    with pytest.raises(ModelError, match=f"{SESSIONS_MAX} connections have a session .* close one"):
        model.run({})
    model.leave(3)
    assert model.run({})["runs"] == 1
    model.enter(4)
    assert model.run({})["runs"] == 2


def test_where_memory_ends_one_more_session_is_refused_and_the_others_go_on() -> None:
    model = SessionModel(loader(2))
    for session in (1, 2):
        model.enter(session)
        assert model.run({})["runs"] == 1
    model.enter(3)
    with pytest.raises(ModelError, match=r"no memory for one more session .* beside 2"):
        model.run({})
    model.enter(1)
    assert model.run({})["runs"] == 2
