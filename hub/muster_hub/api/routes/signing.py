"""Who may sign what, who has signed what waits, and until when it all is good."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from muster_hub.alerts import expiry
from muster_hub.api.auth import HubDep, Reader
from muster_hub.api.problems import answers

router = APIRouter(tags=["signing"])


class KeyView(BaseModel):
    id: str = Field(examples=["9f86d081884c7d65…"])
    name: str = Field(examples=["ann"], description="As its file was called; empty: unknown.")


class RoleView(BaseModel):
    version: int
    expires: float = Field(examples=[1767225600.0])
    threshold: int = Field(description="How many of the keys must sign.")
    keys: list[KeyView]


class WaitingView(BaseModel):
    """A change that waits: it needs ``threshold`` signatures of this group of keys."""

    version: int
    threshold: int
    signed: list[KeyView]
    may_sign: list[KeyView]


class Signing(BaseModel):
    roles: dict[str, RoleView] = Field(description="What is published.")
    waiting: dict[str, list[WaitingView]] = Field(
        description="By role; a new root waits for the keys in force and for its own."
    )


class EndingView(BaseModel):
    kind: expiry.Kind = Field(
        description="`certificate` of a device; `authority`, the hub's; `metadata` that the hub "
        "publishes; `device_metadata` that a device still trusts and should have newer ones of."
    )
    name: str = Field(examples=["cam-1"], description="A device, or a role of the catalogue.")
    role: str = Field(examples=["timestamp"], description="Of `device_metadata`: ends first.")
    expires: float = Field(examples=[1767225600.0])


class Endings(BaseModel):
    items: list[EndingView] = Field(description="The soonest first.")
    more: int = Field(description="How many are not listed.")


@router.get("/expiries", responses=answers(401))
def expiries(
    hub: HubDep,
    actor: Reader,
    days: Annotated[float, Query(ge=0, le=3650)] = 90.0,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> Endings:
    """Certificates and metadata, of the fleet and the hub, that end soon or have ended."""
    with hub.store.read() as session:
        found = expiry.ending(
            session,
            roles=hub.catalogue.expiries(),
            authority=hub.pki.expires,
            selector=actor.scope.narrow(None),
            now=hub.clock(),
            within_seconds=days * 86_400,
        )
    return Endings(
        items=[
            EndingView(kind=item.kind, name=item.name, role=item.role, expires=item.expires)
            for item in found[:limit]
        ],
        more=max(len(found) - limit, 0),
    )


@router.get("/signatures", responses=answers(401))
def signatures(hub: HubDep, _: Reader) -> Signing:
    """Who may sign each role, until when it is good, and who has signed what waits."""
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
        },
    )
