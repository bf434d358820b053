"""Which implementation of each production interface a world uses; a planted bug replaces one."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from muster_agent.observe.outbox import Outbox
from muster_hub.mqtt.intake import Intake
from sim.catalogue import Trust
from sim.disk import DiskState, DiskStore
from sim.hub import HubStore
from sim.network import Sender
from sim.workers import Launcher


def _as_asked(plan: dict[str, Any]) -> dict[str, Any]:
    return plan


@dataclass(frozen=True)
class Doubles:
    trust: Callable[[], Trust] = Trust
    store: type[DiskStore] = DiskStore
    state: type[DiskState] = DiskState
    outbox: Callable[..., Outbox] = Outbox
    launcher: type[Launcher] = Launcher
    hub_store: type[HubStore] = HubStore
    intake: type[Intake] = Intake
    sender: type[Sender] = Sender
    plan: Callable[[dict[str, Any]], dict[str, Any]] = field(default=_as_asked)
    """What of an operator's plan reaches the hub."""


HONEST = Doubles()
