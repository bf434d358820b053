"""Who may sign what, who has signed what waits, and until when it all is good."""

from typing import Annotated

from fastapi import APIRouter, Query

from muster_hub.access.leave import Leave
from muster_hub.alerts import expiry
from muster_hub.api.auth import HubDep, asks
from muster_hub.api.once import OnceRoute
from muster_hub.api.problems import answers
from muster_hub.api.schemas.signing import (
    Endings,
    EndingView,
    KeyView,
    RoleView,
    Signing,
    WaitingView,
)

router = APIRouter(tags=["signing"], route_class=OnceRoute)


@router.get("/expiries", responses=answers(401))
def expiries(
    hub: HubDep,
    leave: Annotated[Leave, asks("expiry.list")],
    days: Annotated[float, Query(ge=0, le=3650)] = 90.0,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> Endings:
    """Certificates and metadata, of the fleet and the hub, that end soon or have ended."""
    with hub.store.read() as session:
        found = expiry.ending(
            session,
            roles=hub.catalogue.expiries(),
            authority=hub.pki.expires,
            selector=leave.narrow(None),
            now=hub.clock(),
            within_seconds=days * 86_400,
        )
    found = [item for item in found if leave.sees_role(item.role or item.name)]
    return Endings(
        items=[
            EndingView(kind=item.kind, name=item.name, role=item.role, expires=item.expires)
            for item in found[:limit]
        ],
        more=max(len(found) - limit, 0),
    )


@router.get("/signatures", responses=answers(401))
def signatures(hub: HubDep, leave: Annotated[Leave, asks("signing.read")]) -> Signing:
    """Who may sign each role, until when it is good, and who has signed what waits."""
    leave.on_list()
    names = hub.keyring.names()

    def called(ids: tuple[str, ...]) -> list[KeyView]:
        return [KeyView(id=item, name=names.get(item, "")) for item in ids]

    return Signing(
        roles={
            role: RoleView(
                version=item.version,
                expires=item.expires,
                threshold=item.threshold,
                keys=called(item.keyids),
            )
            for role, item in hub.catalogue.standing().items()
            if leave.sees_role(role)
        },
        waiting={
            role: [
                WaitingView(
                    version=group.version,
                    threshold=group.threshold,
                    signed=called(group.signed),
                    may_sign=called(group.unsigned),
                )
                for group in groups
            ]
            for role, groups in hub.catalogue.waiting().items()
            if leave.sees_role(role)
        },
    )
