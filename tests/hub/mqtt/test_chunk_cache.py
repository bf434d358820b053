"""What the broker's cache has room for, and what is said of the rest."""

from collections.abc import Collection, Mapping

from muster_hub.mqtt.chunk_cache import ChunkCache
from muster_hub.storage.blobs import BlobsAway
from muster_protocol.wire import topics
from muster_protocol.wire.chunks import sha256_hex
from muster_protocol.wire.limits import BROKER_CACHE_BYTES_MAX
from support.sending import MemorySender

FITS, TOO_MUCH = sha256_hex(b"fits"), sha256_hex(b"too much")


class Live:
    """Implements Chunks: groups of chunks that are needed, two unless others are given."""

    def __init__(self, *groups: Mapping[str, int]) -> None:
        self.groups = groups or ({FITS: 1000}, {TOO_MUCH: BROKER_CACHE_BYTES_MAX})

    def live(self) -> tuple[Mapping[str, int], ...]:
        return self.groups

    def of_directive(self, device: str) -> Collection[str]:
        del device
        return {FITS, TOO_MUCH}

    def read(self, sha256: str) -> bytes:
        return {FITS: b"fits", TOO_MUCH: b"too much"}[sha256]


def test_what_the_cache_has_no_room_for_is_named_when_wanted_and_sent_in_the_last_resort() -> None:
    sender = MemorySender()
    cache = ChunkCache(sender, Live(), save=lambda: None)
    cache.publish(1.0)
    assert (topics.chunk(FITS), b"fits", True) in sender.sent
    assert topics.chunk(TOO_MUCH) not in {topic for topic, _, _ in sender.sent}
    sender.sent.clear()
    cache.answer(FITS, last_resort=False)
    cache.answer(TOO_MUCH, last_resort=False)
    cache.answer(TOO_MUCH, last_resort=True)
    assert sender.sent == [
        (topics.chunk(FITS), b"fits", True),
        (topics.chunk(TOO_MUCH), b"", False),
        (topics.chunk(TOO_MUCH), b"too much", False),
    ]
    sender.sent.clear()
    cache.publish(2.0)
    assert sender.sent == []  # Nothing that was sent once is cleared again.


def test_while_chunks_can_t_be_reached_publishing_waits_and_gives_none_up() -> None:
    class Away(Live):
        """Chunks in a bucket that is out of reach at first."""

        away = True

        def read(self, sha256: str) -> bytes:
            if self.away:
                raise BlobsAway("s3://bucket: no route")
            return super().read(sha256)

    sender, chunks = MemorySender(), Away({FITS: 1000})
    cache = ChunkCache(sender, chunks, save=lambda: None)
    cache.publish(1.0)
    assert [topic for topic, _, _ in sender.sent if topics.parse_chunk(topic)] == []
    chunks.away = False
    cache.publish(2.0)
    assert (topics.chunk(FITS), b"fits", True) in sender.sent


def retained(*groups: Mapping[str, int]) -> set[str | None]:
    sender = MemorySender()
    ChunkCache(sender, Live(*groups), save=lambda: None).publish(1.0)
    sent = {topics.parse_chunk(topic) for topic, _, retain in sender.sent if retain}
    return sent - {None}


def test_a_bundle_larger_than_the_cache_takes_no_other_bundle_s_place() -> None:
    large = {TOO_MUCH: BROKER_CACHE_BYTES_MAX // 2, "c" * 64: BROKER_CACHE_BYTES_MAX}
    assert retained(large, {FITS: 1000}) == {FITS}


def test_bundles_share_the_cache_and_what_they_share_counts_once() -> None:
    half = BROKER_CACHE_BYTES_MAX // 2
    assert retained({FITS: half}, {FITS: half, TOO_MUCH: half}) == {FITS, TOO_MUCH}
