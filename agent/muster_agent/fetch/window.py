"""Fetching chunks by name from sources that may lie, lose or stay silent. Pure: no input or output.

The receiver drives: a small window of chunks is asked for at a time. From the broker a missing
chunk answers with silence, so a watchdog asks again, then asks the hub to publish it anew, then
turns to the HTTP sources. Of those, neighbouring chunks of one file are asked for in one range, and
by their names where no such range is served. Whatever comes is hashed on arrival; an altered chunk
is thrown away and the next source asked. Methods take ``now`` (monotonic seconds) and return what
is to be done.
"""

import random
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from muster_protocol.wire.chunks import sha256_hex
from muster_protocol.wire.errors import Refusal
from muster_protocol.wire.limits import WANT_CHUNKS_MAX

BROKER = -1
"""The broker among the sources of a chunk; HTTP sources count from 0."""
SILENCES_BEFORE_WANT = 2
SILENCES_BEFORE_HTTP = 3
HTTP_SECONDS_MAX = 90.0
"""An HTTP source that sends no chunk for so long is given up, whatever its thread does."""
RUN_CHUNKS = 8
"""Neighbouring chunks in one HTTP request: 1 MiB, beside which the request itself costs nothing."""
AT_ONCE_CHUNKS = 2 * RUN_CHUNKS
"""What one HTTP source is asked for at once: while a run comes the next one waits its turn."""
_JITTER = 0.25


class Place(NamedTuple):
    """Where a chunk lies: in the file with this SHA-256, from this byte on."""

    file: str
    offset: int
    size_bytes: int


@dataclass(frozen=True)
class ChunkRun:
    """Neighbouring chunks of a file, in order."""

    file: str
    offset: int
    digests: tuple[str, ...]
    sizes: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of all its chunks."""
        return sum(self.sizes)


@dataclass(frozen=True)
class Subscribe:
    """Ask the broker for these chunks."""

    digests: tuple[str, ...]


@dataclass(frozen=True)
class Unsubscribe:
    """These chunks have come, or are not wanted any more."""

    digests: tuple[str, ...]


@dataclass(frozen=True)
class AskHub:
    """Publish ``up/want`` for these chunks."""

    digests: tuple[str, ...]


@dataclass(frozen=True)
class HttpGet:
    """Get one chunk by its name from a source, which is named by its place in the directive."""

    source: int
    digest: str


@dataclass(frozen=True)
class HttpRange:
    """Get neighbouring chunks of a file in one request."""

    source: int
    run: ChunkRun


@dataclass(frozen=True)
class Keep:
    """A verified chunk; ``healed`` when an altered copy came before it."""

    digest: str
    data: bytes
    healed: bool


@dataclass(frozen=True)
class GiveUp:
    """Nothing was left to try: the update ends with this refusal."""

    refusal: Refusal
    detail: str


Action = Subscribe | Unsubscribe | AskHub | HttpGet | HttpRange | Keep | GiveUp


@dataclass
class _Asked:
    """A chunk in the window: where it is asked for, and which sources are left."""

    source: int
    left: deque[int]
    since: float
    in_run: bool = False
    altered: list[str] = field(default_factory=list)
    republished: bool = False
    """The hub was asked to publish it anew because the broker's copy is altered."""
    detail: str = "no source answered"


