"""Health and the audit log."""

from importlib.metadata import version
from typing import Annotated

from fastapi import APIRouter, Query
from sqlmodel import col, select

from muster_hub.api.auth import HubDep, asks, open_to
from muster_hub.api.once import OnceRoute
from muster_hub.api.pages import Cursor, Limit, Page, number, page
from muster_hub.api.problems import answers
from muster_hub.api.schemas.system import AuditState, AuditView, Health
from muster_hub.audit import log
from muster_hub.storage.models import Audit

router = APIRouter(route_class=OnceRoute)
Word = Annotated[str | None, Query(max_length=255)]
Moment = Annotated[float | None, Query(ge=0, le=1e11, description="Seconds since 1970.")]


@router.get("/health", tags=["system"], dependencies=[open_to("anybody")])
def health(hub: HubDep) -> Health:
    """Whether the hub and its parts work. Needs no token and tells nothing secret."""
    parts = hub.health()
    ok = all(part.get("ok", False) for part in parts.values())
    return Health(status="ok" if ok else "degraded", version=version("muster-edge"), parts=parts)


@router.get(
    "/audit", tags=["system"], responses=answers(401, 403), dependencies=[asks("audit.read")]
)
def audit_log(
    hub: HubDep,
    actor: Annotated[Word, Query(examples=["token:ci"], description="Only what they did.")] = None,
    action: Annotated[
        Word, Query(examples=["device."], description="Only this, or what begins so.")
    ] = None,
    subject: Annotated[Word, Query(examples=["cam-1"], description="Only to this.")] = None,
    since: Moment = None,
    until: Moment = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[AuditView]:
    """Who did what, the oldest first; each row's hash seals it to the one before."""
    wanted = [col(Audit.id) > (number(cursor) or 0)]
    if actor:
        wanted.append(col(Audit.actor) == actor)
    if action:
        wanted.append(col(Audit.action).startswith(action, autoescape=True))
    if subject:
        wanted.append(col(Audit.subject) == subject)
    if since is not None:
        wanted.append(col(Audit.at) >= since)
    if until is not None:
        wanted.append(col(Audit.at) < until)
    with hub.store.read() as session:
        rows = session.exec(
            select(Audit).where(*wanted).order_by(col(Audit.id)).limit(limit + 1)
        ).all()
    items = [AuditView(**row.model_dump()) for row in rows]
    return Page(**page(items, limit, lambda item: item.id))


@router.get(
    "/audit/verify", tags=["system"], responses=answers(401, 403), dependencies=[asks("audit.read")]
)
def audit_verify(hub: HubDep) -> AuditState:
    """Check every row's seal, from the first that is here to the last: finds any edit and any gap.

    Where earlier rows were archived it begins at their anchor; the archives are checked by
    `muster audit verify --archive`.
    """
    with hub.store.read() as session:
        found = log.check(session, hub.sealing)
    return AuditState(ok=not found.fault, **vars(found))
