"""The registry: pushing versions, seeing their checks, and signatures made elsewhere."""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Response, UploadFile
from sqlmodel import col, select

from muster_hub.access.leave import METADATA_OF_MODEL, Leave
from muster_hub.api.auth import HubDep, asks
from muster_hub.api.hub import Hub
from muster_hub.api.once import OnceRoute
from muster_hub.api.pages import Cursor, Limit, Page, page, sent
from muster_hub.api.problems import answers
from muster_hub.api.schemas.models import (
    ModelView,
    SignatureAsk,
    SigningRequest,
    VersionDetail,
    VersionView,
)
from muster_hub.audit import log
from muster_hub.errors import Invalid, NotFound
from muster_hub.registry import reading
from muster_hub.registry.release import find
from muster_hub.signing import requests
from muster_hub.storage.models import Model, Version
from muster_protocol.wire import agent_release
from muster_protocol.wire.chunks import sha256_hex
from muster_protocol.wire.limits import FILES_PER_BUNDLE_MAX, MANIFEST_BYTES_MAX

router = APIRouter(tags=["models"], route_class=OnceRoute)


@router.post(
    "/models/{model}/versions", status_code=202, responses=answers(401, 403, 409, 413, 422, 507)
)
def push(
    hub: HubDep,
    leave: Annotated[Leave, asks("version.push")],
    model: str,
    manifest: UploadFile,
    files: list[UploadFile],
) -> VersionView:
    """Push a version: its manifest and every file the manifest lists, named as there.

    The hub keeps it, then loads it and runs its golden vectors; only a version that passes can be
    signed. Ask for the version until its status is neither `uploaded`, `checking` nor `checked`.
    """
    leave.model(model)
    manifest_bytes = manifest.file.read(MANIFEST_BYTES_MAX + 1)
    named = {file.filename or "": file.file for file in files}
    if len(named) != len(files) or len(files) > FILES_PER_BUNDLE_MAX:
        raise Invalid(f"send at most {FILES_PER_BUNDLE_MAX} files, each under a name of its own")
    row = hub.releases.push(manifest_bytes, named, leave.actor.label, model=model)
    if row.status == "uploaded":
        hub.releases.submit(row.model, row.version)
    return VersionView.of(row)


@router.get("/models", response_model=Page[ModelView], responses=answers(401))
def models(
    hub: HubDep,
    leave: Annotated[Leave, asks("model.list")],
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """Models by name with their versions."""
    with hub.store.read() as session:
        rows = session.exec(
            select(Model)
            .where(Model.name > (cursor or ""), Model.name != agent_release.NAME)
            .order_by(Model.name)
        ).all()
        scope = leave.scope
        found = [row for row in rows if scope.has_model(row.name)][: limit + 1]
        versions = reading.versions(session, [row.name for row in found])
    items = [
        {"name": row.name, "created": row.created, "versions": versions.get(row.name, [])}
        for row in found
    ]
    return sent(page(items, limit, lambda item: item["name"]))


@router.get("/models/{model}", responses=answers(401, 403, 404))
def model(hub: HubDep, leave: Annotated[Leave, asks("model.read")], model: str) -> ModelView:
    """One model with its versions."""
    leave.model(model)
    with hub.store.read() as session:
        found = session.get(Model, model)
        rows = session.exec(
            select(Version).where(Version.model == model).order_by(col(Version.created).desc())
        ).all()
    if found is None or model == agent_release.NAME:
        raise NotFound(f"there is no model {model!r}")
    return _view(found, list(rows))


@router.get("/models/{model}/versions/{version}", responses=answers(401, 403, 404))
def version(
    hub: HubDep, leave: Annotated[Leave, asks("model.read")], model: str, version: str
) -> VersionDetail:
    """One version: its status, its check, its manifest."""
    leave.model(model)
    with hub.store.read() as session:
        return VersionDetail.of(find(session, model, version))


@router.post(
    "/models/{model}/versions/{version}/check",
    status_code=202,
    responses=answers(401, 403, 404, 409),
)
def recheck(
    hub: HubDep, leave: Annotated[Leave, asks("version.recheck")], model: str, version: str
) -> VersionView:
    """Check a rejected version once more, after the hub was given what the check lacked."""
    leave.model(model)
    return VersionView.of(hub.releases.recheck(model, version, leave.actor.label))


@router.post("/models/{model}/versions/{version}/approve", responses=answers(401, 403, 404, 409))
def approve(
    hub: HubDep, leave: Annotated[Leave, asks("version.approve")], model: str, version: str
) -> VersionView:
    """Agree to what somebody else pushed: where two people are asked for, it waits for this."""
    leave.model(model)
    return VersionView.of(hub.releases.approve(model, version, leave.actor.label))


@router.get("/signing-request", tags=["signing"], responses=answers(401, 403))
def signing_request(
    hub: HubDep, leave: Annotated[Leave, asks("signing.request")]
) -> SigningRequest:
    """What waits for the keys kept off the hub: sign it with `muster-hub sign`."""
    leave.on_list()
    with hub.store.read() as session:
        manifests = reading.waiting_manifests(session)
    about = requests.about(hub.catalogue, hub.keyring.names(), manifests, leave.sees_role)
    return SigningRequest(roles=_waiting(hub, leave).roles, about=msgspec.to_builtins(about))


@router.post("/signatures", tags=["signing"], responses=answers(401, 403, 409, 413))
def signatures(
    hub: HubDep, leave: Annotated[Leave, asks("signing.sign")], ask: SignatureAsk
) -> SigningRequest:
    """Bring back one signed role; answers with what still waits."""
    now, metadata = hub.clock(), ask.metadata.encode()
    _check_role(leave, hub.catalogue.role_of(metadata))
    with hub.store.write() as session:
        log.append(
            session,
            actor=leave.actor.label,
            action="catalogue.sign",
            subject=sha256_hex(metadata),
            now=now,
        )
        hub.catalogue.add_signatures(metadata, now)
    hub.releases.settle()
    return _waiting(hub, leave)


def _waiting(hub: Hub, leave: Leave) -> SigningRequest:
    """What waits for signatures, as far as it is of models within the scope."""
    pending = hub.catalogue.pending()
    return SigningRequest(
        roles={role: data.decode() for role, data in pending.items() if leave.sees_role(role)}
    )


def _check_role(leave: Leave, role: str) -> None:
    """Raise Refused for a role of another model, or of all, beyond the scope."""
    model = role.removeprefix(METADATA_OF_MODEL)
    if model == role:
        leave.on_hub()
    else:
        leave.model(model)


def _view(row: Model, versions: list[Version]) -> ModelView:
    return ModelView(
        name=row.name,
        created=row.created,
        versions=[VersionView.of(version) for version in versions],
    )
