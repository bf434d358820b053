"""An OPC UA server as sources and sinks use it; the only module that imports asyncua, but tests.

Namespaces are resolved by their URI with every connection: a server numbers them as it likes.
asyncua's own reconnecting is left off: a lost connection ends at once, and whoever needs another
makes one, so that nothing of the old one is believed.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from asyncua import Client, Node, ua

from muster_agent.base.feed_settings import OpcuaAddress, OpcuaTag, OpcuaWrite
from muster_agent.feeds.samples import Grade
from muster_agent.feeds.sources.base import FeedFault, FeedPlace

WATCHDOG_SECONDS = 1.0
CLOSE_SECONDS = 3.0
Changed = Callable[[str, ua.DataValue], None]


@dataclass(frozen=True)
class OpcuaPlace:
    """A variable, as tags name it."""

    node: str
    namespace: str


class OpcuaConnection:
    """One connection; a lost one stays lost."""

    def __init__(self, address: OpcuaAddress, place: FeedPlace) -> None:
        self._address = address
        self._place = place
        self._client = Client(
            address.url, timeout=address.timeout_seconds, watchdog_intervall=WATCHDOG_SECONDS
        )
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Set, to the reason, when the connection is lost."""
        self._client.connection_lost_callback = self._lost

    async def open(self) -> None:
        """Connect; raises FeedFault."""
        address = self._address
        if address.username:
            self._client.set_user(address.username)
            if address.password_file:
                self._client.set_password(self._place.read_secret(address.password_file))
        try:
            if address.security:
                await self._client.set_security_string(address.security)
            await self._client.connect()
        except Exception as error:  # asyncua raises its own, OSError, TimeoutError and more
            raise FeedFault(f"no OPC UA server at {address.url}: {_words(error)}") from None

    async def close(self) -> None:
        """Disconnect; never raises."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._client.disconnect()

    async def nodes(
        self, items: Mapping[str, OpcuaTag | OpcuaWrite | OpcuaPlace]
    ) -> dict[str, Node]:
        """Nodes by name; raises FeedFault naming a namespace that the server doesn't have."""
        with _as_fault(self._address.url):
            known = await self._client.get_namespace_array()
        found = {}
        for name, item in items.items():
            if item.namespace and item.namespace not in known:
                raise FeedFault(
                    f"{self._address.url} has no namespace {item.namespace!r} ({name}); "
                    f"there are {', '.join(known)}"
                )
            index = known.index(item.namespace) if item.namespace else 0
            try:
                found[name] = self._client.get_node(f"ns={index};{item.node}")
            except ua.UaError as error:
                raise FeedFault(f"{name}: {item.node!r} is no node id: {error}") from None
        return found

    async def subscribe(
        self, nodes: Mapping[str, Node], every_seconds: float, changed: Changed
    ) -> dict[str, str]:
        """Hear of changes from now on; what could not be subscribed, and why. Raises FeedFault."""
        names = {node.nodeid: name for name, node in nodes.items()}

        class Handler:
            """What asyncua calls, in the loop's thread."""

            def datachange_notification(self, node: Node, _value: Any, data: Any) -> None:
                changed(names[node.nodeid], data.monitored_item.Value)

        with _as_fault(self._address.url):
            subscription = await self._client.create_subscription(every_seconds * 1000, Handler())
            results = await subscription.subscribe_data_change(
                list(nodes.values()), sampling_interval=every_seconds * 1000
            )
        listed = results if isinstance(results, list) else [results]
        return {
            name: result.name
            for name, result in zip(nodes, listed, strict=True)
            if isinstance(result, ua.StatusCode) and not result.is_good()
        }

    async def check_alive(self) -> None:
        """Raise FeedFault unless the server says that it runs."""
        with _as_fault(self._address.url):
            node = self._client.get_node(ua.NodeId(ua.ObjectIds.Server_ServerStatus_State))
            state = await node.read_value()
        if state != ua.ServerState.Running:
            raise FeedFault(f"{self._address.url} says {ua.ServerState(state).name}")

    async def variant_types(self, nodes: Mapping[str, Node]) -> dict[str, ua.VariantType]:
        """What each variable holds; raises FeedFault."""
        with _as_fault(self._address.url):
            return {
                name: await node.read_data_type_as_variant_type() for name, node in nodes.items()
            }

    async def write(self, nodes: Sequence[Node], values: Sequence[ua.DataValue]) -> None:
        """Write values; raises FeedFault naming the first that is refused."""
        with _as_fault(self._address.url):
            results = await self._client.uaclient.write_attributes(
                [node.nodeid for node in nodes], list(values), ua.AttributeIds.Value
            )
        for node, result in zip(nodes, results, strict=True):
            if not result.is_good():
                raise FeedFault(f"{self._address.url} refuses {node.nodeid}: {result.name}")

    async def _lost(self, error: Exception) -> None:
        if not self.ended.done():
            self.ended.set_result(_words(error))


@contextlib.contextmanager
def _as_fault(url: str) -> Iterator[None]:
    """Whatever asyncua raises, as a FeedFault."""
    try:
        yield
    except FeedFault:
        raise
    except Exception as error:  # as above
        raise FeedFault(f"{url}: {_words(error)}") from None


def _words(error: Exception) -> str:
    return f"{type(error).__name__} {error}".strip()


def grade_of_status(status: ua.StatusCode | None) -> Grade:
    """The two highest bits of a status code say it."""
    severity = 0 if status is None else status.value >> 30
    return "good" if severity == 0 else "uncertain" if severity == 1 else "bad"


def seconds_of(at: datetime | None) -> float | None:
    """Seconds since 1970; OPC UA's times are UTC."""
    if at is None:
        return None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
