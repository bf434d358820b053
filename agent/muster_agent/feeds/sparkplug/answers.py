"""A feed as a Sparkplug B edge node: it is born, gives data, can be reborn, and dies."""

import asyncio
import contextlib
import logging
import sqlite3
import time

from muster_agent.base.feed_settings import SparkplugSink
from muster_agent.feeds.answers import FeedAnswer
from muster_agent.feeds.mqtt.client import PlantConnection, Will
from muster_agent.feeds.sources.base import FeedFault, FeedPlace
from muster_agent.feeds.sparkplug.backlog import Backlog
from muster_agent.feeds.sparkplug.codec import Payload, encode
from muster_agent.feeds.sparkplug.node import EdgeNode, asks_for_birth, topic

log = logging.getLogger(__name__)
BATCH_ANSWERS = 50
"""Of the backlog in one message."""


class SparkplugAnswers:
    """Publishes as an edge node. What it could not publish follows as history."""

    def __init__(self, settings: SparkplugSink, place: FeedPlace) -> None:
        self._settings = settings
        self._place = place
        self._node = EdgeNode()
        self._connection: PlantConnection | None = None
        file = place.directory / "feeds" / f"{place.feed}-{place.name}.db"
        try:
            self._backlog = Backlog(file, settings.backlog_answers)
        except (OSError, sqlite3.Error) as error:
            raise FeedFault(f"{file}: {error}") from None
        self._rebirths = set[asyncio.Task[None]]()

    def _topic(self, kind: str) -> str:
        node = self._settings.edge_node or self._place.device
        return topic(self._settings.group, kind, node)

    async def open(self) -> None:
        will = Will(self._topic("NDEATH"), encode(self._node.death(_now())), 1, retain=False)
        loop = asyncio.get_running_loop()

        def take(_topic: str, payload: bytes) -> None:
            loop.call_soon_threadsafe(self._commanded, payload)

        connection = PlantConnection(
            self._settings,
            self._place,
            will=will,
            take=take,
        )
        await connection.open()
        self._connection = connection
        await connection.subscribe([self._topic("NCMD")])
        await self._send("NBIRTH", self._node.birth(_now()))

    def _commanded(self, payload: bytes) -> None:
        if asks_for_birth(payload):
            task = asyncio.create_task(self._reborn())
            self._rebirths.add(task)
            task.add_done_callback(self._rebirths.discard)

    async def _reborn(self) -> None:
        if self._connection is not None and not self._connection.ended.done():
            await self._send("NBIRTH", self._node.birth(_now()))

    async def _send(self, kind: str, payload: Payload) -> None:
        if self._connection is None or self._connection.ended.done():
            raise FeedFault("the connection to the MQTT broker is lost")
        await self._connection.publish(self._topic(kind), encode(payload), qos=0, retain=False)

    async def write(self, answer: FeedAnswer) -> None:
        if self._connection is None or self._connection.ended.done():
            raise FeedFault("the connection to the MQTT broker is lost")
        self._node.remember(answer)
        if self._node.needs_birth(answer):
            await self._send("NBIRTH", self._node.birth(_now()))
        else:
            await self._send("NDATA", self._node.data([answer]))
        try:
            await self._catch_up()
        except sqlite3.Error as error:
            raise FeedFault(f"the backlog can't be read: {error}") from None

    async def _catch_up(self) -> None:
        while kept := self._backlog.oldest(BATCH_ANSWERS):
            answers = [answer for _, answer in kept]
            if any(map(self._node.needs_birth, answers)):
                for answer in answers:
                    self._node.know(answer)
                await self._send("NBIRTH", self._node.birth(_now()))
            await self._send("NDATA", self._node.data(answers, historical=True))
            self._backlog.remove(kept[-1][0])

    def miss(self, answer: FeedAnswer) -> None:
        """Kept until there is a link."""
        try:
            self._backlog.put(answer)
        except sqlite3.Error:
            log.exception("an answer is lost: the backlog takes nothing")

    async def close(self) -> None:
        if self._connection is None:
            return
        connection, self._connection = self._connection, None
        if not connection.ended.done():
            death = encode(self._node.last_will(_now()))
            with contextlib.suppress(FeedFault):
                await connection.publish(self._topic("NDEATH"), death, qos=1, retain=False)
        await connection.close()


def _now() -> int:
    return round(time.time() * 1000)
