"""Tags in the messages of topics."""

import asyncio
from collections import defaultdict

from muster_agent.base.feed_settings import MqttSource, MqttTag
from muster_agent.feeds import json_paths
from muster_agent.feeds.inlet import SourceInlet
from muster_agent.feeds.mqtt.client import PlantConnection
from muster_agent.feeds.samples import grade_of
from muster_agent.feeds.sources.base import FeedFault, FeedPlace

SILENCE_SECONDS = 20.0
"""After so long without a message the connection is made anew: a broker that waits for an
acknowledgement which was lost sends nothing more, and looks alive."""


class MqttTags:
    """Gives what the messages of the tags' topics hold."""

    def __init__(self, settings: MqttSource, inlet: SourceInlet, place: FeedPlace) -> None:
        self._settings = settings
        self._inlet = inlet
        self._place = place
        self._came = False
        self._by_topic = defaultdict[str, list[tuple[str, MqttTag]]](list)
        for signal, tag in settings.tags.items():
            self._by_topic[tag.topic].append((signal, tag))

    async def run(self) -> None:
        while True:
            reason = await self._follow()
            if reason is not None:
                raise FeedFault(f"the connection to the MQTT broker has ended: {reason}")

    async def _follow(self) -> str | None:
        """One connection: why it has ended, or None when it was silent for too long."""
        connection = PlantConnection(self._settings, self._place, take=self._take)
        await connection.open()
        try:
            group = self._settings.group
            prefix = f"$share/{group}/" if group else ""
            await connection.subscribe([prefix + topic for topic in self._by_topic])
            self._inlet.connected()
            while True:
                self._came = False
                done, _ = await asyncio.wait({connection.ended}, timeout=SILENCE_SECONDS)
                if done:
                    return connection.ended.result()
                if not self._came:
                    return None
        finally:
            await connection.close()

    def _take(self, topic: str, payload: bytes) -> None:
        self._came = True
        for signal, tag in self._by_topic.get(topic, ()):
            try:
                self._put(signal, tag, payload)
            except json_paths.NotThereError:
                self._inlet.put(signal, None, grade="bad", reason="unreadable")

    def _put(self, signal: str, tag: MqttTag, payload: bytes) -> None:
        if not (tag.path or tag.time_path or tag.quality_path):
            text = payload.decode("utf-8", "replace").strip()
            raw: object = {"true": 1.0, "false": 0.0}.get(text.lower(), text)
            self._inlet.put(signal, raw)
            return
        message = json_paths.parse(payload)
        raw = json_paths.find(message, tag.path) if tag.path else message
        at = None
        if tag.time_path:
            at = json_paths.time_of(json_paths.find(message, tag.time_path))
        grade = grade_of(json_paths.find(message, tag.quality_path)) if tag.quality_path else "good"
        self._inlet.put(signal, raw, at=at, grade=grade, reason="" if grade == "good" else "source")
