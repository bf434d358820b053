"""The server on a real socket: its paths, its bounds, and clients that misbehave."""

import gzip
import json
import os
import signal
import socket
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from muster_agent.worker import oip
from muster_agent.worker.api import InferenceApi
from muster_agent.worker.engine import Engine
from muster_agent.worker.events import Exited, Heartbeat, Ready
from muster_agent.worker.fallback import FallbackContract
from muster_agent.worker.http1 import BODY_BYTES_MAX, Request, Response
from muster_agent.worker.ring import Ring, RingLayout
from muster_agent.worker.serving import CONNECTIONS_MAX
from muster_agent.worker.startup import open_engine
from muster_protocol.wire.manifest import Fallback, Start
from support.models import softmax, weights, write_bundle
from support.serving import Serving
from support.workers import Client, Workers, infer_body, request

X = [1.0, 2.0, 3.0, 4.0]
INFER = "/v2/models/dense/infer"


@pytest.fixture
def ring(tmp_path: Path) -> Iterator[Ring]:
    manifest, sha256 = write_bundle(tmp_path / "b", version="1.0")
    with Ring.create(tmp_path / "r.ring", RingLayout.of(manifest, sha256), 1000) as made:
        yield made


@pytest.fixture
def serving(tmp_path: Path, ring: Ring) -> Iterator[Serving]:
    api = InferenceApi(open_engine(tmp_path / "b", runtime="onnx", ring=ring), "onnx")
    made = Serving(tmp_path, api)
    yield made
    made.close()


@pytest.fixture
def client(serving: Serving) -> Iterator[Client]:
    with serving.client() as made:
        yield made


def test_an_inference_is_answered_and_recorded_under_its_id(client: Client, ring: Ring) -> None:
    status, answer = client.call("POST", INFER, infer_body(X, "a-1"))
    assert status == 200
    probabilities = answer["outputs"][0].pop("data")
    want = softmax(np.array([X], np.float32), *weights())
    np.testing.assert_allclose(probabilities, want[0], atol=1e-6)
    assert answer == {
        "model_name": "dense",
        "model_version": "1.0",
        "id": "a-1",
        "parameters": {"quality": "good"},
        "outputs": [{"name": "probabilities", "shape": [1, 3], "datatype": "FP32"}],
    }
    rows = ring.read().rows
    assert rows["id"].tolist() == [b"a-1"]
    assert ring.layout.input_arrays(rows)["x"].tolist() == [X]


def test_binary_tensors_in_and_out(client: Client) -> None:
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    body, header = oip.encode_request({"x": x}, binary=True, binary_outputs=True)
    client.send("POST", INFER, body, Inference_Header_Content_Length=str(header))
    status, headers, answer = client.receive()
    assert status == 200
    assert headers["content-type"] == "application/octet-stream"
    got = oip.decode_response(answer, int(headers["inference-header-content-length"]))
    np.testing.assert_allclose(got["probabilities"], softmax(x, *weights()), atol=1e-6)


TENSORS = {
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
    "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]}],
}
METADATA = {"name": "dense", "versions": ["1.0"], "platform": "onnx_onnxv1", **TENSORS}
READY = {"name": "dense", "version": "1.0", "ready": True}
INDEX = [{"name": "dense", "version": "1.0", "state": "READY", "reason": ""}]


@pytest.mark.parametrize(
    ("method", "path", "status", "answer"),
    [
        ("GET", "/v2/health/live", 200, {"live": True}),
        ("GET", "/v2/health/ready", 200, READY),
        ("GET", "/v2/models/dense", 200, METADATA),
        ("GET", "/v2/models/dense/versions/1.0", 200, METADATA),
        ("GET", "/v2/models/dense/ready", 200, READY),
        ("GET", "/v2/models/dense/versions/1.0/ready", 200, READY),
        ("POST", "/v2/repository/index", 200, INDEX),
        ("GET", "/v1", 404, {"error": "nothing is served at /v1"}),
        ("GET", "/v2/models/x", 404, {"error": "model 'x' is not served here; 'dense' is"}),
        (
            "GET",
            "/v2/models/dense/versions/2",
            404,
            {"error": "version '2' is not served here; '1.0' is"},
        ),
        ("GET", INFER, 405, {"error": "use POST here"}),
        ("DELETE", "/v2/models/dense", 405, {"error": "use GET here"}),
        ("POST", "/v2/health/live", 405, {"error": "use GET here"}),
    ],
)
def test_the_paths_of_the_protocol(
    client: Client, method: str, path: str, status: int, answer: object
) -> None:
    assert client.call(method, path) == (status, answer)


