"""The input a model crashed on is kept where the policy says so, and only then."""

import os
import struct
from pathlib import Path

import hypothesis.strategies as st
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from muster_agent.observe.crash_inputs import KEPT_MAX, CrashInputs
from muster_agent.worker import last_input
from muster_agent.worker.events import Exited, Ready
from muster_agent.worker.last_input import LastInput, LastInputError
from muster_protocol.wire.manifest import Start
from support.hostile_models import endless_when_hot_onnx
from support.models import write_bundle
from support.workers import Client, Workers, infer_body

HOT = [1.0, 2.0, 300.0, 4.0]


@pytest.fixture
def kept(tmp_path: Path) -> CrashInputs:
    made = CrashInputs(tmp_path / "crashes")
    made.allow(True)
    return made


def crash(kept: CrashInputs, worker: str, **inputs: np.ndarray) -> str:
    """A worker that dies on these inputs; what is said of it."""
    path = kept.begin(worker)
    assert path is not None
    with LastInput(path) as last:
        last.begin(inputs)
    return kept.end(worker, crashed=True)


def test_a_worker_killed_in_a_request_leaves_the_input_it_was_at(
    kept: CrashInputs, tmp_path: Path
) -> None:
    manifest, sha256 = write_bundle(
        tmp_path / "b", runtimes=("onnx",), files={"onnx": endless_when_hot_onnx()}, start=Start()
    )
    with Workers(tmp_path) as slot:
        file = kept.begin("w0")
        worker = slot.start(tmp_path / "b", manifest, sha256, request_seconds=1.0, last_input=file)
        slot.wait(worker, Ready)
        worker.accept()
        with Client(slot.sockets.path) as client:
            assert client.call("POST", "/v2/models/dense/infer", infer_body([1.0] * 4))[0] == 200
            assert last_input.read(file) is None
            with pytest.raises((OSError, EOFError, ValueError)):
                client.call("POST", "/v2/models/dense/infer", infer_body(HOT))
        ended = slot.wait(worker, Exited)
    assert "kept in" in kept.end("w0", crashed=ended.returncode != 0)
    (archive,) = (tmp_path / "crashes").iterdir()
    assert archive.stat().st_mode & 0o077 == 0
    with np.load(archive) as found:
        np.testing.assert_array_equal(found["x"], np.array([HOT], np.float32))


def test_without_the_policy_nothing_is_noted_and_what_was_kept_goes(
    kept: CrashInputs, tmp_path: Path
) -> None:
    assert "kept in" in crash(kept, "w1", x=np.ones(3))
    kept.allow(False)
    assert list((tmp_path / "crashes").iterdir()) == []
    assert kept.begin("w2") is None
    assert kept.end("w2", crashed=True) == ""


def test_a_worker_that_ends_in_order_or_between_requests_leaves_nothing(
    kept: CrashInputs, tmp_path: Path
) -> None:
    kept.begin("w1")
    assert kept.end("w1", crashed=True) == ""
    path = kept.begin("w2")
    assert path is not None
    with LastInput(path) as last:
        last.begin({"x": np.ones(3)})
    assert kept.end("w2", crashed=False) == ""
    assert list((tmp_path / "crashes").iterdir()) == []


def test_only_the_last_few_are_kept(kept: CrashInputs, tmp_path: Path) -> None:
    for number in range(KEPT_MAX + 3):
        crash(kept, f"w{number}", x=np.full(3, number))
        os.utime(tmp_path / "crashes" / f"w{number}.npz", ns=(number, number))
    left = {path.name for path in (tmp_path / "crashes").iterdir()}
    assert left == {f"w{number}.npz" for number in range(3, KEPT_MAX + 3)}


def test_an_input_that_is_too_large_is_told_of_and_not_kept(kept: CrashInputs) -> None:
    reason = crash(kept, "w1", x=np.zeros(last_input.BYTES_MAX + 1, np.uint8))
    assert "not kept" in reason
    assert str(last_input.BYTES_MAX) in reason


def test_what_workers_left_when_the_agent_was_killed_is_no_crash(
    kept: CrashInputs, tmp_path: Path
) -> None:
    path = kept.begin("w1")
    assert path is not None
    CrashInputs(tmp_path / "crashes")
    assert not path.exists()


@given(
    inputs=st.dictionaries(
        st.text(min_size=1, max_size=8),
        hnp.arrays(
            st.sampled_from([np.float32, np.int8, np.uint8, np.float16, np.bool_, np.int64]),
            hnp.array_shapes(max_dims=3, max_side=4),
        ),
        max_size=3,
    )
)
def test_any_inputs_come_back_as_they_were(tmp_path_factory, inputs) -> None:
    path = tmp_path_factory.mktemp("last") / "w.input"
    LastInput.create(path)
    with LastInput(path) as last:
        last.begin(inputs)
        found = last_input.read(path)
        assert found is not None
        assert found.keys() == inputs.keys()
        for name, array in inputs.items():
            np.testing.assert_array_equal(found[name], array)
            assert found[name].dtype == array.dtype
        last.end()
    assert last_input.read(path) is None


@pytest.mark.parametrize("damage", [b"", b"MUSTLAST", b"x" * 100])
def test_a_damaged_file_is_an_error_in_words(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "w.input").write_bytes(damage)
    with pytest.raises(LastInputError, match=r"w\.input"):
        last_input.read(tmp_path / "w.input")


@pytest.mark.parametrize(
    "name", ["file", "allow_pickle", "a/../b", "x\0y", "n" * 70_000, "", "x.npy"]
)
def test_a_tensor_of_any_name_is_kept(kept: CrashInputs, tmp_path: Path, name: str) -> None:
    """What is noted is written by a model's process: no name of its making ends the agent."""
    assert "kept in" in crash(kept, "w", **{name: np.ones(2, np.float32)})
    with np.load(tmp_path / "crashes" / "w.npz") as found:
        (array,) = found.values()
        np.testing.assert_array_equal(array, np.ones(2, np.float32))


@given(data=st.binary(max_size=200))
def test_whatever_a_hostile_worker_notes_is_kept_or_told_of(tmp_path_factory, data: bytes) -> None:
    kept = CrashInputs(tmp_path_factory.mktemp("crashes"))
    kept.allow(True)
    path = kept.begin("w")
    assert path is not None
    with path.open("r+b") as file:
        file.write(struct.pack("<8sII", b"MUSTLAST", 1, len(data)))
        file.seek(4096)
        file.write(data)
    assert kept.end("w", crashed=True)


KINDS = ["|O", "<U5", "|V100000000", "<f4,<f4", "M8[s]", "nonsense", "<f4"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [[2**40], [-1], [0, 2**62], [3]])
def test_a_forged_tensor_is_told_of(kept: CrashInputs, kind: str, shape: list[int]) -> None:
    path = kept.begin("w")
    assert path is not None
    data = msgspec.msgpack.encode([("x", kind, shape, bytes(12))])
    with path.open("r+b") as file:
        file.write(struct.pack("<8sII", b"MUSTLAST", 1, len(data)))
        file.seek(4096)
        file.write(data)
    words = kept.end("w", crashed=True)
    assert ("kept in" in words) == (kind == "<f4" and shape in ([3], [-1]))
