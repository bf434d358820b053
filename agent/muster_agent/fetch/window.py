"""Fetching chunks by name from sources that may lie, lose or stay silent. Pure: no input or output.

The receiver drives: a small window of chunks is asked for at a time, one on a slow link. From the
broker a missing chunk answers with silence, so a watchdog asks again, then asks the hub to publish
it anew, then turns to the HTTP sources. Of those, neighbouring chunks of one file are asked for in
one range, and by their names where no such range is served. Whatever comes is hashed on arrival; an
altered chunk is thrown away and the next source asked. Methods take ``now`` (monotonic seconds) and
return what is to be done.
"""

import random
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice

from muster_agent.fetch.actions import (
    BROKER,
    Action,
    AskHub,
    ChunkRun,
    GiveUp,
    HttpGet,
    HttpRange,
    Keep,
    Place,
    Subscribe,
    Unsubscribe,
)
from muster_agent.fetch.pace import Pace
from muster_agent.fetch.silence import Heard, Silence
from muster_agent.fetch.sources import Sources, Tried
from muster_protocol.wire.chunks import sha256_hex
from muster_protocol.wire.errors import Refusal
from muster_protocol.wire.limits import CHUNK_BYTES, WANT_CHUNKS_MAX

SILENCES_BEFORE_WANT = 2
SILENCES_BEFORE_HTTP = 3
HTTP_SECONDS_MAX = 90.0
"""An HTTP source that sends no byte for so long is given up, whatever its thread does."""
BLOCKED_CHUNKS_MAX = 16
"""Chunks looked at, past those that no source can be asked for now."""
RUN_CHUNKS = 8
"""Neighbouring chunks in one HTTP request: 1 MiB, beside which the request itself costs nothing."""
AT_ONCE_CHUNKS = 2 * RUN_CHUNKS
"""What one HTTP source is asked for at once: while a run comes the next one waits its turn."""
_NEVER = float("inf")


@dataclass
class _Asked:
    """A chunk in the window: where it is asked for, and since when."""

    source: int
    since: float
    in_run: bool = False
    confirmed: bool = False
    """The broker has taken the subscription: only from then on can its silence mean anything."""


