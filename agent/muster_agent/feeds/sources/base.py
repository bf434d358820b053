"""What every kind of source is to the feed: something that runs while its connection lives."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from muster_agent.base.feed_settings import SourceSettings
from muster_agent.feeds.inlet import SourceInlet
from muster_protocol.wire.errors import MusterError


class FeedFault(MusterError):
    """A source or sink can't do its work now; the message says what, where and what to do."""


@dataclass(frozen=True)
class FeedPlace:
    """Where a source or sink stands: whose it is, and from where files are named."""

    device: str
    feed: str
    name: str
    slot: str
    directory: Path
    """The agent's."""

    def read_secret(self, file: str) -> str:
        """The first line of a file named in the settings; raises FeedFault."""
        path = self.directory / file
        try:
            return path.read_text(encoding="utf-8").partition("\n")[0]
        except (OSError, UnicodeDecodeError) as error:
            raise FeedFault(f"{path}: the password can't be read: {error}") from None


class Source(Protocol):
    """A connection to where values come from."""

    async def run(self) -> None:
        """Give values until the connection ends; raises FeedFault or OSError when it does.

        It is called again after a pause, and begins anew.
        """
        ...


class SourceKindEntry(Protocol):
    """A kind of source, as the registry has it."""

    needs: tuple[str, str]
    """Module that it needs, and the extra which installs it; empty: none."""

    def make(self, settings: SourceSettings, inlet: SourceInlet, place: FeedPlace) -> Source:
        """A source of these settings; does no input or output yet."""
        ...


def require(needs: tuple[str, str]) -> None:
    """Raise FeedFault unless the module that a kind needs is installed."""
    module, extra = needs
    if module and importlib.util.find_spec(module) is None:
        raise FeedFault(f"{module} is not installed: pip install 'muster-edge[{extra}]'")
