"""A model reads its own files and no others, wherever in it a tensor says where its data lie."""

import contextlib
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from muster_agent.isolation.cage import Rung
from muster_agent.runtimes.onnx_file import DEPTH_MAX, OnnxFileError, external_files
from muster_agent.worker.events import Failed, Ready
from muster_protocol.wire.errors import Refusal
from support.damaged_models import mutated
from support.models import dense_onnx, softmax, weights, write_bundle, write_file
from support.workers import WAIT_SECONDS, Workers


def outside(name: str) -> Any:
    """A tensor whose data lie in a file of that name."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=name)
    tensor.external_data.add(key="offset", value="0")
    return tensor


def sparse(name: str) -> Any:
    return onnx.SparseTensorProto(values=outside(name), dims=[1])


def sparse_indices(name: str) -> Any:
    return onnx.SparseTensorProto(indices=outside(name), dims=[1])


def graph_with(**fields: Any) -> Any:
    return onnx.GraphProto(name="g", **fields)


def node_with(**fields: Any) -> Any:
    return onnx.NodeProto(op_type="X", attribute=[onnx.AttributeProto(name="a", **fields)])


def model_with(graph: Any) -> bytes:
    return bytes(onnx.ModelProto(ir_version=8, graph=graph).SerializeToString())


PLACES: dict[str, Callable[[str], bytes]] = {
    "an initializer": lambda n: model_with(graph_with(initializer=[outside(n)])),
    "a sparse initializer": lambda n: model_with(graph_with(sparse_initializer=[sparse(n)])),
    "its indices": lambda n: model_with(graph_with(sparse_initializer=[sparse_indices(n)])),
    "a node's tensor": lambda n: model_with(graph_with(node=[node_with(t=outside(n))])),
    "a node's tensors": lambda n: model_with(graph_with(node=[node_with(tensors=[outside(n)])])),
    "a node's sparse tensor": lambda n: model_with(
        graph_with(node=[node_with(sparse_tensor=sparse(n))])
    ),
    "a node's sparse tensors": lambda n: model_with(
        graph_with(node=[node_with(sparse_tensors=[sparse(n)])])
    ),
    "a graph in a node": lambda n: model_with(
        graph_with(node=[node_with(g=graph_with(initializer=[outside(n)]))])
    ),
    "graphs in a node": lambda n: model_with(
        graph_with(node=[node_with(graphs=[graph_with(node=[node_with(t=outside(n))])])])
    ),
    "a function": lambda n: bytes(
        onnx.ModelProto(
            functions=[onnx.FunctionProto(name="f", node=[node_with(t=outside(n))])]
        ).SerializeToString()
    ),
    "a function's attribute": lambda n: bytes(
        onnx.ModelProto(
            functions=[
                onnx.FunctionProto(attribute_proto=[onnx.AttributeProto(name="a", t=outside(n))])
            ]
        ).SerializeToString()
    ),
    "training": lambda n: bytes(
        onnx.ModelProto(
            training_info=[
                onnx.TrainingInfoProto(initialization=graph_with(initializer=[outside(n)]))
            ]
        ).SerializeToString()
    ),
    "training's algorithm": lambda n: bytes(
        onnx.ModelProto(
            training_info=[onnx.TrainingInfoProto(algorithm=graph_with(initializer=[outside(n)]))]
        ).SerializeToString()
    ),
    "a graph given a second time": lambda n: (
        model_with(graph_with()) + model_with(graph_with(initializer=[outside(n)]))
    ),
}
NAMES = ["weights.bin", "/etc/passwd", "../../key", "*/_ORT_MEM_ADDR_/*", "", "a\0b", "café"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_found_wherever_a_tensor_can_name_it(place: str, name: str) -> None:
    assert external_files(PLACES[place](name)) == {name}


def test_a_name_given_twice_counts_twice() -> None:
    tensor = outside("first")
    tensor.external_data.add(key="location", value="second")
    entry = onnx.StringStringEntryProto(key="location", value="third").SerializeToString()
    again = onnx.StringStringEntryProto(key="offset", value="4").SerializeToString()
    both = entry + again  # a reader takes the last of each field; whichever, it is a suspect
    data = tensor.SerializeToString() + b"\x6a" + bytes([len(both)]) + both
    graph = b"\x2a" + varint(len(data)) + data
    model = b"\x3a" + varint(len(graph)) + graph
    assert external_files(model) == {"first", "second", "third", "4"}


def varint(value: int) -> bytes:
    made = b""
    while value > 0x7F:
        made, value = made + bytes([value & 0x7F | 0x80]), value >> 7
    return made + bytes([value])


def test_a_model_without_such_tensors_names_no_file_though_it_holds_many_numbers() -> None:
    tree = helper.make_node(
        "TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml",
        nodes_values=np.arange(300_000, dtype=np.float32).tolist(),
        nodes_nodeids=list(range(300_000)), nodes_modes=["LEAF"] * 20_000,
    )  # fmt: skip
    assert external_files(model_with(graph_with(node=[tree]))) == frozenset()
    assert external_files(dense_onnx(*weights())) == frozenset()


def test_a_model_nested_without_end_is_refused() -> None:
    data = b""
    for _ in range(DEPTH_MAX):
        node = b"\x32" + varint(len(data)) + data  # attribute.g
        node = b"\x2a" + varint(len(node)) + node  # node.attribute
        data = b"\x0a" + varint(len(node)) + node  # graph.node
    with pytest.raises(OnnxFileError, match="nested deeper"):
        external_files(b"\x3a" + varint(len(data)) + data)


@pytest.mark.parametrize("data", [b"\x1c\0\0\0ORTM", b"\x0a\x06\0\0ORTM\0\0"])
def test_the_runtimes_own_format_is_refused(data: bytes) -> None:
    with pytest.raises(OnnxFileError, match="export it as ONNX"):
        external_files(data)


@settings(max_examples=300)
@given(data=st.binary(max_size=200))
def test_any_bytes_end_in_names_or_a_refusal(data: bytes) -> None:
    with contextlib.suppress(OnnxFileError):
        assert isinstance(external_files(data), frozenset)


def test_no_damage_hides_a_name_from_us_that_the_reference_still_reads(
    record_property: Callable[[str, object], None],
) -> None:
    rng = random.Random(7)
    tried = read = 0
    for place in PLACES.values():
        whole = place("../secret")
        for _ in range(150):
            damaged = (
                mutated(whole + bytes(64), rng)
                if rng.random() < 0.2
                else mutated(whole.ljust(128, b"\x08"), rng)
            )
            tried += 1
            try:
                theirs = onnx.load_from_string(damaged)
            except Exception:  # whatever the reference raises
                continue
            wanted = {
                text(entry.value)
                for tensor in onnx.external_data_helper._get_all_tensors(theirs)
                for entry in tensor.external_data
                if entry.key == "location"
            }
            try:
                ours = external_files(damaged)
            except OnnxFileError:
                continue  # refused as a whole
            read += 1
            assert wanted <= ours
    assert read > 100
    record_property("tried", f"{tried} damaged ONNX files for names of files, {read} read by both")


def text(value: str | bytes) -> str:
    """What the reference gives as bytes where they are no text."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def spread_out(directory: Path, location: str) -> tuple[Any, str]:
    """The dense model with its weights in a file of their own, as a bundle."""
    w, b = weights()
    model = onnx.load_from_string(dense_onnx(w, b))
    for tensor in model.graph.initializer:
        if tensor.name == "w":
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (("location", location), ("offset", "0"), ("length", str(w.nbytes))):
                tensor.external_data.add(key=key, value=value)
    x = np.eye(4, dtype=np.float32)
    golden = {"input:x": x, "output:probabilities": softmax(x, w, b)}
    files = (write_file(directory, "weights.bin", w.tobytes()),)
    return write_bundle(
        directory, runtimes=("onnx",), files={"onnx": model.SerializeToString()}, golden=golden,
        more_files=files,
    )  # fmt: skip


