"""The HTTPS source: every request is answered once, by bytes or by a reason."""

import http.server
import queue
import socket
import ssl
import threading
import time
from dataclasses import replace

import pytest

from muster_agent.fetch.actions import ChunkRun
from muster_agent.fetch.http_source import REQUESTS_MAX, HttpSource
from muster_agent.trust.time import Instant
from muster_protocol.wire.addresses import joined
from muster_protocol.wire.directive import Source
from muster_protocol.wire.limits import MANIFEST_BYTES_MAX
from support.pki import Authority

CHUNK = b"chunk" * 100
FILE = bytes(range(256)) * 10
RUN = ChunkRun("whole", 256, ("c1", "c2", "c3"), (1000, 1000, 304))
NOW = int(time.time())


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        name = self.path.rpartition("/")[2]
        self.server.asked.append(self.path)
        if self.headers["Authorization"] != "Bearer secret":
            return self.answer(401, b"")
        if name == "huge":
            return self.answer(200, bytes(MANIFEST_BYTES_MAX + 1))
        if "/files/" in self.path:
            return self.answer_range(name)
        if name == "closing":
            self.close_connection = True
        if name == "absent":
            return self.answer(404, b"nothing here")
        return self.answer(200, CHUNK)

    def answer_range(self, name):
        first, last = (int(end) for end in self.headers["Range"].removeprefix("bytes=").split("-"))
        if name == "absent":
            return self.answer(404, b"nothing here")
        if name == "rangeless":
            return self.answer(200, FILE)
        said = f"bytes {first + (name == 'elsewhere')}-{last}/{len(FILE)}"
        body = FILE[first : last + 1]
        if name == "short":
            self.close_connection = True
            return self.answer(206, body[:1500], len(body), said)
        return self.answer(206, body, len(body), said)

    def answer(self, status, body, length=None, said=None):
        self.send_response(status)
        if said:
            self.send_header("Content-Range", said)
        self.send_header("Content-Length", str(length or len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server6(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6


@pytest.fixture
def server(tmp_path, request):
    """An HTTPS server of the hub's CA; yields (authority, url)."""
    host = getattr(request, "param", "127.0.0.1")
    authority = Authority(tmp_path)
    pair = authority.issue("hub", hosts=(host,))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(str(pair.cert), str(pair.key))
    kind = Server6 if ":" in host else http.server.ThreadingHTTPServer
    made = kind((host, 0), Handler)
    made.daemon_threads, made.asked = True, []
    made.socket = context.wrap_socket(made.socket, server_side=True)
    thread = threading.Thread(target=made.serve_forever, args=(0.05,))
    thread.start()
    yield (
        authority,
        f"https://{joined(host, made.server_address[1])}/api/v1/chunks",
        made.asked,
    )
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture
def source(server):
    answers = queue.Queue()
    made = HttpSource(server[0].cert, answers.put, lambda: Instant(NOW, "synchronised"))
    made.start()
    made.answers = answers
    yield made
    made.stop()


def ask(source, url, name, token="secret"):
    source.get(0, Source(url, token), name)
    return source.answers.get(timeout=60)


@pytest.mark.parametrize("server", ["127.0.0.1", "::1"], indirect=True)
def test_a_chunk_comes_with_the_devices_token_and_again_over_the_kept_connection(server, source):
    for name in ("a", "b", "closing", "c"):
        answer = ask(source, server[1], name)
        assert (answer.digest, answer.data) == (name, CHUNK)


@pytest.mark.parametrize(
    ("name", "token", "says"),
    [("absent", "secret", "404"), ("a", "wrong", "401"), ("huge", "secret", "more than")],
)
def test_a_refusal_is_an_answer_with_its_reason(server, source, name, token, says):
    answer = ask(source, server[1], name, token)
    assert answer.data is None
    assert says in answer.detail


def test_a_server_of_another_ca_gets_no_token(server, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    answers = queue.Queue()
    stranger = HttpSource(Authority(other).cert, answers.put, lambda: Instant(NOW, "synchronised"))
    stranger.start()
    stranger.get(0, Source(server[1], "secret"), "a")
    answer = answers.get(timeout=60)
    stranger.stop()
    assert answer.data is None
    assert "certificate" in answer.detail.lower()


def test_a_server_that_is_not_there_is_a_reason_and_the_next_request_works(server, source):
    assert ask(source, "https://127.0.0.1:1/x", "a").data is None
    assert ask(source, server[1], "a").data == CHUNK


def test_too_many_requests_are_refused_at_once_not_queued(tmp_path):
    answers = queue.Queue()
    idle = HttpSource(tmp_path / "ca", answers.put, lambda: Instant(NOW, "synchronised"))
    for number in range(REQUESTS_MAX + 1):
        idle.get(0, Source("https://hub.test"), str(number))
    assert answers.get_nowait().digest == str(REQUESTS_MAX)


def ask_range(source, url, file):
    source.get_range(0, Source(url, "secret"), replace(RUN, file=file))
    return [source.answers.get(timeout=60) for _ in RUN.digests]


def test_the_chunks_of_a_range_come_one_by_one_over_one_request(server, source):
    assert ask(source, server[1], "a").data == CHUNK
    for _ in range(2):
        answers = ask_range(source, server[1], "whole")
        assert [answer.digest for answer in answers] == ["c1", "c2", "c3"]
        assert b"".join(answer.data for answer in answers) == FILE[256:]
        assert [len(answer.data) for answer in answers] == [1000, 1000, 304]
    assert ask(source, server[1], "b").data == CHUNK
    assert [path.rpartition("chunks/")[2] for path in server[2]] == [
        "a", "files/whole", "files/whole", "b",
    ]  # fmt: skip


@pytest.mark.parametrize("file", ["absent", "rangeless", "elsewhere"])
def test_a_source_that_serves_no_such_range_says_so_of_every_chunk(server, source, file):
    answers = ask_range(source, server[1], file)
    assert all(answer.data is None and answer.unserved for answer in answers)
    assert ask(source, server[1], "a").data == CHUNK


def test_of_an_answer_that_ends_too_early_the_chunks_that_came_are_kept(server, source):
    first, *others = ask_range(source, server[1], "short")
    assert first.data == FILE[256:1256]
    assert all(answer.data is None and not answer.unserved for answer in others)
    assert ask(source, server[1], "a").data == CHUNK


def test_what_is_cancelled_is_not_asked_for(server, source):
    answers = source.answers
    idle = HttpSource(server[0].cert, answers.put, lambda: Instant(NOW, "synchronised"))
    idle.get_range(0, Source(server[1], "secret"), RUN)
    idle.cancel()
    idle.get(0, Source(server[1], "secret"), "a")
    idle.start()
    assert answers.get(timeout=60).digest == "a"
    idle.stop()
    assert len(server[2]) == 1
