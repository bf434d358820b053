"""Sources: places outside that `muster source run` looks at for new versions."""

from typing import Annotated

from fastapi import APIRouter
from sqlmodel import Session

from muster_hub.access.leave import Leave
from muster_hub.api.auth import HubDep, asks
from muster_hub.api.once import OnceRoute
from muster_hub.api.pages import Number
from muster_hub.api.problems import answers
from muster_hub.api.schemas.registry import SourceAsk, SourceLook, SourceView
from muster_hub.audit import log
from muster_hub.registry import sources
from muster_hub.storage.registry import ModelSource

router = APIRouter(tags=["models"], route_class=OnceRoute)


@router.get("/sources", responses=answers(401, 403))
def list_sources(hub: HubDep, leave: Annotated[Leave, asks("source.list")]) -> list[SourceView]:
    """Sources, and what the last look at each found."""
    scope = leave.scope
    with hub.store.read() as session:
        rows = sources.listed(session)
    return [SourceView.of(row) for row in rows if scope.has_model(row.model)]


@router.post("/sources", status_code=201, responses=answers(401, 403, 409))
def add_source(
    hub: HubDep, leave: Annotated[Leave, asks("source.add")], ask: SourceAsk
) -> SourceView:
    """Have a place looked at. The hub doesn't do that itself: `muster source run` does."""
    leave.model(ask.model)
    now, by = hub.clock(), leave.actor.label
    with hub.store.write() as session:
        log.append(
            session, actor=by, action="source.add", subject=f"model/{ask.model}", now=now,
            uri=ask.uri,
        )  # fmt: skip
        row = sources.add(
            session, uri=ask.uri, model=ask.model, every_seconds=ask.every_seconds,
            options=ask.options, by=by, now=now,
        )  # fmt: skip
        return SourceView.of(row)


@router.post("/sources/{source}/look", responses=answers(401, 403, 404))
def note_look(
    hub: HubDep, leave: Annotated[Leave, asks("source.note")], source: Number, ask: SourceLook
) -> SourceView:
    """Keep what a look at a source found."""
    now = hub.clock()
    with hub.store.write() as session:
        row = _of(session, leave, source)
        if sources.note(
            session, row, identity=ask.identity, version=ask.version, fault=ask.fault, now=now
        ):
            log.append(
                session, actor=leave.actor.label, action="source.note",
                subject=f"model/{row.model}", now=now, **ask.model_dump(),
            )  # fmt: skip
        return SourceView.of(row)


@router.delete("/sources/{source}", status_code=204, responses=answers(401, 403, 404))
def remove_source(
    hub: HubDep, leave: Annotated[Leave, asks("source.remove")], source: Number
) -> None:
    """Look there no more."""
    with hub.store.write() as session:
        row = _of(session, leave, source)
        session.delete(row)
        log.append(
            session, actor=leave.actor.label, action="source.remove",
            subject=f"model/{row.model}", now=hub.clock(), uri=row.uri,
        )  # fmt: skip


def _of(session: Session, leave: Leave, source: int) -> ModelSource:
    row = sources.find(session, source)
    leave.model(row.model)
    return row
