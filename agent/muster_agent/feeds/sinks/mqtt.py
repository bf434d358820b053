"""Each answer as a JSON message of MQTT."""

from muster_agent.base.feed_settings import MqttSink, SinkSettings
from muster_agent.feeds.answers import check_value
from muster_agent.feeds.mqtt.answers import MqttAnswers
from muster_agent.feeds.sinks.base import Sink
from muster_agent.feeds.sources.base import FeedPlace
from muster_protocol.wire.manifest import Manifest


class MqttSinkKind:
    """Sinks of kind ``mqtt``."""

    needs = ("", "")

    def make(self, settings: SinkSettings, place: FeedPlace) -> Sink:
        assert isinstance(settings, MqttSink)
        return MqttAnswers(settings, place)

    def check(self, settings: SinkSettings, manifest: Manifest) -> None:
        assert isinstance(settings, MqttSink)
        check_value(settings.value, manifest)


KIND = MqttSinkKind()
