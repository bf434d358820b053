"""Which wanted chunks are published again. Pure.

A device that hears nothing of a chunk says so. The hub answers only for chunks of that device's
live directive, each at most once in a while however many ask, and bounded per device: a device
can't make the hub send what it has no business with, nor more than its share.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from muster_protocol.wire.limits import WANT_CHUNKS_MAX

COALESCE_SECONDS = 3.0
CHUNKS_PER_SECOND = 8.0
BURST_CHUNKS = float(WANT_CHUNKS_MAX)
REMEMBERED_MAX = 20_000


@dataclass
class _Bucket:
    chunks: float
    at: float


class WantDesk:
    """Decides on wants; ``now`` is monotonic seconds."""

    def __init__(self) -> None:
        self._sent: dict[tuple[str, bool], float] = {}
        self._buckets: dict[str, _Bucket] = {}
        self.refused = 0
        """Chunks asked for that the asker's directive does not name."""
        self.limited = 0

    def answer(
        self,
        device: str,
        wanted: Iterable[str],
        allowed: Collection[str],
        now: float,
        *,
        last_resort: bool = False,
    ) -> list[str]:
        """The chunks to publish again now, in the order asked."""
        self._forget(now)
        bucket = self._buckets.setdefault(device, _Bucket(BURST_CHUNKS, now))
        gained = max(now - bucket.at, 0.0) * CHUNKS_PER_SECOND
        bucket.chunks, bucket.at = min(bucket.chunks + gained, BURST_CHUNKS), now
        chosen: list[str] = []
        for chunk in dict.fromkeys(wanted):
            if chunk not in allowed:
                self.refused += 1
            elif (chunk, last_resort) in self._sent:
                continue
            elif bucket.chunks < 1:
                self.limited += 1
            else:
                bucket.chunks -= 1
                self._sent[chunk, last_resort] = now
                chosen.append(chunk)
        return chosen

    def _forget(self, now: float) -> None:
        self._sent = {
            chunk: at for chunk, at in self._sent.items() if 0 <= now - at < COALESCE_SECONDS
        }
        if len(self._buckets) >= REMEMBERED_MAX:
            full = BURST_CHUNKS / CHUNKS_PER_SECOND
            self._buckets = {
                name: bucket
                for name, bucket in self._buckets.items()
                if 0 <= now - bucket.at < full
            }
