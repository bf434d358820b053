"""Answers in variables of an OPC UA server."""

from muster_agent.base.feed_settings import OpcuaSink, SinkSettings
from muster_agent.feeds.answers import check_value
from muster_agent.feeds.sinks.base import Sink
from muster_agent.feeds.sources.base import FeedPlace
from muster_protocol.wire.manifest import Manifest


class OpcuaSinkKind:
    """Sinks of kind ``opcua``."""

    needs = ("asyncua", "opcua")

    def make(self, settings: SinkSettings, place: FeedPlace) -> Sink:
        from muster_agent.feeds.opcua.writes import OpcuaWrites  # noqa: PLC0415 - of an extra

        assert isinstance(settings, OpcuaSink)
        return OpcuaWrites(settings, place)

    def check(self, settings: SinkSettings, manifest: Manifest) -> None:
        assert isinstance(settings, OpcuaSink)
        for item in settings.writes.values():
            check_value(item.value, manifest)


KIND = OpcuaSinkKind()
