"""Webhooks: who is told of alerts, beside the receivers that hub.toml names."""

import secrets
from typing import Annotated

from fastapi import APIRouter, Path, Response
from sqlmodel import Session, col, select

from muster_hub.access.acts import Actor
from muster_hub.access.leave import Leave
from muster_hub.alerts import webhooks
from muster_hub.api import etags
from muster_hub.api.auth import HubDep, asks
from muster_hub.api.etags import IfMatch
from muster_hub.api.once import OnceRoute
from muster_hub.api.pages import Cursor, Limit, Page, page
from muster_hub.api.problems import answers
from muster_hub.api.schemas.webhooks import (
    NAME_PATTERN,
    WebhookAsk,
    WebhookMade,
    WebhookPut,
    WebhookTested,
    WebhookView,
)
from muster_hub.audit import log
from muster_hub.storage.alerting import Webhook

router = APIRouter(tags=["alerts"], route_class=OnceRoute)
Name = Annotated[str, Path(pattern=NAME_PATTERN, examples=["pager"])]


@router.get("/webhooks", responses=answers(401, 403), dependencies=[asks("webhook.read")])
def list_webhooks(
    hub: HubDep,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[WebhookView]:
    """Webhooks by name, never their secrets. Receivers in `hub.toml` are not among them."""
    with hub.store.read() as session:
        rows = session.exec(
            select(Webhook)
            .where(col(Webhook.name) > (cursor or ""))
            .order_by(col(Webhook.name))
            .limit(limit + 1)
        ).all()
    return Page(**page([WebhookView.of(row) for row in rows], limit, lambda item: item.name))


@router.post("/webhooks", status_code=201, responses=answers(401, 403, 409))
def make_webhook(
    hub: HubDep, leave: Annotated[Leave, asks("webhook.make")], ask: WebhookAsk, response: Response
) -> WebhookMade:
    """Have somebody told of alerts. The secret that signs what they get is shown once."""
    now = hub.clock()
    with hub.store.write() as session:
        _record(session, leave.actor, "webhook.make", ask.name, now, ask)
        row, secret = webhooks.create(
            session, hub.sealing, name=ask.name, url=ask.url, notices=ask.on, causes=ask.causes,
            now=now, by=leave.actor.label,
        )  # fmt: skip
    response.headers["ETag"] = _tag(row)
    return WebhookMade(secret=secret, **WebhookView.of(row).model_dump())


@router.get(
    "/webhooks/{name}", responses=answers(401, 403, 404), dependencies=[asks("webhook.read")]
)
def get_webhook(hub: HubDep, name: Name, response: Response) -> WebhookView:
    """One webhook, and how its latest delivery went."""
    with hub.store.read() as session:
        row = webhooks.find(session, name)
    response.headers["ETag"] = _tag(row)
    return WebhookView.of(row)


@router.put("/webhooks/{name}", responses=answers(401, 403, 404, 412))
def put_webhook(
    hub: HubDep,
    leave: Annotated[Leave, asks("webhook.put")],
    name: Name,
    ask: WebhookPut,
    response: Response,
    if_match: IfMatch = None,
) -> WebhookView:
    """Change where it goes and of what it is told. Its secret stays."""
    with hub.store.write() as session:
        row = webhooks.find(session, name)
        etags.check(if_match, _tag(row))
        row.url, row.notices, row.causes = webhooks.check_url(ask.url), list(ask.on), ask.causes
        session.add(row)
        _record(session, leave.actor, "webhook.put", name, hub.clock(), ask)
    response.headers["ETag"] = _tag(row)
    return WebhookView.of(row)


@router.post("/webhooks/{name}/secret", responses=answers(401, 403, 404, 412))
def renew_secret(
    hub: HubDep,
    leave: Annotated[Leave, asks("webhook.secret")],
    name: Name,
    response: Response,
    if_match: IfMatch = None,
) -> WebhookMade:
    """Make a new secret, shown once. From now on deliveries are signed with it alone."""
    now = hub.clock()
    with hub.store.write() as session:
        row = webhooks.find(session, name)
        etags.check(if_match, _tag(row))
        secret = webhooks.renew_secret(row, hub.sealing, now)
        session.add(row)
        _record(session, leave.actor, "webhook.secret", name, now)
    response.headers["ETag"] = _tag(row)
    return WebhookMade(secret=secret, **WebhookView.of(row).model_dump())


@router.post("/webhooks/{name}/test", responses=answers(401, 403, 404))
def test_webhook(
    hub: HubDep, leave: Annotated[Leave, asks("webhook.test")], name: Name
) -> WebhookTested:
    """Deliver a body of the type `test`, signed like any other, once and at once."""
    now = hub.clock()
    with hub.store.write() as session:
        row = webhooks.find(session, name)
        _record(session, leave.actor, "webhook.test", name, now)
    delivery = secrets.token_hex(16)
    fault = webhooks.send(
        row, hub.sealing, delivery, webhooks.test_body(leave.actor.label, now), now
    )
    with hub.store.write() as session:
        webhooks.note(webhooks.find(session, name), fault, now)
    return WebhookTested(delivery=delivery, taken=not fault, fault=fault)


@router.delete("/webhooks/{name}", status_code=204, responses=answers(401, 403, 404, 412))
def delete_webhook(
    hub: HubDep,
    leave: Annotated[Leave, asks("webhook.delete")],
    name: Name,
    if_match: IfMatch = None,
) -> None:
    """Tell it nothing more; what waits for it is dropped."""
    with hub.store.write() as session:
        row = webhooks.find(session, name)
        etags.check(if_match, _tag(row))
        webhooks.remove(session, row)
        _record(session, leave.actor, "webhook.delete", name, hub.clock())


def _record(
    session: Session,
    actor: Actor,
    action: str,
    name: str,
    now: float,
    ask: WebhookPut | None = None,
) -> None:
    detail = {} if ask is None else ask.model_dump(exclude={"name"})
    log.append(
        session, actor=actor.label, action=action, subject=f"webhook/{name}", now=now, **detail
    )


def _tag(row: Webhook) -> str:
    return etags.tag(row.name, row.url, row.notices, row.causes, row.secret_made)
