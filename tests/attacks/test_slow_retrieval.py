"""Slow retrieval: bytes that drip in keep a client waiting for ever, unless it counts."""

import io
import itertools
import queue
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from tuf.api import exceptions

from muster_agent.base.drip import BYTES_PER_SECOND_MIN, GRACE_SECONDS
from muster_agent.fetch.http_source import HttpAnswer, HttpSource
from muster_agent.trust.http import HttpFiles
from muster_agent.trust.time import Instant
from muster_agent.trust.trusted import refusal_of
from muster_protocol.wire.directive import Source
from muster_protocol.wire.errors import Refusal
from support.trust_device import TrustDevice
from support.tuf_repository import Repository


class Dripping(io.BytesIO):
    """An answer that gives ``piece_bytes`` at a time; the clock moves with each."""

    def __init__(self, data: bytes, piece_bytes: int, seconds: float) -> None:
        super().__init__(data)
        self.piece_bytes = piece_bytes
        self.seconds = seconds
        self.now = 0.0

    def read1(self, size: int | None = -1, /) -> bytes:
        self.now += self.seconds
        return self.read(min(size or 0, self.piece_bytes))

    def monotonic(self) -> float:
        return self.now


def fetched(answer: Dripping) -> bytes | None:
    files = HttpFiles("http://hub.example", answer.monotonic, urlopen=lambda *_, **__: answer)
    return files.get("timestamp.json")


def test_metadata_that_drip_in_are_given_up_and_called_a_slow_retrieval_attack(
    device: TrustDevice, repository: Repository
) -> None:
    answer = Dripping(bytes(100_000), piece_bytes=1, seconds=1.0)
    with pytest.raises(exceptions.SlowRetrievalError, match="slow retrieval attack") as caught:
        fetched(answer)
    assert answer.now <= GRACE_SECONDS + 2
    refusal = refusal_of(caught.value)
    assert refusal.refusal is Refusal.METADATA_MISSING
    assert "slow retrieval" in str(refusal)
    device.assert_updates(repository)


@pytest.mark.parametrize("rate", [BYTES_PER_SECOND_MIN, 10 * BYTES_PER_SECOND_MIN])
def test_a_slow_but_honest_link_is_waited_for(
    device: TrustDevice, repository: Repository, rate: int
) -> None:
    data = b"x" * 200_000
    assert fetched(Dripping(data, piece_bytes=rate, seconds=1.0)) == data
    device.assert_updates(repository)


class DrippingServer(BaseHTTPRequestHandler):
    """Promises much and sends it byte by byte, except of what is called ``honest``."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        pieces = [bytes(1000)] if self.path.endswith("honest") else [b"x"] * 1000
        try:
            for piece in pieces:
                self.wfile.write(piece)
                self.wfile.flush()
        except OSError:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


def test_a_chunk_source_that_drips_is_given_up_and_the_next_chunk_still_comes(
    tmp_path: Path, device: TrustDevice, repository: Repository
) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), DrippingServer)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    answers: queue.Queue[HttpAnswer] = queue.Queue()
    clock = itertools.count(step=20)
    source = HttpSource(
        tmp_path / "ca.pem", answers.put, lambda: Instant(0, "floor"), lambda: float(next(clock))
    )
    source.start()
    try:
        place = Source(f"http://127.0.0.1:{server.server_address[1]}")
        source.get(0, place, "dripping")
        given_up = answers.get(timeout=60)
        assert given_up.data is None
        assert "slow retrieval attack" in given_up.detail
        clock = itertools.repeat(0)
        source.get(0, place, "honest")
        assert answers.get(timeout=60).data == bytes(1000)
    finally:
        source.stop()
        server.shutdown()
        thread.join()
        server.server_close()
    device.assert_updates(repository)
