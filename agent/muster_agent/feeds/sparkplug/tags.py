"""Metrics of a Sparkplug B edge node, and of devices behind it, as tags."""

import asyncio
import time
from typing import Any

from muster_agent.base.feed_settings import SparkplugSource, SparkplugTag
from muster_agent.feeds.inlet import SourceInlet
from muster_agent.feeds.mqtt.client import PlantConnection
from muster_agent.feeds.sources.base import FeedFault, FeedPlace
from muster_agent.feeds.sparkplug.codec import (
    DataType,
    Metric,
    Payload,
    PayloadError,
    decode,
    encode,
)
from muster_agent.feeds.sparkplug.host import MetricValue, NodeView
from muster_agent.feeds.sparkplug.node import NAMESPACE, REBIRTH, topic

REBIRTH_SECONDS = 5.0
"""A node is asked to be born again at most so often."""


class SparkplugTags:
    """Follows one edge node. Its death, and a device's, is the loss of their tags."""

    def __init__(self, settings: SparkplugSource, inlet: SourceInlet, place: FeedPlace) -> None:
        self._settings = settings
        self._inlet = inlet
        self._place = place
        self._signals: dict[tuple[str, str], list[str]] = {}
        for signal, tag in settings.tags.items():
            self._signals.setdefault((tag.device, tag.metric), []).append(signal)
        self._view = NodeView()
        self._asked_at = float("-inf")

    async def run(self) -> None:
        settings, loop = self._settings, asyncio.get_running_loop()
        self._view = NodeView()
        rebirth = asyncio.Event()

        def take(said: str, payload: bytes) -> None:
            if self._take(said, payload):
                loop.call_soon_threadsafe(rebirth.set)

        connection = PlantConnection(settings, self._place, take=take)
        await connection.open()
        try:
            node, group = settings.edge_node, settings.group
            await connection.subscribe(
                [f"{NAMESPACE}/{group}/+/{node}", f"{NAMESPACE}/{group}/+/{node}/+"]
            )
            self._inlet.connected()
            rebirth.set()  # It may have been born long ago.
            while not connection.ended.done():
                asked = asyncio.create_task(rebirth.wait())
                either: set[asyncio.Future[Any]] = {asked, connection.ended}
                await asyncio.wait(either, return_when="FIRST_COMPLETED")
                asked.cancel()
                if rebirth.is_set() and not connection.ended.done():
                    rebirth.clear()
                    await self._ask(connection)
        finally:
            await connection.close()
        raise FeedFault(f"the connection to the MQTT broker has ended: {connection.ended.result()}")

    async def _ask(self, connection: PlantConnection) -> None:
        now = time.monotonic()
        if now - self._asked_at < REBIRTH_SECONDS:
            return
        self._asked_at = now
        metric = Metric(REBIRTH, kind=DataType.BOOLEAN, value=True)
        command = encode(Payload(round(time.time() * 1000), (metric,)))
        where = topic(self._settings.group, "NCMD", self._settings.edge_node)
        await connection.publish(where, command, qos=0, retain=False)

    def _take(self, said: str, data: bytes) -> bool:
        """Whether the node is to be asked to be born again."""
        parts = said.split("/")
        kind, device = parts[2], parts[4] if len(parts) > 4 else ""
        try:
            news = self._view.take(kind, device, decode(data))
        except PayloadError as error:
            self._inlet.trouble(f"{said}: {error}")
            return True
        for value in news.values:
            self._put(value)
        if news.dead is not None:
            self._inlet.lost(self._of(news.dead))
        return news.rebirth

    def _of(self, device: str) -> list[str]:
        """Signals of a device; of the node with its devices when empty."""
        tags: dict[str, SparkplugTag] = self._settings.tags
        return [signal for signal, tag in tags.items() if device in {"", tag.device}]

    def _put(self, heard: MetricValue) -> None:
        for signal in self._signals.get((heard.device, heard.name), ()):
            self._inlet.put(
                signal,
                heard.value,
                at=heard.seconds,
                grade=heard.grade,
                reason="" if heard.grade == "good" else "source",
            )
