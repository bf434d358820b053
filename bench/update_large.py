"""A model that is larger than the broker's cache, over HTTPS to a disk, and what the disk can do.

Chunks are made durable as an agent does it; the disk alone takes the same bytes into one file,
synced as often. Both are taken by turns in one run.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from bench import update_disk, update_http

from muster_protocol.wire.limits import BROKER_CACHE_BYTES_MAX

MEGABYTES = 320
ROUNDS = 3
WAYS = ("fetched", "fetched_unstored", "disk", "chunk_by_chunk")
CHUNK_BY_CHUNK_SHARE = 8
"""Of the bytes: to sync each chunk alone takes long, and its rate shows soon."""


def measure(megabytes: int, started: Any) -> dict[str, Any]:
    """MiB/s of each way, in the middle of the rounds."""
    rates: dict[str, list[float]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory(prefix="mu") as name:
        file = Path(name) / "file"
        file.write_bytes(np.random.default_rng(1).bytes(megabytes << 20))
        with update_http.running(started, Path(name) / "hub", file) as (_, server):
            places = update_http.places(server)
            ways = {
                "fetched": lambda: megabytes / update_http.fetch(server, places),
                "fetched_unstored": lambda: (
                    megabytes / update_http.fetch(server, places, stored=False)
                ),
                "disk": lambda: update_disk.sequential(megabytes),
                "chunk_by_chunk": lambda: update_disk.chunk_by_chunk(
                    megabytes // CHUNK_BY_CHUNK_SHARE
                ),
            }
            for number in range(ROUNDS):
                for way in WAYS[number:] + WAYS[:number]:
                    rates[way].append(ways[way]())
    rate = {way: round(float(np.median(each)), 1) for way, each in rates.items()}
    return {
        "megabytes": megabytes,
        "by_http_from_the_first_byte": megabytes << 20 > BROKER_CACHE_BYTES_MAX,
        "rounds": ROUNDS, "mib_per_second": rate,
        "of_disk": round(rate["fetched"] / rate["disk"], 2),
        "of_the_slower_of_disk_and_link": round(
            rate["fetched"] / min(rate["disk"], rate["fetched_unstored"]), 2
        ),
        "rounds_mib_per_second": {way: [round(r, 1) for r in each] for way, each in rates.items()},
    }  # fmt: skip