def test_the_server_says_what_it_is(client: Client) -> None:
    _, answer = client.call("GET", "/v2")
    assert answer["name"] == "muster"
    assert "binary_tensor_data" in answer["extensions"]


def test_bad_requests_are_told_why_counted_once_and_leave_the_connection_open(
    client: Client, ring: Ring
) -> None:
    for body, said in [
        (b"nonsense", "not an inference request"),
        (infer_body(X, name="y"), "input 'x' is missing"),
        (infer_body([1.0]), "must have shape [-1, 4], not [1, 1]"),
        (infer_body(X) | {"outputs": [{"name": "z"}]}, "the model has no output 'z'"),
    ]:
        status, answer = client.call("POST", INFER, body)
        assert status == 400
        assert said in answer["error"]
    status, answer = client.call("POST", INFER, b"{}", Inference_Header_Content_Length="x")
    assert (status, "is not a length" in answer["error"]) == (400, True)
    rows = ring.read().rows
    assert rows["error"].tolist() == [1] * 5
    assert client.call("POST", INFER, infer_body(X))[0] == 200


def test_labels_come_later_and_are_bounded(client: Client, ring: Ring) -> None:
    path = "/v2/models/dense/labels"
    labels = [{"id": "a", "label": "2"}, {"id": "b", "label": 1}]
    assert client.call("POST", path, {"labels": labels}) == (200, {"accepted": 2})
    assert ring.layout.labels(ring.read().rows) == [(b"a", "2"), (b"b", "1")]
    for bad, said in [
        ({"labels": [{"id": "", "label": "7"}]}, "not labels"),
        ({"labels": [{"id": "a", "label": "2\0"}]}, "is no class of dense 1"),
        ({"labels": [{"id": "a", "label": "x"}]}, "give a name (0, 1, 2) or an index from 0 to 2"),
        ({"labels": [{"id": "a", "label": 3}]}, "is no class of dense 1"),
        ({"labels": [{"id": "a", "label": "1"}] * 1001}, "not labels"),
        ([], "not labels"),
    ]:
        status, answer = client.call("POST", path, bad)
        assert status == 400
        assert said in answer["error"]


def test_pipelined_requests_are_answered_in_order(client: Client) -> None:
    for number in range(300):
        client.send("POST", INFER, json.dumps(infer_body(X, str(number))).encode())
    for number in range(300):
        status, _, body = client.receive()
        assert (status, json.loads(body)["id"]) == (200, str(number))


def test_a_client_that_closes_its_half_still_gets_its_answers(client: Client) -> None:
    client.send("GET", "/v2/health/live")
    client.send("GET", "/v2/health/ready")
    client.socket.shutdown(socket.SHUT_WR)
    assert [client.receive()[0], client.receive()[0]] == [200, 200]
    with pytest.raises(ConnectionError):
        client.receive()


def test_a_client_asking_to_close_is_told_and_closed(client: Client) -> None:
    client.send("GET", "/v2/health/live", Connection="close")
    status, headers, _ = client.receive()
    assert (status, headers["connection"]) == (200, "close")
    with pytest.raises(ConnectionError):
        client.receive()


def test_a_head_request_gets_no_body(client: Client) -> None:
    client.send("HEAD", "/v2/health/live")
    client.send("GET", "/v2/health/live")
    assert client._stream.readline().startswith(b"HTTP/1.1 200")
    head = [client._stream.readline() for _ in range(3)]
    assert head == [b"Content-Type: application/json\r\n", b"Content-Length: 13\r\n", b"\r\n"]
    assert client.receive()[2] == b'{"live":true}'


def test_leave_to_continue_is_given(client: Client) -> None:
    body = json.dumps(infer_body(X)).encode()
    head = f"POST {INFER} HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n"
    client.socket.sendall(head.encode())
    assert client.receive()[0] == 100
    client.socket.sendall(body)
    assert client.receive()[0] == 200


def test_bytes_that_are_no_request_end_the_connection_and_only_that(serving: Serving) -> None:
    with serving.client() as other, serving.client() as bad:
        bad.socket.sendall(b"\x16\x03\x01 what is this\r\n\r\n" + bytes(100_000))
        status, headers, body = bad.receive()
        assert (status, headers["connection"]) == (400, "close")
        said = "TLS is not spoken here: use http://, not https://"
        assert json.loads(body) == {"error": said}
        assert other.call("GET", "/v2/health/live")[0] == 200


