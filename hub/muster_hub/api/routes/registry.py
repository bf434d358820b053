"""What a model's versions are called, what they must show, and the papers about each."""

from importlib.metadata import version as installed_version
from typing import Annotated, Any

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from sqlmodel import Session

from muster_hub.access.leave import Leave
from muster_hub.api.auth import HubDep, asks
from muster_hub.api.hub import Hub
from muster_hub.api.once import OnceRoute
from muster_hub.api.problems import answers
from muster_hub.api.schemas.registry import (
    AliasChangeView,
    AliasesView,
    AliasPut,
    AliasView,
    PolicyPut,
    PolicyView,
)
from muster_hub.audit import log
from muster_hub.errors import NotFound
from muster_hub.registry import aliases, bills, cards, policy
from muster_hub.registry.gates.base import Shown
from muster_hub.registry.gates.registry import read_policy
from muster_hub.registry.release import find
from muster_hub.storage.models import Model
from muster_hub.storage.registry import ReleasePolicy
from muster_protocol.wire.topics import check_name

router = APIRouter(tags=["models"], route_class=OnceRoute)
Plain = dict[str, Any]


@router.get("/models/{model}/aliases", responses=answers(401, 403, 404))
def list_aliases(
    hub: HubDep, leave: Annotated[Leave, asks("model.read")], model: str
) -> AliasesView:
    """What a model's aliases stand for, and stood for."""
    leave.model(model)
    with hub.store.read() as session:
        if session.get(Model, model) is None:
            raise NotFound(f"there is no model {model!r}")
        return AliasesView(
            aliases=[AliasView.of(row) for row in aliases.of_model(session, model)],
            history=[AliasChangeView.of(row) for row in aliases.history(session, model)],
        )


@router.put("/models/{model}/aliases/{alias}", responses=answers(401, 403, 404, 409))
def put_alias(
    hub: HubDep, leave: Annotated[Leave, asks("alias.put")], model: str, alias: str, ask: AliasPut
) -> AliasView:
    """Let an alias stand for a version. `champion` is what new versions are compared with."""
    leave.model(model)
    now, by = hub.clock(), leave.actor.label
    with hub.store.write() as session:
        if aliases.put(session, model, alias, ask.version, by=by, now=now, reason=ask.reason):
            log.append(
                session, actor=by, action="alias.put", subject=f"{model}@{alias}", now=now,
                version=ask.version, reason=ask.reason,
            )  # fmt: skip
        row = aliases.current(session, model, alias)
        assert row is not None
        return AliasView.of(row)


@router.delete("/models/{model}/aliases/{alias}", status_code=204, responses=answers(401, 403, 404))
def remove_alias(
    hub: HubDep, leave: Annotated[Leave, asks("alias.remove")], model: str, alias: str
) -> None:
    """Take an alias away. Its history stays."""
    leave.model(model)
    now, by = hub.clock(), leave.actor.label
    with hub.store.write() as session:
        aliases.remove(session, model, alias, by=by, now=now)
        subject = f"{model}@{alias}"
        log.append(session, actor=by, action="alias.remove", subject=subject, now=now)


@router.get("/models/{model}/policy", responses=answers(401, 403, 404))
def get_policy(hub: HubDep, leave: Annotated[Leave, asks("model.read")], model: str) -> PolicyView:
    """The gates that the model's versions must pass before they may be signed."""
    leave.model(model)
    with hub.store.read() as session:
        return PolicyView.of(policy.find(session, model))


@router.put("/models/{model}/policy", responses=answers(401, 403))
def put_policy(
    hub: HubDep, leave: Annotated[Leave, asks("policy.put")], model: str, ask: PolicyPut
) -> PolicyView:
    """Declare the gates. They count for versions checked from now on."""
    leave.model(model)
    check_name(model, "model")
    read_policy(ask.gates)
    now, by = hub.clock(), leave.actor.label
    with hub.store.write() as session:
        row = session.merge(ReleasePolicy(model=model, gates=ask.gates, updated=now, by=by))
        _record(session, by, "policy.put", model, now, gates=ask.gates)
        return PolicyView.of(row)


@router.delete("/models/{model}/policy", status_code=204, responses=answers(401, 403, 404))
def remove_policy(hub: HubDep, leave: Annotated[Leave, asks("policy.remove")], model: str) -> None:
    """Ask for no gates any more."""
    leave.model(model)
    with hub.store.write() as session:
        session.delete(policy.find(session, model))
        _record(session, leave.actor.label, "policy.remove", model, hub.clock())


@router.get("/models/{model}/versions/{version}/card", responses=answers(401, 403, 404))
def card(
    hub: HubDep, leave: Annotated[Leave, asks("model.read")], model: str, version: str
) -> Plain:
    """The version's model card: what is measured, and what people say of it."""
    leave.model(model)
    return _card(hub, model, version)[1]


@router.get(
    "/models/{model}/versions/{version}/card.md",
    response_class=PlainTextResponse,
    responses=answers(401, 403, 404),
)
def card_text(
    hub: HubDep, leave: Annotated[Leave, asks("model.read")], model: str, version: str
) -> Response:
    """The same card for people, as Markdown."""
    leave.model(model)
    text = cards.markdown(_card(hub, model, version)[1])
    return PlainTextResponse(text, media_type="text/markdown; charset=utf-8")


@router.get("/models/{model}/versions/{version}/bill", responses=answers(401, 403, 404))
def bill(
    hub: HubDep, leave: Annotated[Leave, asks("model.read")], model: str, version: str
) -> Plain:
    """The version's bill of materials, CycloneDX 1.7."""
    leave.model(model)
    shown, made = _card(hub, model, version)
    return bills.bill(shown, made, tool_version=installed_version("muster-edge"))


def _card(hub: Hub, model: str, version: str) -> tuple[Shown, Plain]:
    with hub.store.read() as session:
        row = find(session, model, version)
        names = [a.alias for a in aliases.of_model(session, model) if a.version == version]
    shown = policy.shown(row, row.check.get("builds", []), hub.blobs.read)
    made = cards.card(
        shown,
        status=row.status,
        sha256=row.manifest_sha256,
        pushed=row.created,
        pushed_by=row.created_by,
        gates=row.check.get("gates", []),
        aliases=names,
    )
    return shown, made


def _record(session: Session, by: str, action: str, model: str, now: float, **detail: Any) -> None:
    log.append(session, actor=by, action=action, subject=f"model/{model}", now=now, **detail)