@pytest.mark.parametrize("rung", list(Rung))
def test_weights_in_a_file_of_the_bundle_are_loaded(rung: Rung, tmp_path: Path) -> None:
    manifest, sha256 = spread_out(tmp_path / "b", "weights.bin")
    with Workers(tmp_path) as slot:
        worker = slot.start(tmp_path / "b", manifest, sha256, rung=rung)
        assert slot.wait(worker, Ready).facts.golden_cases == 4


@pytest.mark.parametrize("way", ["absolute", "dots", "link", "descriptor", "other file"])
@pytest.mark.parametrize("rung", list(Rung))
def test_weights_in_a_file_outside_the_bundle_are_refused(
    way: str, rung: Rung, tmp_path: Path
) -> None:
    w, _ = weights()
    key = tmp_path / "director.key"
    key.write_bytes(w.tobytes())  # the very numbers: if it were read, the model would be proved
    location = {
        "absolute": str(key), "dots": "../director.key", "link": "link",
        "descriptor": "/proc/self/fd/9", "other file": "manifest.json",
    }[way]  # fmt: skip
    manifest, sha256 = spread_out(tmp_path / "b", location)
    (tmp_path / "b" / "link").symlink_to(key)
    with Workers(tmp_path) as slot:
        worker = slot.start(tmp_path / "b", manifest, sha256, rung=rung)
        event = slot.events[worker.spec.worker_id].get(timeout=WAIT_SECONDS)
        assert isinstance(event, Failed)
        assert event.refusal is Refusal.LOAD_FAILED
        assert "no file of its bundle" in event.detail


def test_a_runtime_that_follows_names_out_of_the_bundle_is_not_used(tmp_path: Path) -> None:
    info = tmp_path / "onnxruntime-1.23.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime\nVersion: 1.23.2\n")
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from muster_agent import runtimes\n"
        "print('onnx' in runtimes.available())\n"
        "try: runtimes.prepare('onnx')\n"
        "except runtimes.NoRuntimeError as error: print(error)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip
    assert said == "False\nno onnx runtime is installed here: install onnxruntime>=1.24\n"
