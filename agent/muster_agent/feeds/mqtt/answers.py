"""Each answer as a JSON message of MQTT."""

from muster_agent.base.feed_settings import MqttSink
from muster_agent.feeds.answers import FeedAnswer, message_of
from muster_agent.feeds.mqtt.client import PlantConnection, Will
from muster_agent.feeds.sources.base import FeedFault, FeedPlace


class MqttAnswers:
    """Publishes answers; the broker says when the feed is gone."""

    def __init__(self, settings: MqttSink, place: FeedPlace) -> None:
        self._settings = settings
        self._place = place
        self._connection: PlantConnection | None = None
        self._topic = settings.topic.format(device=place.device, feed=place.feed, slot=place.slot)

    async def open(self) -> None:
        gone = FeedAnswer({}, "bad", "lost", "no_decision", "", "", 0.0)
        said = message_of(gone, self._settings.value, self._settings.unit)
        will = Will(self._topic, said, self._settings.qos, self._settings.retain)
        self._connection = PlantConnection(self._settings, self._place, will=will)
        await self._connection.open()

    async def write(self, answer: FeedAnswer) -> None:
        if self._connection is None:
            raise FeedFault("not connected")
        await self._connection.publish(
            self._topic,
            message_of(answer, self._settings.value, self._settings.unit),
            qos=self._settings.qos,
            retain=self._settings.retain,
        )

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None