def test_what_can_never_become_a_request_is_answered_at_once(client: Client) -> None:
    client.socket.sendall(b"GET /v2 HTTP/1.1\n")
    status, headers, body = client.receive()
    assert (status, headers["connection"]) == (400, "close")
    assert "bare line feed" in json.loads(body)["error"]


def test_a_body_in_chunks_is_answered_as_one_with_a_length(client: Client) -> None:
    body = json.dumps(infer_body(X)).encode()
    pieces = [body[:7], body[7:50], body[50:]]
    head = f"POST {INFER} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    client.socket.sendall(head)
    for piece in pieces:
        client.socket.sendall(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
    client.socket.sendall(b"0\r\n\r\n")
    assert client.receive()[0] == 200
    assert client.call("POST", INFER, infer_body(X))[0] == 200


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_requests_and_answers_may_be_compressed(client: Client, coding: str) -> None:
    pack, unpack = (
        (gzip.compress, gzip.decompress) if coding == "gzip" else (zlib.compress, zlib.decompress)
    )
    x = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    body, header = oip.encode_request({"x": x}, binary=True, binary_outputs=True)
    client.send(
        "POST",
        INFER,
        pack(body),
        Content_Encoding=coding,
        Accept_Encoding=coding,
        Inference_Header_Content_Length=str(header),
    )
    status, headers, answer = client.receive()
    assert (status, headers["content-encoding"]) == (200, coding)
    length = int(headers["inference-header-content-length"])
    got = oip.decode_response(unpack(answer), length)["probabilities"]
    np.testing.assert_allclose(got, softmax(x, *weights()), atol=1e-6)
    client.send("POST", INFER, b"plain", Content_Encoding=coding)
    assert client.receive()[0] == 400
    assert client.call("POST", INFER, infer_body(X))[0] == 200


def test_the_best_classes_may_be_asked_for_instead_of_scores(client: Client) -> None:
    body = infer_body(X)
    body["outputs"] = [{"name": "probabilities", "parameters": {"classification": 2}}]
    status, answer = client.call("POST", INFER, body)
    assert status == 200
    p = softmax(np.array([X], np.float32), *weights())[0]
    order = np.argsort(-p)
    output = answer["outputs"][0]
    assert (output["shape"], output["datatype"]) == ([1, 2], "BYTES")
    scores, indexes, classes = zip(*(text.split(":") for text in output["data"]), strict=True)
    assert [int(index) for index in indexes] == order[:2].tolist()
    assert classes == indexes  # the fixture's classes are named by their numbers
    np.testing.assert_allclose([float(score) for score in scores], p[order[:2]], atol=1e-5)
    for bad in (0, "two", 1.5):
        body["outputs"][0]["parameters"]["classification"] = bad
        status, answer = client.call("POST", INFER, body)
        assert status == 400
        assert "classification" in answer["error"]


def test_a_client_that_leaks_connections_leaves_room_for_others(serving: Serving) -> None:
    leaked = []
    for _ in range(3 * CONNECTIONS_MAX):
        leaking = serving.client()
        leaked.append(leaking)
        assert leaking.call("GET", "/v2/health/live")[0] == 200
        serving.now += 0.002  # five hundred a second, each of them answered and never closed
    with serving.client() as other:
        assert other.call("POST", INFER, infer_body(X))[0] == 200
    for each in leaked:
        each.close()


def test_a_body_over_the_limit_is_refused_before_it_is_read(client: Client) -> None:
    head = f"POST {INFER} HTTP/1.1\r\nContent-Length: {BODY_BYTES_MAX + 1}\r\n\r\n"
    client.socket.sendall(head.encode())
    assert client.receive()[0] == 413


def test_a_large_body_is_read_whole(client: Client) -> None:
    rows = 100_000
    x = np.random.default_rng(0).normal(size=(rows, 4)).astype(np.float32)
    body, header = oip.encode_request({"x": x}, binary=True, binary_outputs=True)
    client.send("POST", INFER, body, Inference_Header_Content_Length=str(header))
    status, headers, answer = client.receive()
    assert status == 200
    got = oip.decode_response(answer, int(headers["inference-header-content-length"]))
    assert got["probabilities"].shape == (rows, 3)


def test_a_request_that_never_becomes_whole_is_timed_out(serving: Serving) -> None:
    with serving.client() as idle, serving.client() as slow:
        assert idle.call("GET", "/v2/health/live")[0] == 200
        slow.socket.sendall(b"POST ")
        idle.call("GET", "/v2/health/live")
        serving.now += 31
        serving.order(lambda: None)
        assert slow.receive()[0] == 408
        assert idle.call("GET", "/v2/health/live")[0] == 200, "idle connections stay"


def test_a_client_that_reads_nothing_does_not_fill_the_memory(tmp_path: Path) -> None:
    served = 0

    def app(_: Request) -> Response:
        nonlocal served
        served += 1
        return Response(200, bytes(100_000))

    serving = Serving(tmp_path, app)
    with serving.client() as greedy, serving.client() as other:
        greedy.socket.settimeout(0.5)
        endless = request("GET", "/") * 1_000_000
        with pytest.raises(TimeoutError):
            greedy.socket.sendall(endless)
        assert served < 200
        other.send("GET", "/")
        assert other.receive()[0] == 200
        serving.now += 31
        serving.order(lambda: None)
        greedy.socket.settimeout(20)
        with pytest.raises(ConnectionError):
            greedy.socket.sendall(endless)
    serving.close()


def test_where_nothing_can_be_handed_over_the_next_answer_says_close(tmp_path: Path) -> None:
    serving = Serving(tmp_path, lambda _: Response(200, b"{}"))
    with serving.client() as client:
        client.send("GET", "/")
        assert "connection" not in client.receive()[1]
        serving.order(serving.server.pause)
        assert not serving.drained.is_set(), "an idle connection is never closed first"
        client.send("GET", "/")
        status, headers, _ = client.receive()
        assert (status, headers["connection"]) == (200, "close")
    assert serving.drained.wait(60)
    serving.close()


def test_an_application_that_fails_is_an_internal_error_and_serving_goes_on(
    tmp_path: Path,
) -> None:
    def app(asked: Request) -> Response:
        raise RuntimeError(asked.path)

    serving = Serving(tmp_path, app)
    with serving.client() as client:
        assert client.call("GET", "/")[0] == 500
        assert client.call("GET", "/")[0] == 500
    serving.close()


def test_without_a_model_the_fallback_answers_and_nothing_is_ready(tmp_path: Path) -> None:
    fallbacks = (Fallback("zero", "constant", {"probabilities": [1.0, 0.0, 0.0]}),)
    manifest, sha256 = write_bundle(tmp_path / "b", fallbacks=fallbacks)
    with Workers(tmp_path) as slot:
        worker = slot.start(tmp_path / "b", manifest, sha256, None, fallback="zero")
        slot.wait(worker, Ready)
        worker.accept()
        with Client(slot.sockets.path) as client:
            status, answer = client.call("POST", INFER, infer_body(X, "a"))
            assert status == 200
            assert answer["parameters"] == {"quality": "constant"}
            assert answer["outputs"][0]["data"] == [1, 0, 0]
            assert client.call("GET", "/v2/health/live")[0] == 200
            assert client.call("GET", "/v2/health/ready")[0] == 503
            assert client.call("POST", "/v2/repository/index")[1][0]["state"] == "UNAVAILABLE"
            assert client.call("POST", "/v2/repository/index", {"ready": True})[1] == []
        counters = slot.wait(worker, Heartbeat).counters
        while counters.inferences == 0:
            counters = slot.wait(worker, Heartbeat).counters
        assert (counters.errors, counters.fallbacks) == (1, 1)


def test_no_decision_is_an_answer_without_outputs_and_no_fallback_is_an_error(
    tmp_path: Path,
) -> None:
    manifest, _ = write_bundle(tmp_path / "b", fallbacks=(Fallback("none", "no_decision"),))
    for fallback, status in ((FallbackContract(manifest, "none"), 200), (None, 503)):
        api = InferenceApi(Engine(manifest, None, fallback=fallback), None)
        body = json.dumps(infer_body(X)).encode()
        answer = api(Request("POST", INFER, {}, body, keep_alive=True))
        assert answer.status == status
        if status == 200:
            assert json.loads(answer.body)["parameters"] == {"quality": "no_decision"}
            assert json.loads(answer.body)["outputs"] == []


def test_a_worker_stuck_in_one_request_is_killed_by_the_kernel(tmp_path: Path) -> None:
    manifest, sha256 = write_bundle(tmp_path / "b", start=Start())
    with Workers(tmp_path) as slot:
        worker = slot.start(tmp_path / "b", manifest, sha256, request_seconds=1.0)
        slot.wait(worker, Ready)
        worker.accept()
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGSTOP)
        threading.Timer(1.5, os.kill, (worker.pid, signal.SIGCONT)).start()
        event = slot.wait(worker, Exited)
        assert event.returncode == -signal.SIGALRM
        assert "one request took longer than allowed" in event.detail
