"""The fleet at a glance, and who asks."""

from typing import TypedDict

from muster_client.answers import Scoped


class StandingCount(TypedDict):
    """How many devices stand so; each is counted once."""

    standing: str
    meaning: str
    devices: int


class Runs(TypedDict):
    """How many devices report to run a version."""

    model: str
    version: str
    devices: int


class Agents(TypedDict):
    """How many devices report to run a version of the agent."""

    version: str
    devices: int


class Wait(TypedDict):
    """What waits for whom; ``count`` devices, or 0 for what is single."""

    who: str
    what: str
    count: int


class Going(TypedDict):
    """A rollout that has not ended."""

    id: int
    model: str
    version: str
    selector: str
    state: str
    reason: str


class Overview(TypedDict):
    """How many devices stand where, what they run, and what needs somebody."""

    devices: int
    online: int
    failing: int
    drifting: int
    waiting: int
    open_alerts: dict[str, int]
    acknowledged_alerts: int
    standings: list[StandingCount]
    versions: list[Runs]
    agents: list[Agents]
    rollouts: list[Going]
    waits: list[Wait]


class Who(Scoped):
    """Whom the hub takes somebody for."""

    name: str
    kind: str
    owner: str
