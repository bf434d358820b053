"""Variables whose changes a server tells, and whether it is there while nothing changes."""

import asyncio

from asyncua import Node, ua

from muster_agent.base.feed_settings import OpcuaSource
from muster_agent.feeds.inlet import SourceInlet
from muster_agent.feeds.opcua.client import OpcuaConnection, grade_of_status, seconds_of
from muster_agent.feeds.sources.base import FeedFault, FeedPlace

RETRY_SECONDS = 10.0
"""A variable that the server doesn't have may come: servers load their tags after they answer."""


class OpcuaTags:
    """A subscription for the life of a connection."""

    def __init__(self, settings: OpcuaSource, inlet: SourceInlet, place: FeedPlace) -> None:
        self._settings = settings
        self._inlet = inlet
        self._place = place

    async def run(self) -> None:
        connection = OpcuaConnection(self._settings, self._place)
        await connection.open()
        try:
            nodes = await connection.nodes(self._settings.tags)
            await self._follow(connection, nodes)
        finally:
            await connection.close()

    async def _follow(self, connection: OpcuaConnection, nodes: dict[str, Node]) -> None:
        loop = asyncio.get_running_loop()
        missing, heard = nodes, dict[str, Node]()
        retry_at = loop.time()
        while True:
            if missing and loop.time() >= retry_at:
                missing = await self._subscribe(connection, missing)
                heard = {name: node for name, node in nodes.items() if name not in missing}
                retry_at = loop.time() + RETRY_SECONDS
            done, _ = await asyncio.wait({connection.ended}, timeout=self._settings.publish_seconds)
            if done:
                raise FeedFault(f"the OPC UA connection is lost: {connection.ended.result()}")
            await connection.check_alive()
            self._inlet.alive(heard)

    async def _subscribe(
        self, connection: OpcuaConnection, nodes: dict[str, Node]
    ) -> dict[str, Node]:
        """Those that could not be subscribed."""
        refused = await connection.subscribe(nodes, self._settings.publish_seconds, self._changed)
        for signal, why in refused.items():
            self._inlet.put(signal, None, grade="bad", reason="source")
            self._inlet.trouble(f"{signal}: {self._settings.tags[signal].node}: {why}")
        return {signal: nodes[signal] for signal in refused}

    def _changed(self, signal: str, data: ua.DataValue) -> None:
        grade = grade_of_status(data.StatusCode)
        raw = None if data.Value is None else data.Value.Value
        self._inlet.put(
            signal,
            raw,
            at=seconds_of(data.SourceTimestamp),
            grade=grade,
            reason="" if grade == "good" else "source",
        )
