"""Answers in variables of a server: those in the settings, and only where writing is allowed."""

from collections.abc import Mapping

from asyncua import Node, ua

from muster_agent.base.feed_settings import OpcuaSink, OpcuaWrite
from muster_agent.feeds.answers import QUALITY_CODES, FeedAnswer, written
from muster_agent.feeds.opcua.client import OpcuaConnection, OpcuaPlace
from muster_agent.feeds.sources.base import FeedFault, FeedPlace

HEARTBEATS = 128
"""Every kind of whole number holds as many."""
_Variables = dict[str, tuple[Node, ua.VariantType]]


class OpcuaWrites:
    """Writes each answer, or the safe value, as the variable's own type.

    Its quality and the heartbeat, where they are wanted, go with it in the same request.
    """

    def __init__(self, settings: OpcuaSink, place: FeedPlace) -> None:
        self._settings = settings
        self._place = place
        self.beats = bool(settings.heartbeat_node)
        self._beat = 0
        self._connection: OpcuaConnection | None = None
        self._answers: _Variables = {}
        self._signs: _Variables = {}

    async def open(self) -> None:
        settings = self._settings
        if not settings.allow_writes:
            return
        self._connection = OpcuaConnection(settings, self._place)
        await self._connection.open()
        named = {"quality_node": settings.quality_node, "heartbeat_node": settings.heartbeat_node}
        signs = {name: OpcuaPlace(node, settings.namespace) for name, node in named.items() if node}
        self._answers = await _variables(self._connection, settings.writes)
        self._signs = await _variables(self._connection, signs)
        for name, (_, kind) in self._signs.items():
            if kind is ua.VariantType.Boolean:
                raise FeedFault(f"{name}: the variable is a Boolean, it holds no number")

    async def write(self, answer: FeedAnswer) -> None:
        if not self._settings.allow_writes:
            return
        if self._connection is None or self._connection.ended.done():
            raise FeedFault(f"not connected to {self._settings.url}")
        self._beat = (self._beat + 1) % HEARTBEATS
        signs = {"quality_node": QUALITY_CODES[answer.grade], "heartbeat_node": self._beat}
        values = [
            (node, _variant(written(answer, self._settings.writes[name]), kind, name))
            for name, (node, kind) in self._answers.items()
        ]
        values += [
            (node, _variant(signs[name], kind, name)) for name, (node, kind) in self._signs.items()
        ]
        nodes = [node for node, _ in values]
        await self._connection.write(nodes, [ua.DataValue(variant) for _, variant in values])

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None


async def _variables(
    connection: OpcuaConnection, places: Mapping[str, OpcuaWrite | OpcuaPlace]
) -> _Variables:
    """Variables and what they hold, by name; raises FeedFault."""
    nodes = await connection.nodes(places)
    types = await connection.variant_types(nodes)
    return {name: (node, types[name]) for name, node in nodes.items()}


def _variant(value: float, kind: ua.VariantType, name: str) -> ua.Variant:
    """A number as a variable holds it; raises FeedFault for one that holds no number."""
    if kind in {ua.VariantType.Float, ua.VariantType.Double}:
        return ua.Variant(float(value), kind)
    if kind is ua.VariantType.Boolean:
        return ua.Variant(value >= 0.5, kind)
    if ua.VariantType.SByte.value <= kind.value <= ua.VariantType.UInt64.value:
        return ua.Variant(round(value), kind)
    raise FeedFault(f"{name}: the variable is a {kind.name}, a number can't be written to it")
