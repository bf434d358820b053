"""The feeds of a device as the supervisor sees them: started, watched, begun again, ended."""

import logging
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, assert_never

import msgspec

from muster_agent.base.feed_settings import FeedSettings
from muster_agent.feeds import live
from muster_agent.feeds.control import Notice, Serve
from muster_agent.feeds.hub_settings import HubFeedSettings, Wanted
from muster_agent.feeds.process import FeedEnded, FeedEvent, FeedProcess, FeedSaid
from muster_agent.storage.content import MANIFEST
from muster_protocol.wire.bounds import clean
from muster_protocol.wire.directive import Goal
from muster_protocol.wire.feed_report import FeedReport

log = logging.getLogger(__name__)
NO_SETTINGS: Mapping[str, FeedSettings] = MappingProxyType({})
STEADY_SECONDS = 60.0
"""A feed that ran this long before it died is begun again after the shortest pause."""
DOUBLED_MAX = 16
TROUBLE_CHARS_MAX = 1000
STOP_SECONDS = 6.0
"""After so long a feed that was asked to end is ended."""


@dataclass(frozen=True)
class Served:
    """What a slot runs, and which fallback the hub wants."""

    goal: Goal
    fallback: str | None


@dataclass(frozen=True)
class FeedNews:
    """Something about a feed that the hub is to hear."""

    feed: str
    slot: str
    detail: str


class FeedWatch(Protocol):
    """The feeds, as far as the supervisor uses them."""

    def tick(self, now: float, served: Mapping[str, Served]) -> None:
        """Start what is due, and let each feed know what its slot runs."""
        ...

    def deadline(self) -> float:
        """When ``tick`` is next worth calling, in monotonic seconds."""
        ...

    def handle(self, event: FeedEvent, now: float) -> FeedNews | None:
        """A feed said something or ended; what the hub is to hear of it."""
        ...

    def trouble(self, slot: str) -> str:
        """What the feeds of a slot lack, in one line; empty when nothing."""
        ...

    def adopt(self, wanted: Wanted, now: float) -> list[FeedNews]:
        """What the hub sets of feeds; what it is to hear of that. Raises OSError."""
        ...

    def states(self) -> dict[str, FeedReport]:
        """How each feed stands now, by its name; as much as one report may say."""
        ...

    def stop(self, now: float) -> None:
        """End every feed."""
        ...

    def idle(self) -> bool:
        """Whether no feed runs."""
        ...


class NoFeeds:
    """A device without feeds."""

    def tick(self, now: float, served: Mapping[str, Served]) -> None:
        pass

    def deadline(self) -> float:
        return float("inf")

    def handle(self, event: FeedEvent, now: float) -> FeedNews | None:  # noqa: ARG002 - the port's names
        return None

    def trouble(self, slot: str) -> str:  # noqa: ARG002 - the port's names
        return ""

    def adopt(self, wanted: Wanted, now: float) -> list[FeedNews]:
        del wanted, now
        return []

    def states(self) -> dict[str, FeedReport]:
        return {}

    def stop(self, now: float) -> None:
        pass

    def idle(self) -> bool:
        return True


def _refused(feed: str, words: str) -> str:
    return clean(f"feed {feed}: the hub's settings are not taken: {words}", line=True)


@dataclass
class _Watched:
    """One feed."""

    slot: str
    start_at: float
    process: FeedProcess | None = None
    since: float = 0.0
    failures: int = 0
    served: Served | None = None
    """What the process was given last."""
    troubles: dict[str, str] = field(default_factory=dict)
    """What it lacks, by the kind of notice and the part's name."""
    refused: str = ""
    """Why what the hub sets of it is not taken; empty: it is."""
    renewing: bool = False
    """It was asked to end so that it begins with other settings."""


