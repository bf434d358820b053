"""Clients of other makers, as people use them: each is answered."""

import http.client
import json
import shutil
import socket
import subprocess
from collections.abc import Iterator

import httpx
import pytest
import requests

from muster_agent.worker.api import InferenceApi
from muster_agent.worker.startup import open_engine
from support.models import write_bundle
from support.serving import Serving
from support.workers import WAIT_SECONDS, infer_body

BODY = json.dumps(infer_body([1.0, 2.0, 3.0, 4.0])).encode()
NODE = """
const [url, body] = process.argv.slice(1), http = require('http');
const parts = new ReadableStream({start(to) {
  to.enqueue(new TextEncoder().encode(body)); to.close();
}});
const written = new Promise((done, failed) => {
  const asked = http.request(url, {method: 'POST'}, answer => done(answer.statusCode));
  asked.on('error', failed); asked.write(body.slice(0, 20)); asked.end(body.slice(20));
});
Promise.all([
  written,
  fetch(url, {method: 'POST', body}).then(answer => answer.status),
  fetch(url, {method: 'POST', body: parts, duplex: 'half'}).then(answer => answer.status),
]).then(found => { console.log(found.join(' ')); process.exit(0); });
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    directory = tmp_path_factory.mktemp("slot")
    write_bundle(directory / "b", runtimes=("onnx",))
    serving = Serving(directory, InferenceApi(open_engine(directory / "b"), "onnx"))
    host, port = next(
        each.getsockname() for each in serving.sockets.listeners if each.family == socket.AF_INET
    )
    yield host, port
    serving.close()


@pytest.fixture
def url(address: tuple[str, int]) -> str:
    return f"http://{address[0]}:{address[1]}/v2/models/dense/infer"


def pieces() -> Iterator[bytes]:
    yield BODY[:20]
    yield BODY[20:]


def test_requests_and_httpx_stream_their_bodies_in_chunks(url: str) -> None:
    assert requests.post(url, data=pieces(), timeout=WAIT_SECONDS).status_code == 200
    assert httpx.post(url, content=pieces(), timeout=WAIT_SECONDS).status_code == 200


def test_pythons_own_client_sends_a_file_in_chunks(address: tuple[str, int]) -> None:
    connection = http.client.HTTPConnection(*address, timeout=WAIT_SECONDS)
    for _ in range(2):
        connection.request(
            "POST", "/v2/models/dense/infer", body=pieces(), encode_chunked=True,
            headers={"Transfer-Encoding": "chunked"},
        )  # fmt: skip
        answer = connection.getresponse()
        assert answer.status == 200
        assert json.loads(answer.read())["model_name"] == "dense"
    connection.close()


def curl(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    tool = shutil.which("curl")
    if tool is None:
        pytest.skip("curl is not installed here")
    return subprocess.run(
        [tool, "-s", "--noproxy", "*", *arguments],
        input=BODY, capture_output=True, check=False, timeout=WAIT_SECONDS,
    )  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        ("-X", "POST", "-T", "-"),
        ("--data-binary", "@-"),
        ("--compressed", "--data-binary", "@-"),
        ("--http1.0", "--data-binary", "@-"),
        ("-H", "Expect: 100-continue", "--data-binary", "@-"),
    ],
)
def test_curl_is_answered_however_it_sends(url: str, options: tuple[str, ...]) -> None:
    done = curl(*options, url)
    assert json.loads(done.stdout)["model_name"] == "dense"


def test_curl_that_speaks_tls_is_turned_away_at_once(url: str) -> None:
    done = curl("-k", url.replace("http:", "https:"))
    assert done.returncode == 35  # what came is no TLS


def test_node_writes_in_chunks_and_fetches_from_streams(url: str) -> None:
    tool = shutil.which("node")
    if tool is None:
        pytest.skip("node is not installed here")
    done = subprocess.run(
        [tool, "-e", NODE, url, BODY.decode()],
        capture_output=True, text=True, check=False, timeout=WAIT_SECONDS,
    )  # fmt: skip
    assert done.stdout.split() == ["200", "200", "200"], done.stderr