class Fetch:
    """The window over one bundle's chunks. After ``GiveUp`` it is finished."""

    def __init__(
        self,
        *,
        window: int,
        silence_seconds: float,
        http_sources: int,
        rng: random.Random,
        pace: Pace | None = None,
    ) -> None:
        """``pace`` is the link's measured rate; without one it counts as fast."""
        self.at_once = AT_ONCE_CHUNKS
        """Most chunks to ask HTTP sources for at once; budgets may allow fewer."""
        self._window = window
        self._sources = Sources(http_sources, rng)
        self._pace = pace
        self._waiting: deque[str] = deque()
        self._asked: dict[str, _Asked] = {}
        self._tried: dict[str, Tried] = {}
        """Of everything that is lacking, waiting or asked for."""
        self._needed = 0
        self._places: dict[str, Place] = {}
        self._without_ranges: set[int] = set()
        self._broker = Silence(silence_seconds, rng)
        self._heard = Heard(0, 0)
        self._over = False
        self._paused = False

    @property
    def done(self) -> bool:
        """Nothing waits and nothing is asked for."""
        return not self._waiting and not self._asked

    def deadline(self) -> float:
        """When ``tick`` should be called next, infinite when only an arrival can help."""
        http = [asked.since for asked in self._asked.values() if asked.source != BROKER]
        rests = self._sources.free_at() if self._waiting and not self._paused else _NEVER
        return min(self._silent_at(), rests, *(since + HTTP_SECONDS_MAX for since in http), _NEVER)

    def need(
        self, digests: Iterable[str], now: float, places: Mapping[str, Place] | None = None
    ) -> list[Action]:
        """Add chunks to fetch, each once, in this order; ``places`` as far as they are known."""
        self._places |= places or {}
        for digest in digests:
            if digest not in self._tried:
                self._tried[digest] = Tried(self._needed)
                self._needed += 1
                self._waiting.append(digest)
        return self._top_up(now)

    @property
    def by_http(self) -> bool:
        """Whether HTTP sources are asked before the broker."""
        return self._sources.http_first

    def broker_missed(self) -> None:
        """It was found to lack chunks of this bundle before."""
        self._sources.broker_missed()

    def broker_has_no_room(self) -> None:
        """The bundle is more than the broker keeps."""
        self._sources.broker_has_no_room()

    def pause(self) -> None:
        """Ask for nothing more; what was asked for may still come."""
        self._paused = True

    def go_on(self, now: float) -> list[Action]:
        """After a pause."""
        self._paused = False
        return self._top_up(now)

    def link_up(self, now: float) -> list[Action]:
        """The link is there; subscriptions are the link's to repeat."""
        self._sources.link_up = True
        self._sources.network_is_back()
        self._broker.progress(now)
        return self._top_up(now)

    def link_down(self, now: float) -> list[Action]:
        """Silence means nothing now, and what was under way is lost; HTTP goes on."""
        self._sources.link_up = False
        self._heard = Heard(0, self._heard.http_bytes)
        for asked in self._asked.values():
            asked.confirmed = False
        if self._pace is not None:
            self._pace.rest()
        if not self._pace_slow() or len(self._sources.all) == 1:
            return []
        # What breaks off in the middle of a chunk goes on where it can: over HTTP.
        broken = self._from_broker()
        for digest in broken:
            self._put_back(digest)
        actions: list[Action] = [Unsubscribe(broken)] if broken else []
        return actions + self._top_up(now)

    def stop(self) -> list[Action]:
        """Give up quietly: another goal has taken over."""
        self._over = True
        self._waiting.clear()
        self._tried.clear()
        subscribed = self._from_broker()
        self._asked.clear()
        if self._pace is not None:
            self._pace.rest()
        return [Unsubscribe(subscribed)] if subscribed else []

    def heard(self, heard: Heard, now: float) -> bool:
        """How many bytes have come by now, and whether any since; call it before anything else."""
        before, self._heard = self._heard, heard
        # A count that falls is a new connection's.
        broker = heard.broker_bytes - before.broker_bytes
        http = heard.http_bytes - before.http_bytes
        broker = broker if broker >= 0 else heard.broker_bytes
        http = http if http >= 0 else heard.http_bytes
        if broker:
            self._broker.moved(broker, now)
        if http:
            for asked in self._asked.values():
                if asked.source != BROKER:
                    asked.since = now
                    self._sources.reached(asked.source)
        if self._pace is not None and broker + http:
            self._pace.came(broker + http, now)
        return broker + http > 0

    def subscribed(self, digests: Iterable[str], now: float) -> None:
        """The broker has taken these subscriptions: what it has of them comes now."""
        for digest in digests:
            asked = self._asked.get(digest)
            if asked is not None and asked.source == BROKER:
                asked.confirmed = True
                self._broker.confirmed(now)

    def arrived(self, digest: str, data: bytes, now: float) -> list[Action]:
        """A message on a chunk topic; whatever was asked for meanwhile, what is good is kept."""
        tried = self._tried.get(digest)
        if tried is None:
            return []
        if sha256_hex(data) == digest:
            return self._keep(digest, data, BROKER, now)
        self._broker.useless()
        self._no_good(now)
        if not data:
            return self._elsewhere(digest, now)
        asked = self._asked.get(digest)
        if asked is None or asked.source != BROKER or tried.republished:
            return []  # Not asked for, or the retained copy before what the hub publishes anew.
        tried.altered.append("the broker")
        return [Unsubscribe((digest,)), *self._failed(digest, now)]

    def _elsewhere(self, digest: str, now: float) -> list[Action]:
        """The hub says that the broker has no room for it: the others are by HTTP too."""
        asked, tried = self._asked.get(digest), self._tried[digest]
        if asked is None or asked.source != BROKER or tried.begged:
            return []
        tried.elsewhere = True
        self._sources.broker_has_no_room()
        return [Unsubscribe((digest,)), *self._failed(digest, now)]

    def _no_good(self, now: float) -> None:
        """A copy came whole and altered: the wait for the next one says nothing of the link."""
        if self._pace is not None:
            self._pace.whole(now)

    def answered(
        self,
        source: int,
        digest: str,
        data: bytes | None,
        detail: str,
        now: float,
        *,
        unserved: bool = False,
        unreached: bool = False,
    ) -> list[Action]:
        """A chunk from an HTTP source, or None and why.

        ``unserved``: for want of ranges only; ``unreached``: it said nothing, or not all of it.
        """
        tried = self._tried.get(digest)
        if tried is None:
            return []
        if not unreached:
            self._sources.reached(source)
        if data is not None and sha256_hex(data) == digest:
            for other in self._asked.values():
                if other.source == source:
                    other.since = now
            return self._keep(digest, data, source, now)
        asked = self._asked.get(digest)
        if asked is None or asked.source != source:
            return []
        if data is not None:
            tried.altered.append(f"HTTP source {source + 1}")
            self._no_good(now)
        else:
            tried.detail = detail
        if asked.in_run and (unserved or data is not None):
            # The file may be cut or served otherwise there than the manifest says.
            self._without_ranges.add(source)
            return self._ask(digest, now)
        if unreached and not self._sources.unreached(source, now):
            self._put_back(digest)
            return self._top_up(now)
        return self._failed(digest, now)

    def tick(self, now: float) -> list[Action]:
        """Look at the watchdog."""
        actions: list[Action] = []
        for digest, asked in list(self._asked.items()):
            if asked.source != BROKER and now >= asked.since + HTTP_SECONDS_MAX:
                self._tried[digest].detail = f"HTTP source {asked.source + 1} did not answer"
                actions += self._failed(digest, now)
                if self._over:
                    return actions
        if now >= self._silent_at() and not self._over:
            actions += self._silence(now)
        return actions + self._top_up(now)

    # The broker's silence

    def _silent_at(self) -> float:
        """When the broker's silence means that it lacks what it is asked for."""
        if not self._sources.link_up or not self._confirmed():
            return _NEVER
        asked_bytes = self._sizes(*self._from_broker())
        return self._broker.until(asked_bytes, slow=self._pace_slow())

    def _silence(self, now: float) -> list[Action]:
        silent = self._confirmed()
        self._broker.times += 1
        self._broker.begin(now)
        if self._pace is not None:
            self._pace.whole(now)  # A chunk that isn't there says nothing about the link.
        if self._broker.times >= SILENCES_BEFORE_HTTP or self._republishing(silent):
            self._broker.times = 0
            self._sources.broker_missed()
            actions: list[Action] = [Unsubscribe(silent)]
            for digest in silent:
                self._tried[digest].failed.add(BROKER)
                self._put_back(digest)
            return actions + self._top_up(now)
        for digest in silent:
            self._asked[digest].confirmed = False
        again: list[Action] = [Unsubscribe(silent), Subscribe(silent)]
        if self._broker.times >= SILENCES_BEFORE_WANT:
            wanted = silent[:WANT_CHUNKS_MAX]
            again.append(AskHub(wanted, last_resort=self._sources.begging))
        return again

    def _republishing(self, silent: tuple[str, ...]) -> bool:
        return all(self._tried[digest].republished for digest in silent)

    def _confirmed(self) -> tuple[str, ...]:
        return tuple(d for d in self._from_broker() if self._asked[d].confirmed)

    def _from_broker(self) -> tuple[str, ...]:
        return tuple(d for d, asked in self._asked.items() if asked.source == BROKER)

    def _sizes(self, *digests: str) -> int:
        """Their bytes, as far as they are known; a whole chunk's where they are not."""
        return sum(
            self._places[digest].size_bytes if digest in self._places else CHUNK_BYTES
            for digest in digests
        )

    # Asking

    def _keep(self, digest: str, data: bytes, source: int, now: float) -> list[Action]:
        asked = self._asked.pop(digest, None)
        if asked is None:
            self._waiting.remove(digest)
        self._places.pop(digest, None)
        self._broker.progress(now)
        healed = bool(self._tried.pop(digest).altered)
        actions: list[Action] = [Keep(digest, data, healed, source)]
        if asked is not None and asked.source == BROKER:
            actions.append(Unsubscribe((digest,)))
        if self._pace is not None:
            self._pace.whole(now)
            if not self._asked:
                self._pace.rest()
        return actions + self._top_up(now)

    def _put_back(self, digest: str) -> None:
        """It waits again, in its old place: neighbours stay neighbours."""
        del self._asked[digest]
        place = self._tried[digest].place
        before = 0
        while before < len(self._waiting) and self._tried[self._waiting[before]].place < place:
            before += 1
        self._waiting.insert(before, digest)

    def _failed(self, digest: str, now: float) -> list[Action]:
        """The source it was asked for hasn't got it."""
        tried = self._tried[digest]
        tried.failed.add(self._asked[digest].source)
        self._put_back(digest)
        return self._top_up(now)

    def _top_up(self, now: float) -> list[Action]:
        actions: list[Action] = []
        blocked: list[str] = []
        slow = self._pace_slow()
        self._sources.wake(now)
        while self._waiting and not self._over and not self._paused:
            digest = self._waiting[0]
            tried = self._tried[digest]
            if self._sources.exhausted(tried):
                if tried.elsewhere and not tried.begged:
                    tried.begged = True
                elif tried.altered and not tried.republished:
                    tried.republished = True
                else:
                    return actions + self._give_up(digest)
                tried.failed.discard(BROKER)
            source = self._sources.next(tried, now, slow=slow)
            if source is None:
                blocked.append(self._waiting.popleft())
                if len(blocked) >= BLOCKED_CHUNKS_MAX:
                    break
                continue
            asked = self._ask_next(source, now, slow=slow)
            if not asked:
                break
            actions += asked
        self._waiting.extendleft(reversed(blocked))
        return actions

    def _ask_next(self, source: int, now: float, *, slow: bool) -> list[Action]:
        """Ask the source for what waits first; nothing when it is asked for enough already."""
        from_http = [asked for asked in self._asked.values() if asked.source != BROKER]
        if source == BROKER:
            if not self._room(self._waiting[0]):
                return []
        elif source not in self._without_ranges and (run := self._run(source, 1 if slow else 2)):
            if len(from_http) + min(RUN_CHUNKS, self.at_once) > self.at_once:
                return []
            for digest in run.digests:
                self._waiting.popleft()
                self._asked[digest] = _Asked(source, now, in_run=True)
            self._begin(now)
            return [HttpRange(source, run)]
        elif sum(not asked.in_run for asked in from_http) >= self._window:
            return []
        digest = self._waiting.popleft()
        self._asked[digest] = _Asked(source, now)
        asked = self._ask(digest, now)
        tried = self._tried[digest]
        if source == BROKER and (self._sources.begging or tried.republished):
            tried.begged = self._sources.begging
            asked.append(AskHub((digest,), last_resort=tried.begged))
        return asked

    def _run(self, source: int, least: int) -> ChunkRun | None:
        """The neighbours at the head of what waits, ``least`` or more, that the source may have."""
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
            if source in self._tried[digest].failed:
                break
            digests.append(digest)
            sizes.append(place.size_bytes)
            end += place.size_bytes
        if len(digests) < least:
            return None
        return ChunkRun(first.file, first.offset, tuple(digests), tuple(sizes))

    def _ask(self, digest: str, now: float) -> list[Action]:
        asked = self._asked[digest]
        asked.since = now
        asked.in_run = False
        self._begin(now)
        if asked.source != BROKER:
            return [HttpGet(asked.source, digest)]
        if len(self._from_broker()) == 1:
            self._broker.begin(now)
        return [Subscribe((digest,))]

    def _begin(self, now: float) -> None:
        if self._pace is not None:
            self._pace.begin(now)

    def _room(self, digest: str) -> bool:
        """Whether the broker may be asked for one more: by number, and by what the link carries."""
        asked = self._from_broker()
        if not asked or len(asked) >= self._window or self._pace is None:
            return len(asked) < self._window
        return self._sizes(*asked, digest) <= self._pace.ahead_bytes

    def _pace_slow(self) -> bool:
        return self._pace is not None and self._pace.slow

    def _give_up(self, digest: str) -> list[Action]:
        tried = self._tried[digest]
        actions = self.stop()
        if tried.altered:
            sources = " and ".join(dict.fromkeys(tried.altered))
            detail = f"chunk {digest[:12]} is altered at {sources}"
            return [*actions, GiveUp(Refusal.CHUNK_ALTERED, detail)]
        return [*actions, GiveUp(Refusal.CHUNK_MISSING, f"chunk {digest[:12]}: {tried.detail}")]
