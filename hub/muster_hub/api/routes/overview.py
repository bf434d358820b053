"""The fleet at a glance: how devices stand, what they run, what needs somebody."""

from collections import Counter
from typing import Annotated, Final

from fastapi import APIRouter

from muster_hub.access.leave import Leave
from muster_hub.alerts import reading as alerts_reading
from muster_hub.api import waiting
from muster_hub.api.auth import HubDep, asks
from muster_hub.api.once import OnceRoute
from muster_hub.api.pages import SelectorText
from muster_hub.api.problems import answers
from muster_hub.api.schemas.overview import (
    AgentsView,
    GoingView,
    OverviewView,
    RunsView,
    StandingView,
    WaitView,
)
from muster_hub.fleet import overview as fleet_overview
from muster_hub.fleet.overview import MEANINGS, STANDINGS, Standing
from muster_hub.rollouts import reading as rollouts_reading
from muster_protocol.wire import selectors

router = APIRouter(tags=["devices"], route_class=OnceRoute)

VERSIONS_MAX: Final = 100
ROLLOUTS_MAX: Final = 50
AWAY: Final[frozenset[Standing]] = frozenset({"offline", "revoked", "awaiting_approval"})
"""Standings of devices that are not counted as online."""
FAILING: Final[frozenset[Standing]] = frozenset({"refused", "unhealthy"})


@router.get("/overview", responses=answers(401, 422))
def overview(
    hub: HubDep, leave: Annotated[Leave, asks("device.list")], selector: SelectorText = None
) -> OverviewView:
    """The fleet at a glance, or the part of it that a selector matches."""
    chosen, scope = leave.narrow(selector), leave.actor.scope
    with hub.store.read() as session:
        devices = fleet_overview.read(session, scope, selectors.parse(chosen), hub.clock())
        alerts = alerts_reading.standing(session, scope, selector=chosen)
        going = rollouts_reading.going(session, scope, limit=ROLLOUTS_MAX)
        waits = waiting.read(session, scope)
    standings = Counter(item.standing for item in devices)
    runs = Counter(
        (model, version)
        for item in devices
        if item.standing != "revoked"
        for _, model, version in item.runs
    )
    agents = Counter(item.agent for item in devices if item.standing != "revoked" and item.agent)
    return OverviewView(
        devices=len(devices) - standings["revoked"],
        online=sum(count for word, count in standings.items() if word not in AWAY),
        failing=sum(standings[word] for word in FAILING),
        drifting=alerts.drifting,
        waiting=standings["waiting"],
        open_alerts=alerts.open,
        acknowledged_alerts=alerts.acknowledged,
        standings=[
            StandingView(standing=word, meaning=MEANINGS[word], devices=standings[word])
            for word in STANDINGS
            if standings[word]
        ],
        versions=[
            RunsView(model=model, version=version, devices=count)
            for (model, version), count in runs.most_common(VERSIONS_MAX)
        ],
        agents=[
            AgentsView(version=version, devices=count)
            for version, count in agents.most_common(VERSIONS_MAX)
        ],
        rollouts=[GoingView(**item) for item in going],
        waits=[
            WaitView(who=item.who, what=item.what, count=item.count)
            for item in [
                *waiting.of_devices(devices),
                *waits,
                *waiting.of_signers(hub, leave),
            ]
        ],
    )
