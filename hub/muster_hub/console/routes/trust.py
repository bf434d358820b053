"""Trust: what is signed until when, who has to sign what waits; requests out, signatures in."""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Request, Response, UploadFile
from pydantic import ValidationError

from muster_hub.access.leave import Leave
from muster_hub.api.auth import HubDep, asks
from muster_hub.api.once import OnceRoute
from muster_hub.api.routes import models as models_api
from muster_hub.api.routes import signing as api
from muster_hub.api.schemas.models import SignatureAsk
from muster_hub.console.rendering import may_do, redirect, render
from muster_hub.errors import Invalid, NotFound
from muster_protocol.wire.limits import TUF_METADATA_BYTES_MAX

router = APIRouter(route_class=OnceRoute)
DAYS = 90.0
ENDINGS = 60
FILES_MAX = 16


@router.get("/trust")
def trust(request: Request, hub: HubDep, leave: Annotated[Leave, asks("signing.read")]) -> Response:
    """Roles, keys, what waits for whom, and what ends within three months."""
    signing = api.signatures(hub, leave)
    ending = api.expiries(hub, leave, DAYS, ENDINGS)
    return render(
        request,
        "trust.html",
        signing=signing.model_dump(),
        ending=ending.model_dump(),
        days=DAYS,
        may_ask=may_do(leave.actor, "signing.request"),
        may_sign=may_do(leave.actor, "signing.sign"),
    )


@router.get("/trust/requests/{role}")
def signing_request(
    hub: HubDep, leave: Annotated[Leave, asks("signing.request")], role: str
) -> Response:
    """One role that waits, as the file that `muster-hub sign` takes."""
    waiting = models_api.signing_request(hub, leave).roles
    if role not in waiting:
        raise NotFound(f"{role!r} waits for no signature")
    name = f'attachment; filename="{role}.json"'
    headers = {"Content-Disposition": name}
    return Response(waiting[role], media_type="application/json", headers=headers)


@router.post("/trust/signatures")
def signatures(
    request: Request,
    hub: HubDep,
    leave: Annotated[Leave, asks("signing.sign")],
    files: list[UploadFile],
) -> Response:
    """Bring signed files back."""
    if len(files) > FILES_MAX:
        raise Invalid(f"{len(files)} files, the limit is {FILES_MAX}")
    for file in files:
        models_api.signatures(hub, leave, _read(file))
    return redirect(request, "trust")


def _read(file: UploadFile) -> SignatureAsk:
    content = file.file.read(TUF_METADATA_BYTES_MAX + 1)
    try:
        msgspec.json.decode(content, type=dict[str, msgspec.Raw])
        return SignatureAsk(metadata=content.decode())
    except (msgspec.MsgspecError, UnicodeDecodeError, ValidationError):
        raise Invalid(f"{file.filename!r} is not a file of a signing request") from None