class Feeds:
    """Implements ``watch.FeedWatch`` with real processes."""

    def __init__(
        self,
        slots: Mapping[str, str],
        directory: Path,
        bundle: Callable[[Goal], Path | None],
        deliver: Callable[[FeedEvent], None],
        *,
        restart_seconds: tuple[float, float],
        rng: random.Random,
        now: float,
        run_dir: Path,
        wall: Callable[[], float],
        settings: Mapping[str, FeedSettings] = NO_SETTINGS,
    ) -> None:
        """``slots`` names each feed's; ``bundle`` says where an installed version lies; in
        ``run_dir`` feeds write how they stand, by the clock ``wall``; ``settings`` are those of
        ``agent.toml``, which the hub may change where they say so."""
        self._watched = {feed: _Watched(slot, now) for feed, slot in slots.items()}
        self._directory = directory
        self._bundle = bundle
        self._deliver = deliver
        self._restart_seconds = restart_seconds
        self._rng = rng
        self._run_dir, self._wall = run_dir, wall
        self._by_hub = HubFeedSettings(directory, settings)
        self._unknown: dict[str, str] = {}
        self._stopping = False
        self._kill_at = float("inf")

    def tick(self, now: float, served: Mapping[str, Served]) -> None:
        if now >= self._kill_at:
            self._kill_at = float("inf")
            for process in self._running():
                process.kill()
        if self._stopping:
            return
        for name, watched in self._watched.items():
            if watched.process is None and now >= watched.start_at:
                self._start(name, watched, now)
            if watched.process is not None:
                self._serve(watched.process, watched, served.get(watched.slot))

    def _start(self, name: str, watched: _Watched, now: float) -> None:
        watched.served = None
        watched.since = now
        try:
            watched.process = FeedProcess(name, self._directory, self._deliver)
        except OSError:
            log.exception("feed %s can't be started", name)
            self._failed(watched, now)

    def _serve(self, process: FeedProcess, watched: _Watched, served: Served | None) -> None:
        if served is None or served == watched.served:
            return
        bundle = self._bundle(served.goal)
        if bundle is None:
            return
        watched.served = served
        goal = served.goal
        process.serve(
            Serve(
                goal.model,
                goal.version,
                goal.manifest,
                str((bundle / MANIFEST).absolute()),
                served.fallback,
            )
        )

    def deadline(self) -> float:
        waiting = (each.start_at for each in self._watched.values() if each.process is None)
        return min(self._kill_at, *(() if self._stopping else waiting), float("inf"))

    def handle(self, event: FeedEvent, now: float) -> FeedNews | None:
        watched = self._watched[event.feed]
        match event:
            case FeedSaid(feed, notice):
                self._heard(watched, notice)
                part = f" {notice.part}" if notice.part else ""
                words = f"feed {feed}: {notice.kind.replace('_', ' ')}{part}: {notice.detail}"
                words = clean(words, line=True)
                log.warning("%s", words)
                return FeedNews(feed, watched.slot, words)
            case FeedEnded(feed, pid, status):
                if watched.process is None or watched.process.pid != pid:
                    return None
                watched.process = None
                if watched.renewing:
                    watched.renewing, watched.start_at, watched.troubles = False, now, {}
                    return None
                watched.troubles = {"process": "its process ended and is begun again"}
                if self._stopping:
                    return None
                self._failed(watched, now)
                words = f"feed {feed}: its process ended with status {status}, begun again"
                log.warning("%s", words)
                return FeedNews(feed, watched.slot, words)
            case _:
                assert_never(event)

    @staticmethod
    def _heard(watched: _Watched, notice: Notice) -> None:
        """What is in trouble now."""
        part = f" {notice.part}" if notice.part else ""
        match notice.kind:
            case "refused":
                watched.troubles["model"] = notice.detail
            case "accepted":
                watched.troubles.pop("model", None)
                watched.troubles.pop("process", None)
            case "source_lost":
                watched.troubles[f"source{part}"] = notice.detail
            case "source_back":
                watched.troubles.pop(f"source{part}", None)
            case "sink_lost":
                watched.troubles[f"sink{part}"] = notice.detail
            case "sink_back":
                watched.troubles.pop(f"sink{part}", None)
            case "signals_bad":
                watched.troubles["signals"] = notice.detail
            case "signals_good":
                watched.troubles.pop("signals", None)
            case _:
                assert_never(notice.kind)

    def trouble(self, slot: str) -> str:
        found = [
            f"feed {name}: {what}: {words}"
            for name, watched in self._watched.items()
            if watched.slot == slot
            for what, words in (*watched.troubles.items(), ("the hub's settings", watched.refused))
            if words
        ]
        return clean("; ".join(found), line=True)[:TROUBLE_CHARS_MAX]

    def adopt(self, wanted: Wanted, now: float) -> list[FeedNews]:
        changed, faults = self._by_hub.adopt(wanted)
        news = [
            FeedNews(name, "", _refused(name, words))
            for name, words in faults.items()
            if name not in self._watched and self._unknown.get(name) != words
        ]
        self._unknown = {name: faults[name] for name in faults.keys() - self._watched.keys()}
        for name, watched in self._watched.items():
            words = faults.get(name, "")
            if words and words != watched.refused:
                news.append(FeedNews(name, watched.slot, _refused(name, words)))
            watched.refused = words
        for name in changed:
            watched = self._watched[name]
            news.append(FeedNews(name, watched.slot, f"feed {name}: begun with the hub's settings"))
            watched.start_at = now
            if watched.process is not None:
                watched.renewing = True
                watched.process.stop()
        for each in news:
            log.warning("%s", each.detail)
        return news

    def states(self) -> dict[str, FeedReport]:
        found = {name: self._state(name, each) for name, each in self._watched.items()}
        return live.bounded(found)

    def _state(self, name: str, watched: _Watched) -> FeedReport:
        if watched.process is None:
            words = watched.troubles.get("process", "") or "its process does not run"
            return FeedReport(slot=watched.slot, refusal=live.line(words))
        try:
            status = live.read(self._run_dir, name)
        except (OSError, msgspec.DecodeError):
            return FeedReport(slot=watched.slot, refusal="its process has said nothing yet")
        return live.reported(status, self._wall())

    def _failed(self, watched: _Watched, now: float) -> None:
        if now - watched.since >= STEADY_SECONDS:
            watched.failures = 0
        least, most = self._restart_seconds
        pause = min(least * 2 ** min(watched.failures, DOUBLED_MAX), most)
        watched.failures += 1
        watched.start_at = now + pause * self._rng.uniform(0.75, 1.25)

    def stop(self, now: float) -> None:
        self._stopping = True
        self._kill_at = now + STOP_SECONDS
        for process in self._running():
            process.stop()

    def idle(self) -> bool:
        return not any(True for _ in self._running())

    def _running(self) -> Iterable[FeedProcess]:
        return [each.process for each in self._watched.values() if each.process is not None]
