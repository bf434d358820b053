"""Parts that begin and end together."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

from muster_hub.heartbeats import Heartbeats
from muster_hub.mqtt.access import Gatekeeper
from muster_hub.mqtt.publisher import Publisher
from muster_hub.reconcile.leader import Startable


@dataclass
class Group:
    """Started in order, stopped in reverse; stopped, none of them counts as a part of the hub."""

    heartbeats: Heartbeats
    parts: Mapping[str, Startable]
    """By their names among the hub's parts."""
    _stack: ExitStack = field(default_factory=ExitStack)

    def start(self) -> None:
        """Start all; those that were started are stopped again when one can't be."""
        with ExitStack() as stack:
            for name, part in self.parts.items():
                stack.callback(self.heartbeats.forget, name)
                part.start()
                stack.callback(part.stop)
            self._stack = stack.pop_all()

    def stop(self) -> None:
        """End all."""
        self._stack.close()


class Publishing(Group):
    """What speaks to the broker for the whole hub."""

    def __init__(
        self, heartbeats: Heartbeats, publisher: Publisher, gatekeeper: Gatekeeper | None
    ) -> None:
        parts: dict[str, Startable] = {} if gatekeeper is None else {"gatekeeper": gatekeeper}
        super().__init__(heartbeats, parts | {"publisher": publisher})
        self.publisher = publisher
        self.gatekeeper = gatekeeper

    def wake(self) -> None:
        """Something was changed. Never blocks."""
        self.publisher.wake()
        if self.gatekeeper is not None:
            self.gatekeeper.wake()
