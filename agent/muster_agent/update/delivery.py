"""Fetching one bundle at a time for all slots: the window's actions done on link, hub and store.

Slots queue; what the second needs of the first's chunks is there already when its turn comes.
"""

import contextlib
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, assert_never

from muster_agent.base.system_error import as_refusal
from muster_agent.fetch import actions as a
from muster_agent.fetch import window as f
from muster_agent.fetch.http_source import HttpAnswer
from muster_agent.fetch.meter import FetchPause, Meter
from muster_agent.fetch.pace import Pace
from muster_agent.fetch.silence import STALL_SECONDS, Heard
from muster_agent.link.link import Link
from muster_agent.storage.content import StoreRefused
from muster_agent.update.bundle import BundleInstall
from muster_agent.update.ports import Progress
from muster_protocol.wire import messages, topics
from muster_protocol.wire.directive import Goal, Source
from muster_protocol.wire.errors import Refusal
from muster_protocol.wire.limits import BROKER_CACHE_BYTES_MAX, CHUNK_BYTES, MIB

SYNC_BYTES = 8 * MIB
"""Chunks that are made durable together: more waits too long for a slow disk, while nothing else
is done."""
SYNC_SECONDS = 1.0
"""How long a chunk waits for others before it is made durable; a power cut takes no more."""
_NEVER = float("inf")


class HttpGetter(Protocol):
    """Fetches over HTTP on a thread of its own; answers come back as events."""

    def get(self, number: int, source: Source, digest: str) -> None:
        """Ask; the answer comes as an ``HttpAnswer``."""
        ...

    def get_range(self, number: int, source: Source, run: a.ChunkRun) -> None:
        """Ask for neighbouring chunks of a file; an ``HttpAnswer`` comes for each."""
        ...

    def cancel(self) -> None:
        """What has been asked for and hasn't come isn't wanted any more."""
        ...

    def received_bytes(self) -> int:
        """Bytes of chunks that have come so far, whole or not."""
        ...


OnDelivered = Callable[[str, tuple[Refusal, str] | None, float], None]
"""Called with the slot, a refusal or None (all is there), and now."""
Healed = Callable[[str, Goal, int], None]
"""Called with the slot, the goal and the number of chunks that came altered at first."""


@dataclass
class _Spent:
    """What a bundle's download has taken."""

    manifest: str
    seconds: float = 0.0
    source: str = ""
    by_http: bool = False
    """The broker lacks its chunks, so that other sources are asked first."""


