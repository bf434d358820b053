"""What the hub has set of feeds, beside ``agent.toml``: kept on the disk, read by each feed."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import msgspec

from muster_agent.base.config import Config, load
from muster_agent.base.feed_overlay import overlaid
from muster_agent.base.feed_settings import FeedSettings
from muster_agent.storage.files import write_durably
from muster_protocol.wire.directive import FeedValue

FILE = "feed_settings.json"
Wanted = Mapping[str, Mapping[str, FeedValue]]


def load_feeds(directory: Path) -> Config:
    """``agent.toml``, with what the hub has set of its feeds; raises ConfigError."""
    loaded = load(directory)
    wanted = read(directory)
    feeds = {
        name: overlaid(name, feed, wanted.get(name, {}))[0]
        for name, feed in loaded.settings.feeds.items()
    }
    return replace(loaded, settings=msgspec.structs.replace(loaded.settings, feeds=feeds))


def read(directory: Path) -> dict[str, dict[str, FeedValue]]:
    """By feed, the values by their paths; nothing where none were ever set or can be read."""
    try:
        data = (directory / FILE).read_bytes()
        return msgspec.json.decode(data, type=dict[str, dict[str, FeedValue]])
    except (OSError, msgspec.DecodeError):
        return {}  # The next directive says them again.


class HubFeedSettings:
    """Takes what directives set, where ``agent.toml`` lets them."""

    def __init__(self, directory: Path, local: Mapping[str, FeedSettings]) -> None:
        self._directory, self._local = directory, local

    def adopt(self, wanted: Wanted) -> tuple[set[str], dict[str, str]]:
        """Keep it; the feeds that are different now, and by feed why something is not taken. A feed
        of which something is not taken keeps what it had. Raises OSError."""
        held = read(self._directory)
        kept, faults = dict[str, dict[str, FeedValue]](), dict[str, str]()
        for name in {*self._local, *wanted}:
            local, values = self._local.get(name), wanted.get(name, {})
            if local is None:
                faults[name] = "there is no such feed in agent.toml"
            elif fault := overlaid(name, local, values)[1]:
                faults[name] = fault
                if name in held and not overlaid(name, local, held[name])[1]:
                    kept[name] = held[name]
            elif values:
                kept[name] = dict(values)
        if kept == held:
            return set(), faults
        write_durably(self._directory / FILE, msgspec.json.encode(kept, order="deterministic"))
        return {name for name in self._local if kept.get(name) != held.get(name)}, faults
