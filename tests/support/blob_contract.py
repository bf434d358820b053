"""What every place for blobs does, a folder as well as a bucket: each takes an empty place."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from muster_hub.errors import NotFound
from muster_hub.storage.blobs import BlobDamaged, Blobs, Place
from muster_protocol.wire.chunks import sha256_hex
from muster_protocol.wire.errors import MusterError
from muster_protocol.wire.limits import CHUNK_BYTES

NOBODY = "0" * 64


def what_is_put_is_read_by_its_hash(place: Place) -> None:
    blobs, data = Blobs(place), os.urandom(CHUNK_BYTES)
    name = blobs.put(memoryview(data))
    assert name == sha256_hex(data)
    assert blobs.read(name) == data
    assert (blobs.has(name), blobs.size_bytes(name)) == (True, len(data))


def an_empty_blob_is_one(place: Place) -> None:
    blobs = Blobs(place)
    assert blobs.read(blobs.put(b"")) == b""


def what_is_not_there_is_said_to_be_missing(place: Place) -> None:
    blobs = Blobs(place)
    assert not blobs.has(NOBODY)
    for ask in (blobs.read, blobs.size_bytes):
        with pytest.raises(NotFound, match="no blob 000"):
            ask(NOBODY)


def a_name_that_is_no_hash_is_refused(place: Place) -> None:
    for name in ("../../etc/passwd", "A" * 64, "", "a" * 63):
        with pytest.raises(MusterError):
            Blobs(place).read(name)


def what_was_altered_is_never_handed_out(place: Place) -> None:
    blobs, name = Blobs(place), sha256_hex(b"right")
    place.write(name, b"wrong")
    for _ in range(2):
        with pytest.raises(BlobDamaged, match=name):
            blobs.read(name)
    place.write(name, b"right")
    assert blobs.read(name) == b"right"


def many_writers_of_one_blob_leave_it_whole(place: Place) -> None:
    data = os.urandom(CHUNK_BYTES)
    with ThreadPoolExecutor(8) as pool:
        names = set(pool.map(lambda _number: Blobs(place).put(data), range(16)))
    assert Blobs(place).read(names.pop()) == data
    assert not names


def what_lay_elsewhere_before_is_read_there_still(place: Place) -> None:
    class Old:
        """A place with one blob."""

        def write(self, name: str, data: bytes) -> None:
            raise AssertionError("nothing new goes where blobs lay before")

        def read(self, name: str) -> bytes | None:
            return b"old" if name == sha256_hex(b"old") else None

        def size_bytes(self, name: str) -> int | None:
            return 3 if name == sha256_hex(b"old") else None

        def where(self, name: str) -> str:
            return name

    blobs = Blobs(place, before=Old())
    assert blobs.read(sha256_hex(b"old")) == b"old"
    assert blobs.size_bytes(sha256_hex(b"old")) == 3
    assert blobs.read(blobs.put(b"new")) == b"new"
    assert not blobs.has(NOBODY)


CONTRACT: list[Callable[[Place], None]] = [
    what_is_put_is_read_by_its_hash,
    an_empty_blob_is_one,
    what_is_not_there_is_said_to_be_missing,
    a_name_that_is_no_hash_is_refused,
    what_was_altered_is_never_handed_out,
    many_writers_of_one_blob_leave_it_whole,
    what_lay_elsewhere_before_is_read_there_still,
]
