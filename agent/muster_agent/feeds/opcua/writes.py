"""Answers in variables of a server: those in the settings, and only where writing is allowed."""

from asyncua import Node, ua

from muster_agent.base.feed_settings import OpcuaSink
from muster_agent.feeds.answers import FeedAnswer, written
from muster_agent.feeds.opcua.client import OpcuaConnection
from muster_agent.feeds.sources.base import FeedFault, FeedPlace


class OpcuaWrites:
    """Writes each answer, or the safe value, as the variable's own type."""

    def __init__(self, settings: OpcuaSink, place: FeedPlace) -> None:
        self._settings = settings
        self._place = place
        self._connection: OpcuaConnection | None = None
        self._nodes: dict[str, Node] = {}
        self._types: dict[str, ua.VariantType] = {}

    async def open(self) -> None:
        if not self._settings.allow_writes:
            return
        self._connection = OpcuaConnection(self._settings, self._place)
        await self._connection.open()
        self._nodes = await self._connection.nodes(self._settings.writes)
        self._types = await self._connection.variant_types(self._nodes)

    async def write(self, answer: FeedAnswer) -> None:
        if not self._settings.allow_writes:
            return
        if self._connection is None or self._connection.ended.done():
            raise FeedFault(f"not connected to {self._settings.url}")
        values = [
            ua.DataValue(_variant(written(answer, item), self._types[name], name))
            for name, item in self._settings.writes.items()
        ]
        await self._connection.write(list(self._nodes.values()), values)

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None


def _variant(value: float, kind: ua.VariantType, name: str) -> ua.Variant:
    """A number as a variable holds it; raises FeedFault for one that holds no number."""
    if kind in {ua.VariantType.Float, ua.VariantType.Double}:
        return ua.Variant(value, kind)
    if kind is ua.VariantType.Boolean:
        return ua.Variant(value >= 0.5, kind)
    if ua.VariantType.SByte.value <= kind.value <= ua.VariantType.UInt64.value:
        return ua.Variant(round(value), kind)
    raise FeedFault(f"{name}: the variable is a {kind.name}, a number can't be written to it")
