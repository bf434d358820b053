"""Programs on the device that ask too much, too slowly or wrongly: others are served, and nothing
of it counts against the model."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from muster_agent.worker.api import InferenceApi
from muster_agent.worker.engine import Engine
from muster_agent.worker.events import Heartbeat, Ready
from muster_agent.worker.http1 import BODY_BYTES_MAX, HEAD_BYTES_MAX, Request, Response
from muster_agent.worker.patience import PATIENCE_SECONDS, SMALL_BYTES
from muster_agent.worker.serving import (
    CONNECTIONS_MAX,
    HELD_REQUESTS_MAX,
)
from muster_agent.worker.startup import open_engine
from muster_protocol.wire.limits import MIB
from muster_protocol.wire.manifest import Tensor
from support.models import graph_onnx, weights, write_bundle
from support.serving import Serving
from support.workers import Client, Workers, infer_body

INFER = "/v2/models/dense/infer"
X = [1.0, 2.0, 3.0, 4.0]
UNFINISHED_CLIENTS = 24


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serving]:
    made = Serving(tmp_path, lambda asked: Response(200, b'{"bytes":%d}' % len(asked.body)))
    yield made
    made.close()


def head(size: int) -> bytes:
    return f"POST {INFER} HTTP/1.1\r\nContent-Length: {size}\r\n\r\n".encode()


def test_twenty_four_unfinished_bodies_of_16_mb_do_not_end_the_worker(tmp_path: Path) -> None:
    """They took all memory that a worker may have, and in probation the release was blamed."""
    manifest, sha256 = write_bundle(tmp_path / "b", memory_bytes=64 * MIB)
    with Workers(tmp_path) as slot:
        worker = slot.start(tmp_path / "b", manifest, sha256)
        slot.wait(worker, Ready)
        worker.accept()
        rude = [Client(slot.sockets.path) for _ in range(UNFINISHED_CLIENTS)]
        answered = []
        for each in rude:
            each.socket.settimeout(20)
            try:
                each.socket.sendall(head(BODY_BYTES_MAX) + bytes(BODY_BYTES_MAX - 1))
                each.socket.settimeout(0.05)
                answered.append(each.receive()[0])
            except (TimeoutError, BrokenPipeError, ConnectionResetError):
                pass  # it waits for the last byte, or was refused before it had sent all
        assert set(answered) <= {503}
        with Client(slot.sockets.path) as polite:
            assert polite.call("POST", INFER, infer_body(X))[0] == 200
        for each in rude:
            each.close()
        with Client(slot.sockets.path) as polite:
            assert polite.call("POST", INFER, infer_body(X))[0] == 200
        assert worker.alive()
        counters = slot.wait(worker, Heartbeat).counters
        while counters.inferences < 2:
            counters = slot.wait(worker, Heartbeat).counters
        assert counters.errors == 0


def test_what_does_not_fit_the_memory_for_requests_is_told_to_come_again(serving: Serving) -> None:
    part = HELD_REQUESTS_MAX * (BODY_BYTES_MAX + HEAD_BYTES_MAX) // 2 - SMALL_BYTES
    holders = [serving.client() for _ in range(2)]
    for each in holders:
        each.socket.sendall(head(part + 1) + bytes(part))
    serving.order(lambda: None)
    with serving.client() as late, serving.client() as small:
        late.socket.sendall(head(2 * MIB) + bytes(2 * MIB - 1))
        assert late.receive()[0] == 503
        assert small.call("POST", INFER, bytes(SMALL_BYTES - 200))[0] == 200
    for each in holders:
        each.socket.sendall(b"1")
        assert each.receive()[0] == 200
        each.close()


def test_who_sends_a_large_body_slowly_makes_way_for_who_sends_it_at_once(
    serving: Serving,
) -> None:
    slow = [serving.client() for _ in range(2)]
    for each in slow:
        each.socket.sendall(head(BODY_BYTES_MAX) + bytes(BODY_BYTES_MAX - 1))
    serving.order(lambda: None)
    serving.now += PATIENCE_SECONDS + 0.1
    with serving.client() as quick:
        assert quick.call("POST", INFER, bytes(BODY_BYTES_MAX))[0] == 200
    assert sorted(status(each) for each in slow) == [0, 503]
    for each in slow:
        each.close()


def status(client: Client) -> int:
    """Of the answer that has come; 0 when there is none yet."""
    client.socket.settimeout(0.2)
    try:
        return client.receive()[0]
    except TimeoutError:
        return 0


def test_a_client_that_waits_for_leave_is_told_at_once_when_there_is_no_room(
    serving: Serving,
) -> None:
    with serving.client() as holder, serving.client() as waiting:
        holder.socket.sendall(head(BODY_BYTES_MAX) + bytes(BODY_BYTES_MAX - 1))
        serving.order(lambda: None)
        with serving.client() as second:
            second.socket.sendall(head(BODY_BYTES_MAX) + bytes(2 * MIB))
            serving.order(lambda: None)
            asked = head(BODY_BYTES_MAX).replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")
            waiting.socket.sendall(asked)
            assert waiting.receive()[0] == 503


@pytest.mark.parametrize("sent", [b"", b"POST / HT", head(9)], ids=["idle", "slow", "unfinished"])
def test_clients_that_hold_every_connection_make_way_for_one_that_asks(
    serving: Serving, sent: bytes
) -> None:
    holders = [serving.client() for _ in range(CONNECTIONS_MAX)]
    for each in holders:
        each.socket.sendall(sent)
    serving.order(lambda: None)
    with serving.client() as late:
        late.send("GET", "/v2/health/live")
        late.socket.settimeout(0.2)
        with pytest.raises(TimeoutError):
            late.socket.recv(1)  # nobody was waited for long enough yet
        serving.now += PATIENCE_SECONDS + 0.1
        late.socket.settimeout(20)
        assert late.socket.recv(12) == b"HTTP/1.1 200"
    for each in holders:
        each.close()


def test_answers_that_nobody_takes_leave_room_for_others(tmp_path: Path) -> None:
    serving = Serving(tmp_path, lambda _: Response(200, bytes(8 * MIB)))
    greedy = [serving.client() for _ in range(8)]
    for each in greedy:
        each.send("GET", "/")
        serving.order(lambda: None)
    with serving.client() as polite:
        polite.send("GET", "/")
        assert polite.receive()[0] == 503
        serving.now += PATIENCE_SECONDS + 0.1
        polite.send("GET", "/")
        assert polite.receive()[0] == 200
    for each in greedy:
        each.close()
    serving.close()


# Wrong requests


TEXT = (Tensor("text", "BYTES", (-1,)),)


def text_api(directory: Path) -> tuple[InferenceApi, Engine]:
    """A model of words that takes only UTF-8."""
    model = graph_onnx(
        [helper.make_node("Identity", ["text"], ["same"])],
        inputs=[("text", TensorProto.STRING, ["n"])],
        outputs=[("same", TensorProto.STRING, ["n"])],
    )
    words = np.array([b"a", b"b"], "S1")
    write_bundle(
        directory, runtimes=("onnx",), files={"onnx": model}, classifier=None,
        golden={"input:text": words, "output:same": words},
        tensors=(TEXT, (Tensor("same", "BYTES", (-1,)),)),
    )  # fmt: skip
    engine = open_engine(directory, runtime="onnx")
    return InferenceApi(engine, "onnx"), engine


def fixed_api(directory: Path) -> tuple[InferenceApi, Engine]:
    """A model of four inputs, whose manifest leaves their number open."""
    write_bundle(directory, tensors=((Tensor("x", "FP32", (-1, -1)),), None))
    engine = open_engine(directory, runtime="onnx")
    return InferenceApi(engine, "onnx"), engine


def asked(body: bytes, path: str = INFER, **headers: str) -> Request:
    return Request("POST", path, headers, body, keep_alive=True)


def binary_words(*words: bytes) -> Request:
    data = b"".join(struct.pack("<I", len(word)) + word for word in words)
    entry = {
        "name": "text", "shape": [len(words)], "datatype": "BYTES",
        "parameters": {"binary_data_size": len(data)},
    }  # fmt: skip
    described = json.dumps({"inputs": [entry]}).encode()
    length = {"inference-header-content-length": str(len(described))}
    return asked(described + data, **length)


def test_text_that_is_no_utf_8_is_the_clients_fault(tmp_path: Path) -> None:
    api, engine = text_api(tmp_path)
    assert api(binary_words(b"caf\xc3\xa9")).status == 200
    for word in (b"\xff", b"caf\xe9", b"\xed\xa0\x80", b"\xc3"):
        answer = api(binary_words(b"fine", word))
        assert answer.status == 400
        assert b"UTF-8" in answer.body
    assert (engine.recorder.errors, engine.recorder.invalid) == (0, 4)


@pytest.mark.parametrize("runtime", ["onnx", "tflite"])
def test_a_shape_that_the_model_itself_forbids_is_the_clients_fault(
    runtime: Any, tmp_path: Path
) -> None:
    write_bundle(tmp_path, tensors=((Tensor("x", "FP32", (-1, -1)),), None))
    engine = open_engine(tmp_path, runtime=runtime)
    api = InferenceApi(engine, runtime)
    assert api(asked(json.dumps(infer_body(X)).encode())).status == 200
    for width in (1, 3, 5, 400):
        answer = api(asked(json.dumps(infer_body([1.0] * width)).encode()))
        assert (answer.status, b"shape" in answer.body) == (400, True), answer
    assert (engine.recorder.errors, engine.recorder.invalid) == (0, 4)


def test_a_batch_that_would_take_longer_than_a_request_may_is_the_clients_fault(
    tmp_path: Path,
) -> None:
    """The kernel would end the worker in the midst of it, and the release be blamed."""
    manifest, sha256 = write_bundle(tmp_path / "b")
    with Workers(tmp_path) as slot:
        worker = slot.start(tmp_path / "b", manifest, sha256, request_seconds=0.5)
        latency_ms = slot.wait(worker, Ready).facts.latency_ms
        worker.accept()
        rows = min(int(2 * 500 / latency_ms), BODY_BYTES_MAX // 20)
        with Client(slot.sockets.path) as client:
            assert send_batch(client, rows) == (413 if rows * latency_ms > 500 else 200)
            assert client.call("POST", INFER, infer_body(X))[0] == 200
        assert slot.wait(worker, Heartbeat).counters.errors == 0


def test_a_batch_that_needs_more_memory_than_there_is_is_the_clients_fault(tmp_path: Path) -> None:
    manifest, sha256 = write_bundle(
        tmp_path / "b", runtimes=("onnx",), files={"onnx": swelling_onnx()}, memory_bytes=64 * MIB
    )
    with Workers(tmp_path) as slot:
        worker = slot.start(tmp_path / "b", manifest, sha256)
        slot.wait(worker, Ready)
        worker.accept()
        with Client(slot.sockets.path) as client:
            assert send_batch(client, 2) == 200
            assert send_batch(client, 50_000) == 413
            # Three million numbers as JSON become two hundred megabytes of objects.
            numbers = b"[" + b"0.25," * 3_000_000 + b"0.25]"
            body = b'{"inputs":[{"name":"x","shape":[3000001],"datatype":"FP32","data":%b}]}'
            assert client.call("POST", INFER, body % numbers)[0] == 413
            assert client.call("POST", INFER, infer_body(X))[0] == 200
        counters = slot.wait(worker, Heartbeat).counters
        while counters.inferences < 3:
            counters = slot.wait(worker, Heartbeat).counters
        assert (counters.errors, counters.invalid) == (0, 2)


def test_a_batch_that_tflite_has_no_memory_for_does_not_count_against_the_model(
    tmp_path: Path,
) -> None:
    manifest, sha256 = write_bundle(
        tmp_path / "b", runtimes=("tflite",), classes=1000, memory_bytes=4 * MIB
    )
    with Workers(tmp_path) as slot:
        worker = slot.start(tmp_path / "b", manifest, sha256, "tflite")
        slot.wait(worker, Ready)
        worker.accept()
        with Client(slot.sockets.path) as client:
            assert send_batch(client, 100_000) in {400, 413}
            assert send_batch(client, 1) == 200
        counters = slot.wait(worker, Heartbeat).counters
        while counters.inferences < 1:
            counters = slot.wait(worker, Heartbeat).counters
        assert (counters.errors, counters.invalid) == (0, 1)


def test_requests_that_take_all_memory_do_not_end_the_worker(tmp_path: Path) -> None:
    manifest, sha256 = write_bundle(
        tmp_path / "b", runtimes=("onnx",), classes=1000, memory_bytes=4 * MIB
    )
    with Workers(tmp_path) as slot:
        worker = slot.start(tmp_path / "b", manifest, sha256)
        slot.wait(worker, Ready)
        worker.accept()
        for rows in (1000, 10_000, 100_000, 500_000):
            with Client(slot.sockets.path) as client:
                assert send_batch(client, rows) in {200, 413, 503}
        slot.wait(worker, Heartbeat)
        with Client(slot.sockets.path) as client:
            assert send_batch(client, 10_000) in {413, 503}
            assert send_batch(client, 1) == 200
        assert worker.alive()


def swelling_onnx() -> bytes:
    """The dense classifier, which makes a thousand copies of its input on the way."""
    w, b = weights()
    return graph_onnx(
        [
            helper.make_node("Tile", ["x", "often"], ["copies"]),
            helper.make_node("Slice", ["copies", "zero", "four", "one"], ["first"]),
            helper.make_node("Gemm", ["first", "w", "b"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
        ],
        inputs=[("x", TensorProto.FLOAT, ["n", 4])],
        outputs=[("probabilities", TensorProto.FLOAT, ["n", 3])],
        initializers={
            "w": w, "b": b, "often": np.array([1, 1000], np.int64), "zero": np.array([0]),
            "four": np.array([4]), "one": np.array([1]),
        },
    )  # fmt: skip


def send_batch(client: Client, rows: int) -> int:
    """The status of an inference of so many rows, sent as binary data."""
    data = np.zeros((rows, 4), np.float32)
    entry = {
        "name": "x", "shape": [rows, 4], "datatype": "FP32",
        "parameters": {"binary_data_size": data.nbytes},
    }  # fmt: skip
    described = json.dumps({"inputs": [entry]}).encode()
    length = {"Inference_Header_Content_Length": str(len(described))}
    return client.call("POST", INFER, described + data.tobytes(), **length)[0]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> tuple[InferenceApi, Engine]:
    directory = tmp_path_factory.mktemp("dense")
    write_bundle(directory)
    engine = open_engine(directory, runtime="onnx")
    return InferenceApi(engine, "onnx"), engine


@settings(max_examples=400)
@given(data=st.data())
def test_no_wrong_request_of_any_kind_counts_against_the_model(
    data: st.DataObject, dense: tuple[InferenceApi, Engine]
) -> None:
    """A request is a right one with one part replaced; it is answered, or it is a 4xx."""
    api, engine = dense
    right = infer_body(X, "id")
    place = data.draw(st.sampled_from(["id", "inputs", "name", "shape", "datatype", "data", "raw"]))
    if place == "raw":
        body = (
            data.draw(st.binary(max_size=60))
            + json.dumps(right).encode()[: data.draw(st.integers(0, 80))]
        )
    else:
        value = data.draw(JSON)
        target = right if place in {"id", "inputs"} else right["inputs"][0]
        target[place] = value
        body = json.dumps(right).encode()
    headers = data.draw(
        st.just({})
        | st.builds(lambda n: {"inference-header-content-length": n}, st.text(max_size=4))
    )
    answer = api(asked(body, **headers))
    assert answer.status == 200 or 400 <= answer.status < 500, (answer, body)
    assert engine.recorder.errors == 0


@pytest.mark.parametrize("identifier", ["\\ud800", "\\u0000", "a" * 5000, "\\udfff\\ud800"])
def test_odd_identifiers_are_answered_or_refused(
    identifier: str, dense: tuple[InferenceApi, Engine]
) -> None:
    api, engine = dense
    body = json.dumps(infer_body(X, "ID")).replace("ID", identifier).encode()
    assert api(asked(body)).status in {200, 400}
    label = f'{{"labels":[{{"id":"{identifier}","label":"1"}}]}}'.encode()
    assert api(asked(label, "/v2/models/dense/labels")).status in {200, 400}
    assert engine.recorder.errors == 0
