"""Variables of an OPC UA server."""

from muster_agent.base.feed_settings import OpcuaSource, SourceSettings
from muster_agent.feeds.inlet import SourceInlet
from muster_agent.feeds.sources.base import FeedPlace, Source


class OpcuaKind:
    """Sources of kind ``opcua``."""

    needs = ("asyncua", "opcua")

    def make(self, settings: SourceSettings, inlet: SourceInlet, place: FeedPlace) -> Source:
        from muster_agent.feeds.opcua.tags import OpcuaTags  # noqa: PLC0415 - of an extra

        assert isinstance(settings, OpcuaSource)
        return OpcuaTags(settings, inlet, place)


KIND = OpcuaKind()
