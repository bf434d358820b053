"""Releases of the agent: pushing a signed file, and seeing what is here and who runs it.

A rollout of one is a rollout of the model `muster-agent`.
"""

from typing import Annotated

from fastapi import APIRouter, UploadFile

from muster_hub.access.leave import Leave
from muster_hub.api.auth import HubDep, asks
from muster_hub.api.once import OnceRoute
from muster_hub.api.problems import answers
from muster_hub.api.schemas.agent_releases import AgentReleaseDetail, AgentReleaseView
from muster_hub.registry import agent_releases
from muster_protocol.wire.agent_release import NAME

router = APIRouter(tags=["agent"], route_class=OnceRoute)


@router.post("/agent-releases", status_code=201, responses=answers(401, 403, 409, 413, 422, 507))
def push(
    hub: HubDep, leave: Annotated[Leave, asks("version.push")], file: UploadFile
) -> AgentReleaseView:
    """Push a file that `muster-hub agent-release make` wrote.

    It is kept when as many keys of the role targets have signed it as the catalogue's root asks
    for, and every wheel is as signed. Nothing is asked of any device before a rollout begins.
    """
    leave.model(NAME)
    row = agent_releases.push(
        hub.store, hub.blobs, hub.catalogue, hub.room, file.file,
        by=leave.actor.label, now=hub.clock(),
    )  # fmt: skip
    with hub.store.read() as session:
        return AgentReleaseView(**agent_releases.release(session, row.version))


@router.get("/agent-releases", responses=answers(401))
def releases(hub: HubDep, leave: Annotated[Leave, asks("model.list")]) -> list[AgentReleaseView]:
    """Releases of the agent, the newest first; nothing for who is limited to other models."""
    if not leave.scope.has_model(NAME):
        return []
    with hub.store.read() as session:
        return [AgentReleaseView(**found) for found in agent_releases.releases(session)]


@router.get("/agent-releases/{version}", responses=answers(401, 403, 404))
def release(
    hub: HubDep, leave: Annotated[Leave, asks("model.read")], version: str
) -> AgentReleaseDetail:
    """One release, with its wheels."""
    leave.model(NAME)
    with hub.store.read() as session:
        return AgentReleaseDetail(**agent_releases.release(session, version))
