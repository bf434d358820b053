"""A feed's sources without its sinks: connected for a while, to see what they give."""

import asyncio
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from muster_agent.base.config import Config, ConfigError
from muster_agent.base.feed_settings import FeedSettings
from muster_agent.base.system_clock import SystemClock
from muster_agent.feeds.control import Notice
from muster_agent.feeds.ending import end
from muster_agent.feeds.inlet import Inlet
from muster_agent.feeds.keeping import SourceKeeper
from muster_agent.feeds.samples import Arrival
from muster_agent.feeds.sources.base import FeedPlace
from muster_agent.feeds.sources.registry import source_kind
from muster_agent.storage.content import MANIFEST, decode_manifest
from muster_protocol.wire.manifest import Manifest

LOOK_SECONDS = 0.05
Take = Callable[[Sequence[Arrival]], bool]
"""Given what has arrived since the last time, if anything; False: it is enough."""


def settings_of(config: Config, name: str) -> FeedSettings:
    """A feed by its name; raises ConfigError that lists those there are."""
    found = config.settings.feeds.get(name)
    if found is None:
        known = ", ".join(config.settings.feeds) or "none: agent.toml has no [feeds.<name>]"
        raise ConfigError(f"there is no feed {name!r}; there are {known}")
    return found


def manifest_of(config: Config, slot: str, file: Path | None) -> Manifest | None:
    """The manifest in ``file``, or else of what runs in a slot; None when nothing does.

    Raises OSError and ProtocolError.
    """
    path = file or config.directory / "current" / slot / MANIFEST
    if file is None and not path.exists():
        return None
    return decode_manifest(path.read_bytes())


async def listen(config: Config, name: str, seconds: float, take: Take) -> dict[str, str]:
    """Connect the sources for so long, or until enough has come; the trouble of each by its name.

    Raises FeedFault when an extra is missing.
    """
    settings = settings_of(config, name)
    inlet = Inlet(SystemClock(), settings.queue_samples, lambda: None)
    rng = random.Random()  # noqa: S311 - jitter
    said = dict.fromkeys(settings.sources, "")

    def say(notice: Notice) -> None:
        said[notice.part] = "" if notice.kind == "source_back" else notice.detail

    inlets = {part: inlet.of(source.tags) for part, source in settings.sources.items()}
    keepers = [
        SourceKeeper(
            part,
            source_kind(source).make(
                source,
                inlets[part],
                FeedPlace(config.device, name, f"{part}-check", settings.slot, config.directory),
            ),
            inlets[part],
            say,
            rng,
        )
        for part, source in settings.sources.items()
    ]
    tasks = [asyncio.create_task(keeper.run()) for keeper in keepers]
    try:
        await _until_enough(inlet, seconds, take)
    finally:
        await end(tasks)
    return {part: said[part] or inlets[part].words for part in said}


async def _until_enough(inlet: Inlet, seconds: float, take: Take) -> None:
    loop = asyncio.get_running_loop()
    ends = loop.time() + seconds
    while loop.time() < ends:
        await asyncio.sleep(LOOK_SECONDS)  # What arrives is looked at together.
        if not take(inlet.drain()):
            return
