"""Lines that a logger appends to a file."""

from muster_agent.base.feed_settings import CsvSource, SourceSettings
from muster_agent.feeds.files.tail import CsvTags
from muster_agent.feeds.inlet import SourceInlet
from muster_agent.feeds.sources.base import FeedPlace, Source


class CsvKind:
    """Sources of kind ``csv``."""

    needs = ("", "")

    def make(self, settings: SourceSettings, inlet: SourceInlet, place: FeedPlace) -> Source:
        assert isinstance(settings, CsvSource)
        return CsvTags(settings, inlet, place)


KIND = CsvKind()
