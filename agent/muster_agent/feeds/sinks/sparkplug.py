"""Answers as the metrics of a Sparkplug B edge node."""

from muster_agent.base.feed_settings import SinkSettings, SparkplugSink
from muster_agent.feeds.sinks.base import Sink
from muster_agent.feeds.sources.base import FeedPlace
from muster_agent.feeds.sparkplug.answers import SparkplugAnswers
from muster_protocol.wire.manifest import Manifest


class SparkplugSinkKind:
    """Sinks of kind ``sparkplug``."""

    needs = ("", "")

    def make(self, settings: SinkSettings, place: FeedPlace) -> Sink:
        assert isinstance(settings, SparkplugSink)
        return SparkplugAnswers(settings, place)

    def check(self, settings: SinkSettings, manifest: Manifest) -> None:
        """Every output of every model can be given."""


KIND = SparkplugSinkKind()
