"""Slow retrieval: bytes that drip in keep a client waiting for ever, unless it counts."""

import io

import pytest
from tuf.api import exceptions

from muster_agent.trust import refusal_of
from muster_agent.trust_http import BYTES_PER_SECOND_MIN, GRACE_SECONDS, HttpFiles
from muster_protocol.errors import Refusal


class Dripping(io.BytesIO):
    """An answer that gives ``piece_bytes`` at a time; the clock moves with each."""

    def __init__(self, length: int, piece_bytes: int, seconds: float) -> None:
        super().__init__(b"x" * length)
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


def test_metadata_that_drip_in_are_given_up_and_called_a_slow_retrieval_attack() -> None:
    answer = Dripping(length=100_000, piece_bytes=1, seconds=1.0)
    with pytest.raises(exceptions.SlowRetrievalError, match="slow retrieval attack") as caught:
        fetched(answer)
    assert answer.now <= GRACE_SECONDS + 2
    refusal = refusal_of(caught.value)
    assert refusal.refusal is Refusal.METADATA_MISSING
    assert "slow retrieval" in str(refusal)


@pytest.mark.parametrize("rate", [BYTES_PER_SECOND_MIN, 10 * BYTES_PER_SECOND_MIN])
def test_a_slow_but_honest_link_is_waited_for(rate: int) -> None:
    assert fetched(Dripping(length=200_000, piece_bytes=rate, seconds=1.0)) == b"x" * 200_000
