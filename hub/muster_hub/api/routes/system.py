"""Health, the audit log, and chunks over HTTP for devices whose broker can't serve them."""

from importlib.metadata import version

from fastapi import APIRouter, HTTPException, Response
from sqlmodel import col, select

from muster_hub import audit
from muster_hub.api import capability
from muster_hub.api.auth import Admin, Credentials, HubDep
from muster_hub.api.once import OnceRoute
from muster_hub.api.pages import Cursor, Limit, Page, number, page
from muster_hub.api.problems import answers
from muster_hub.api.schemas import Health
from muster_hub.api.views import AuditState, AuditView
from muster_hub.db.models import Audit, Device

router = APIRouter(route_class=OnceRoute)
CHUNK_AGE_SECONDS = 86_400


@router.get("/health", tags=["system"])
def health(hub: HubDep) -> Health:
    """Whether the hub and its parts work. Needs no token and tells nothing secret."""
    parts = hub.health()
    ok = all(part.get("ok", False) for part in parts.values())
    return Health(status="ok" if ok else "degraded", version=version("muster-edge"), parts=parts)


@router.get("/audit", tags=["system"], responses=answers(401, 403))
def audit_log(hub: HubDep, _: Admin, limit: Limit = 100, cursor: Cursor = None) -> Page[AuditView]:
    """Who did what, the oldest first; each row's hash seals it to the one before."""
    with hub.store.read() as session:
        rows = session.exec(
            select(Audit)
            .where(col(Audit.id) > (number(cursor) or 0))
            .order_by(col(Audit.id))
            .limit(limit + 1)
        ).all()
    items = [AuditView(**row.model_dump()) for row in rows]
    return Page(**page(items, limit, lambda item: item.id))


@router.get("/audit/verify", tags=["system"], responses=answers(401, 403))
def audit_verify(hub: HubDep, _: Admin) -> AuditState:
    """Check every row's seal, from the first to the last: finds any edit and any gap."""
    with hub.store.read() as session:
        found = audit.inspect(session.exec(audit.in_order()).yield_per(1000))
    return AuditState(ok=not found.fault, rows=found.rows, latest=found.latest, fault=found.fault)


@router.get(
    "/chunks/{sha256}",
    tags=["chunks"],
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {}}}, **answers(401, 403, 404, 422)},
)
def chunk(hub: HubDep, credentials: Credentials, sha256: str) -> Response:
    """A chunk or manifest by its SHA-256, for the bearer of a directive's source token."""
    token = credentials.credentials if credentials else ""
    device = capability.check(hub.capability_key, token, hub.clock())
    if device is None:
        raise HTTPException(
            401,
            "send the token of the directive's source; this one is missing, wrong or expired",
            {"WWW-Authenticate": "Bearer"},
        )
    with hub.store.read() as session:
        row = session.get(Device, device)
    if row is None or row.revoked or not row.approved:
        raise HTTPException(403, f"the device {device} may not fetch chunks")
    return Response(
        hub.blobs.read(sha256),
        media_type="application/octet-stream",
        headers={"Cache-Control": f"private, max-age={CHUNK_AGE_SECONDS}, immutable"},
    )