class Fetch:
    """The window over one bundle's chunks. After ``GiveUp`` it is finished."""

    def __init__(
        self, *, window: int, silence_seconds: float, http_sources: int, rng: random.Random
    ) -> None:
        self.at_once = AT_ONCE_CHUNKS
        """Most chunks to ask HTTP sources for at once; budgets may allow fewer."""
        self._window = window
        self._silence_seconds = silence_seconds
        self._order = [BROKER, *range(http_sources)]
        self._rng = rng
        self._waiting: deque[str] = deque()
        self._asked: dict[str, _Asked] = {}
        self._places: dict[str, Place] = {}
        self._without_ranges: set[int] = set()
        self._link_up = False
        self._silences = 0
        self._silent_at = float("inf")
        self._over = False
        self._paused = False

    @property
    def done(self) -> bool:
        """Nothing waits and nothing is asked for."""
        return not self._waiting and not self._asked

    def deadline(self) -> float:
        """When ``tick`` should be called next, infinite when only an arrival can help."""
        http = [asked.since for asked in self._asked.values() if asked.source != BROKER]
        return min(self._silent_at, *(since + HTTP_SECONDS_MAX for since in http), float("inf"))

    def need(
        self, digests: Iterable[str], now: float, places: Mapping[str, Place] | None = None
    ) -> list[Action]:
        """Add chunks to fetch, each once, in this order; ``places`` as far as they are known."""
        self._places |= places or {}
        known = {*self._waiting, *self._asked}
        for digest in digests:
            if digest not in known:
                known.add(digest)
                self._waiting.append(digest)
        return self._top_up(now)

    def pause(self) -> None:
        """Ask for nothing more; what was asked for may still come."""
        self._paused = True

    def go_on(self, now: float) -> list[Action]:
        """After a pause."""
        self._paused = False
        return self._top_up(now)

    def link_up(self, now: float) -> list[Action]:
        """The link is there; subscriptions are the link's to repeat."""
        self._link_up = True
        self._progress(now)
        return []

    def link_down(self) -> list[Action]:
        """Silence means nothing now; HTTP goes on."""
        self._link_up = False
        self._silent_at = float("inf")
        return []

    def stop(self) -> list[Action]:
        """Give up quietly: another goal has taken over."""
        self._over = True
        self._waiting.clear()
        subscribed = self._from_broker()
        self._asked.clear()
        return [Unsubscribe(subscribed)] if subscribed else []

    def arrived(self, digest: str, data: bytes, now: float) -> list[Action]:
        """A message on a chunk topic."""
        asked = self._asked.get(digest)
        if asked is None or asked.source != BROKER:
            return []
        if sha256_hex(data) == digest:
            return self._keep(digest, data, now)
        if asked.republished:
            return []  # The retained copy again, before what the hub publishes anew.
        asked.altered.append("the broker")
        return [Unsubscribe((digest,)), *self._next_source(digest, now)]

    def answered(
        self,
        source: int,
        digest: str,
        data: bytes | None,
        detail: str,
        now: float,
        *,
        unserved: bool = False,
    ) -> list[Action]:
        """A chunk from an HTTP source, or None and why; ``unserved``: for want of ranges only."""
        asked = self._asked.get(digest)
        if asked is None or asked.source != source:
            return []
        if data is not None and sha256_hex(data) == digest:
            for other in self._asked.values():
                if other.source == source:
                    other.since = now
            return self._keep(digest, data, now)
        if data is not None:
            asked.altered.append(f"HTTP source {source + 1}")
        else:
            asked.detail = detail
        if asked.in_run and (unserved or data is not None):
            # The file may be cut or served otherwise there than the manifest says.
            self._without_ranges.add(source)
            return self._ask(digest, now)
        return self._next_source(digest, now)

    def tick(self, now: float) -> list[Action]:
        """Look at the watchdog."""
        actions: list[Action] = []
        for digest, asked in list(self._asked.items()):
            if asked.source != BROKER and now >= asked.since + HTTP_SECONDS_MAX:
                asked.detail = f"HTTP source {asked.source + 1} did not answer"
                actions += self._next_source(digest, now)
        if now >= self._silent_at and not self._over:
            actions += self._silence(now)
        return actions

    def _silence(self, now: float) -> list[Action]:
        self._silences += 1
        subscribed = self._from_broker()
        self._arm(now)
        if not subscribed:
            self._silent_at = float("inf")
            return []
        if self._silences >= SILENCES_BEFORE_HTTP or self._republishing(subscribed):
            self._silences = 0
            if len(self._order) > 1 and self._order[0] == BROKER:
                # What comes after starts where there are answers; the broker is tried last.
                self._order = [*self._order[1:], BROKER]
            actions: list[Action] = [Unsubscribe(subscribed)]
            for digest in subscribed:
                actions += self._next_source(digest, now)
            return actions
        again: list[Action] = [Unsubscribe(subscribed), Subscribe(subscribed)]
        if self._silences >= SILENCES_BEFORE_WANT:
            again.append(AskHub(subscribed[:WANT_CHUNKS_MAX]))
        return again

    def _republishing(self, subscribed: tuple[str, ...]) -> bool:
        return all(self._asked[digest].republished for digest in subscribed)

    def _keep(self, digest: str, data: bytes, now: float) -> list[Action]:
        asked = self._asked.pop(digest)
        self._places.pop(digest, None)
        self._progress(now)
        actions: list[Action] = [Keep(digest, data, healed=bool(asked.altered))]
        if asked.source == BROKER:
            actions.append(Unsubscribe((digest,)))
        return actions + self._top_up(now)

    def _top_up(self, now: float) -> list[Action]:
        actions: list[Action] = []
        while self._waiting and not self._over and not self._paused:
            first, *left = self._order
            run = self._run() if first != BROKER and first not in self._without_ranges else None
            if run is not None:
                if len(self._asked) + min(RUN_CHUNKS, self.at_once) > self.at_once:
                    break
                for digest in run.digests:
                    self._waiting.popleft()
                    self._asked[digest] = _Asked(first, deque(left), now, in_run=True)
                actions.append(HttpRange(first, run))
                continue
            if len(self._asked) >= self._window:
                break
            digest = self._waiting.popleft()
            self._asked[digest] = _Asked(first, deque(left), now)
            actions += self._ask(digest, now)
        return actions

    def _run(self) -> ChunkRun | None:
        """The neighbours at the head of what waits, two or more."""
        first = self._places.get(self._waiting[0])
        if first is None:
            return None
        digests: list[str] = []
        sizes: list[int] = []
        end = first.offset
        for digest in islice(self._waiting, min(RUN_CHUNKS, self.at_once)):
            place = self._places.get(digest)
            if place is None or (place.file, place.offset) != (first.file, end):
                break
            digests.append(digest)
            sizes.append(place.size_bytes)
            end += place.size_bytes
        if len(digests) < 2:
            return None
        return ChunkRun(first.file, first.offset, tuple(digests), tuple(sizes))

    def _ask(self, digest: str, now: float) -> list[Action]:
        asked = self._asked[digest]
        asked.since = now
        asked.in_run = False
        if asked.source != BROKER:
            return [HttpGet(asked.source, digest)]
        if self._silent_at == float("inf"):
            self._arm(now)
        return [Subscribe((digest,))]

    def _next_source(self, digest: str, now: float) -> list[Action]:
        if self._over:
            return []
        asked = self._asked[digest]
        if asked.left:
            asked.source = asked.left.popleft()
            return self._ask(digest, now)
        if asked.altered and not asked.republished:
            asked.source = BROKER
            asked.republished = True
            return [*self._ask(digest, now), AskHub((digest,))]
        actions = self.stop()
        if asked.altered:
            sources = " and ".join(dict.fromkeys(asked.altered))
            detail = f"chunk {digest[:12]} is altered at {sources}"
            return [*actions, GiveUp(Refusal.CHUNK_ALTERED, detail)]
        return [*actions, GiveUp(Refusal.CHUNK_MISSING, f"chunk {digest[:12]}: {asked.detail}")]

    def _progress(self, now: float) -> None:
        self._silences = 0
        if self._from_broker():
            self._arm(now)

    def _arm(self, now: float) -> None:
        jitter = 1 + self._rng.uniform(-_JITTER, _JITTER)
        self._silent_at = now + self._silence_seconds * jitter if self._link_up else float("inf")

    def _from_broker(self) -> tuple[str, ...]:
        return tuple(d for d, asked in self._asked.items() if asked.source == BROKER)
