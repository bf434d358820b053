"""Values in MQTT messages, such as those of a unified namespace."""

from muster_agent.base.feed_settings import MqttSource, SourceSettings
from muster_agent.feeds.inlet import SourceInlet
from muster_agent.feeds.mqtt.tags import MqttTags
from muster_agent.feeds.sources.base import FeedPlace, Source


class MqttKind:
    """Sources of kind ``mqtt``."""

    needs = ("", "")

    def make(self, settings: SourceSettings, inlet: SourceInlet, place: FeedPlace) -> Source:
        assert isinstance(settings, MqttSource)
        return MqttTags(settings, inlet, place)


KIND = MqttKind()
