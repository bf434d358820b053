"""Who did what: the audit log, by whom, what and on what; and whether its seals hold."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from muster_hub.api.auth import HubDep, asks
from muster_hub.api.once import OnceRoute
from muster_hub.api.pages import NUMBER_MAX
from muster_hub.api.routes import system as api
from muster_hub.audit import reading
from muster_hub.console.rendering import render

router = APIRouter(route_class=OnceRoute)
ROWS = 60
Words = Annotated[str, Query(max_length=128)]


@router.get("/audit", dependencies=[asks("audit.read")])
def audit(
    request: Request,
    hub: HubDep,
    actor: Words = "",
    action: Words = "",
    subject: Words = "",
    before: Annotated[int | None, Query(ge=1, le=NUMBER_MAX)] = None,
) -> Response:
    """Rows that hold these words, the newest first."""
    with hub.store.read() as session:
        rows = reading.newest(
            session, actor=actor, action=action, subject=subject, before=before, limit=ROWS + 1
        )
    return render(
        request,
        "audit.html",
        rows=rows[:ROWS],
        following=rows[ROWS - 1].id if len(rows) > ROWS else None,
        fields={"actor": actor, "action": action, "subject": subject},
        before=before,
        chain=None,
    )


@router.get("/audit/verify", dependencies=[asks("audit.read")])
def verify(request: Request, hub: HubDep) -> Response:
    """Follow every seal from the first row to the last."""
    return render(
        request,
        "audit.html",
        rows=[],
        following=None,
        fields={"actor": "", "action": "", "subject": ""},
        before=None,
        chain=api.audit_verify(hub),
    )
