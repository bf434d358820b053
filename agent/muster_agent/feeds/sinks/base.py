"""What every kind of sink is to the feed: something that takes answers while connected."""

from typing import Protocol, runtime_checkable

from muster_agent.base.feed_settings import SinkSettings
from muster_agent.feeds.answers import FeedAnswer
from muster_agent.feeds.sources.base import FeedPlace
from muster_protocol.wire.manifest import Manifest


class Sink(Protocol):
    """A connection to where answers go. Every method may raise FeedFault or OSError."""

    async def open(self) -> None:
        """Connect; it is called again after a pause when it fails."""
        ...

    async def write(self, answer: FeedAnswer) -> None:
        """Hand over an answer; it has arrived when this returns."""
        ...

    async def close(self) -> None:
        """Disconnect; never raises."""
        ...


@runtime_checkable
class KeepsMissed(Protocol):
    """A sink that can hand over later what it could not take at its time."""

    def miss(self, answer: FeedAnswer) -> None:
        """An answer that could not be delivered, and that a newer one replaces."""
        ...


@runtime_checkable
class TakesAgain(Protocol):
    """A sink that can be given an answer again while there is no new one, as a sign of life."""

    beats: bool
    """Whether it wants that."""


class SinkKindEntry(Protocol):
    """A kind of sink, as the registry has it."""

    needs: tuple[str, str]
    """Module that it needs, and the extra which installs it; empty: none."""

    def make(self, settings: SinkSettings, place: FeedPlace) -> Sink:
        """A sink of these settings; does no input or output yet."""
        ...

    def check(self, settings: SinkSettings, manifest: Manifest) -> None:
        """Raise ProtocolError when this model doesn't give what the sink is to write."""
        ...