class BundleDelivery:
    """Implements ``update.ports.Delivery``."""

    def __init__(
        self,
        device: str,
        link: Link,
        http: HttpGetter,
        install: BundleInstall,
        *,
        window: int,
        silence_seconds: float,
        rng: random.Random,
        outcome: OnDelivered,
        healed: Healed,
        meter: Meter,
        make_room: Callable[[], None],
    ) -> None:
        """``make_room`` deletes what the store can spare."""
        self.sources: tuple[Source, ...] = ()
        """HTTP sources of the directive in force; a fetch uses those at its beginning."""
        self._device = device
        self._link = link
        self._http = http
        self._install = install
        self._window = window
        self._silence_seconds = silence_seconds
        self._rng = rng
        self._outcome = outcome
        self._healed = healed
        self._meter = meter
        self._make_room = make_room
        self._pace = Pace()
        self._pause: FetchPause | None = None
        self._queue: dict[str, Goal] = {}
        """Slots in the order they came; the first is being served."""
        self._fetch: f.Fetch | None = None
        self._fetch_sources: tuple[Source, ...] = ()
        self._first_source = 0
        """Number of the fetch's first source. Each fetch counts on from the one before: an answer
        that was on its way when that ended is of no source of this one."""
        self._link_up = False
        self._altered = 0
        self._missing = 0
        self._sizes = (0, 0)
        self._spent: dict[str, _Spent] = {}
        """What a slot's present bundle has taken, kept until it is asked for another."""
        self._moved_at = 0.0
        self._sync_at = _NEVER

    def begin(self, slot: str, goal: Goal, now: float) -> None:
        self._queue[slot] = goal
        if self._spent.get(slot, _Spent("")).manifest != goal.manifest:
            self._spent[slot] = _Spent(goal.manifest)
        self._next(now)

    def cancel(self, slot: str, now: float) -> None:
        if slot not in self._queue:
            return
        active = next(iter(self._queue)) == slot
        del self._queue[slot]
        if active:
            self._end(now)
        self._next(now)

    def refetch(self, now: float) -> None:
        """The store may hold now what is being asked for: look at it again."""
        if self._fetch is not None:
            self._end(now)
            self._pause = None
            self._next(now)

    def progress(self, slot: str) -> Progress:
        spent = self._spent.get(slot, _Spent(""))
        done, total = 0, self._queue[slot].manifest_bytes if slot in self._queue else 0
        if next(iter(self._queue), None) == slot:
            done, total = self._sizes
        return Progress(done, total, spent.seconds, spent.source)

    def waiting(self, slot: str) -> str:
        """What a queued slot waits for, for the report."""
        first = next(iter(self._queue), None)
        if slot == first and self._pause is not None:
            return self._pause.reason
        return f"the download for slot {first}" if slot in self._queue and first != slot else ""

    def deadline(self) -> float:
        """When ``tick`` is next worth calling, in monotonic seconds."""
        if self._fetch is None:
            return _NEVER
        paused = self._pause.until if self._pause is not None else _NEVER
        return min(self._fetch.deadline(), paused, self._sync_at)

    def tick(self, now: float) -> None:
        """Look for silence, budgets and the next bundle in the queue."""
        if (fetch := self._heard(now)) is not None:
            self._do(fetch.tick(now), now)
        if now >= self._sync_at:
            self._commit(now)
        if self._pause is not None and now >= self._pause.until:
            self._look(now)
            self._go_on(now)

    def _go_on(self, now: float) -> None:
        if self._fetch is not None and self._pause is None:
            self._do(self._fetch.go_on(now), now)

    def _look(self, now: float) -> None:
        """Whether more may be asked for now."""
        self._pause = self._meter.pause(now)
        if self._fetch is None:
            return
        self._fetch.at_once = self._meter.within(f.AT_ONCE_CHUNKS * CHUNK_BYTES) // CHUNK_BYTES
        if self._pause is not None:
            self._fetch.pause()

    def connected(self, now: float) -> None:
        """The broker can be asked again: subscribe to what is outstanding."""
        self._link_up = True
        if self._fetch is not None:
            self._do(self._fetch.link_up(now), now)

    def disconnected(self, now: float) -> None:
        """Nothing comes from the broker until the link is back."""
        self._link_up = False
        if self._fetch is not None:
            self._do(self._fetch.link_down(now), now)

    def subscribed(self, digests: Iterable[str], now: float) -> None:
        """The broker has taken subscriptions to chunk topics."""
        if (fetch := self._heard(now)) is not None:
            fetch.subscribed(digests, now)

    def arrived(self, digest: str, data: bytes, now: float) -> None:
        """A message on a chunk topic."""
        if (fetch := self._heard(now)) is not None:
            self._do(fetch.arrived(digest, data, now), now)

    def answered(self, answer: HttpAnswer, now: float) -> None:
        """A chunk from an HTTP source, or why it doesn't come."""
        place = answer.source - self._first_source
        if (fetch := self._heard(now)) is not None and 0 <= place < len(self._fetch_sources):
            actions = fetch.answered(
                place,
                answer.digest,
                answer.data,
                answer.detail,
                now,
                unserved=answer.unserved,
                unreached=answer.unreached,
            )
            self._do(actions, now)

    def _heard(self, now: float) -> f.Fetch | None:
        """The fetch under way, told how many bytes have come."""
        if self._fetch is not None:
            heard = Heard(self._link.received_bytes(), self._http.received_bytes())
            if self._fetch.heard(heard, now):
                spent = self._spent[next(iter(self._queue))]
                spent.seconds += min(now - self._moved_at, STALL_SECONDS)
                self._moved_at = now
        return self._fetch

    def _next(self, now: float) -> None:
        """Begin with the first slot in the queue, unless one is being served."""
        if self._fetch is not None or not self._queue:
            return
        self._first_source += len(self._fetch_sources)
        self._fetch_sources = self.sources
        self._fetch = f.Fetch(
            window=self._window,
            silence_seconds=self._silence_seconds,
            http_sources=len(self._fetch_sources),
            rng=self._rng,
            pace=self._pace,
        )
        self._moved_at = now
        self._heard(now)
        self._altered = 0
        self._missing = 0
        if self._link_up:
            self._fetch.link_up(now)
        if self._spent[next(iter(self._queue))].by_http:
            self._fetch.broker_missed()
        self._look(now)
        self._stage(now)

    def _stage(self, now: float) -> None:
        """Ask for what the store lacks, as far as what it has tells: manifest, indexes, files."""
        slot, goal = next(iter(self._queue.items()))
        assert self._fetch is not None
        if not self._commit(now):
            return
        if self._install.installed(goal):
            self._finish(slot, None, now)
            return
        try:
            missing, total = self._install.chunks(goal)
            if missing:
                self._preflight(len(missing), total)
                self._within_bundle(len(missing), total)
        except StoreRefused as refused:
            self._finish(slot, (refused.refusal, str(refused)), now)
            return
        if not missing:
            self._finish(slot, None, now)
            return
        self._missing = len(missing)
        self._sizes = (self._install.done_bytes(goal, missing), total)
        if total > BROKER_CACHE_BYTES_MAX:
            self._fetch.broker_has_no_room()
        self._do(self._fetch.need(missing, now, self._install.places(goal, missing)), now)

    def _preflight(self, missing_chunks: int, total_bytes: int) -> None:
        try:
            self._install.preflight(missing_chunks, total_bytes)
        except StoreRefused:
            self._make_room()
            self._install.preflight(missing_chunks, total_bytes)

    def _within_bundle(self, missing_chunks: int, total_bytes: int) -> None:
        most = self._meter.allowance.bytes_per_bundle
        coming = min(missing_chunks * CHUNK_BYTES, total_bytes)
        if 0 < most < coming:
            raise StoreRefused(
                Refusal.TOO_LARGE,
                f"{coming} bytes would have to be fetched, "
                f"limits.fetch_bytes_per_bundle allows {most}",
            )

    def _end(self, now: float) -> None:
        """Nothing is asked for any more."""
        self._sync_at = _NEVER
        with contextlib.suppress(OSError):  # The next fetch meets it again, and says so.
            self._install.store.commit()
        if self._fetch is not None:
            stopped, self._fetch = self._fetch, None
            self._do(stopped.stop(), now)
            self._http.cancel()

    def _finish(self, slot: str, refusal: tuple[Refusal, str] | None, now: float) -> None:
        goal = self._queue.pop(slot)
        self._end(now)
        self._pause = None
        if self._altered:
            self._healed(slot, goal, self._altered)
        self._outcome(slot, refusal, now)
        self._next(now)

    def _do(self, actions: list[a.Action], now: float) -> None:
        for action in actions:
            match action:
                case a.Subscribe(digests):
                    self._link.subscribe(*map(topics.chunk, digests))
                case a.Unsubscribe(digests):
                    self._link.unsubscribe(*map(topics.chunk, digests))
                case a.AskHub(digests, last_resort):
                    want = messages.encode(messages.Want(list(digests), last_resort))
                    self._link.publish(topics.up(self._device, "want"), want)
                case a.HttpGet() | a.HttpRange():
                    self._get(action)
                case a.Keep():
                    if not self._keep(action, now):
                        return
                case a.GiveUp(refusal, detail):
                    self._finish(next(iter(self._queue)), (refusal, detail), now)
                case _:
                    assert_never(action)
        if self._fetch is not None and self._fetch.done and actions:
            self._stage(now)

    def _get(self, asked: a.HttpGet | a.HttpRange) -> None:
        number, source = self._first_source + asked.source, self._fetch_sources[asked.source]
        if isinstance(asked, a.HttpGet):
            self._http.get(number, source, asked.digest)
        else:
            self._http.get_range(number, source, asked.run)

    def _keep(self, kept: a.Keep, now: float) -> bool:
        """Store a verified chunk; False when the disk would not take it and the fetch is over."""
        self._meter.spend(len(kept.data), now)
        self._look(now)
        try:
            waiting_bytes = self._install.store.add(kept.digest, kept.data)
        except OSError as error:
            return self._unstorable(error, now)
        if waiting_bytes < SYNC_BYTES:
            self._sync_at = min(self._sync_at, now + SYNC_SECONDS)
        elif not self._commit(now):
            return False
        done, total = self._sizes
        self._sizes = (min(done + len(kept.data), total), total)
        self._altered += kept.healed
        spent = self._spent[next(iter(self._queue))]
        assert self._fetch is not None
        spent.by_http = self._fetch.by_http
        from_broker = kept.source == a.BROKER
        spent.source = "broker" if from_broker else self._fetch_sources[kept.source].url
        return True

    def _commit(self, now: float) -> bool:
        """Make what has come durable; False when the disk won't and the fetch is over."""
        self._sync_at = _NEVER
        try:
            self._install.store.commit()
        except OSError as error:
            return self._unstorable(error, now)
        return True

    def _unstorable(self, error: OSError, now: float) -> bool:
        refusal, words = as_refusal(error, Refusal.DEVICE_FAULT)
        detail = f"a chunk could not be stored: {words}"
        self._finish(next(iter(self._queue)), (refusal, detail), now)
        return False
