"""Metrics of a Sparkplug B edge node."""

from muster_agent.base.feed_settings import SourceSettings, SparkplugSource
from muster_agent.feeds.inlet import SourceInlet
from muster_agent.feeds.sources.base import FeedPlace, Source
from muster_agent.feeds.sparkplug.tags import SparkplugTags


class SparkplugKind:
    """Sources of kind ``sparkplug``."""

    needs = ("", "")

    def make(self, settings: SourceSettings, inlet: SourceInlet, place: FeedPlace) -> Source:
        assert isinstance(settings, SparkplugSource)
        return SparkplugTags(settings, inlet, place)


KIND = SparkplugKind()
