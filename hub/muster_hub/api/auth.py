"""Who asks: API tokens with a role, kept as hashes; and what each role may do."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlmodel import Session

from muster_hub.api.hub import Hub
from muster_hub.db.models import ApiToken, Role
from muster_protocol.chunks import sha256_hex

TOKEN_PREFIX = "mst_"  # noqa: S105 - marks our tokens for scanners, no secret
_bearer = HTTPBearer(auto_error=False, description="An API token, or a device's chunk token.")
_CHALLENGE = {"WWW-Authenticate": "Bearer"}


@dataclass(frozen=True)
class Actor:
    """The holder of an API token, as the audit log names it."""

    name: str
    role: str

    @property
    def label(self) -> str:
        return f"token:{self.name}"


def make_token(
    session: Session, name: str, role: Role, now: float, expires: float | None = None
) -> str:
    """Store a new token's hash and return its text, which is shown once."""
    text = TOKEN_PREFIX + secrets.token_urlsafe(32)
    session.add(
        ApiToken(hash=sha256_hex(text.encode()), name=name, role=role, created=now, expires=expires)
    )
    return text


def the_hub(request: Request) -> Hub:
    hub: Hub = request.app.state.hub
    return hub


HubDep = Annotated[Hub, Depends(the_hub)]
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


def authenticate(hub: HubDep, credentials: Credentials) -> Actor:
    """The actor of a request; raises 401 with what to do."""
    if credentials is None:
        raise HTTPException(401, "send an API token: Authorization: Bearer …", _CHALLENGE)
    digest = sha256_hex(credentials.credentials.encode())
    with hub.store.read() as session:
        row = session.get(ApiToken, digest)
    if row is None:
        raise HTTPException(401, "this API token isn't known here", _CHALLENGE)
    if row.expires is not None and hub.clock() >= row.expires:
        raise HTTPException(401, f"the API token {row.name!r} has expired", _CHALLENGE)
    return Actor(row.name, row.role)


def _needs(*roles: Role) -> Callable[[Actor], Actor]:
    def check(actor: Annotated[Actor, Depends(authenticate)]) -> Actor:
        if actor.role not in roles:
            raise HTTPException(
                403, f"this needs the role {' or '.join(roles)}; {actor.name} is {actor.role}"
            )
        return actor

    return check


Reader = Annotated[Actor, Depends(authenticate)]
"""Any role may read."""
Operator = Annotated[Actor, Depends(_needs("operator", "admin"))]
Releaser = Annotated[Actor, Depends(_needs("releaser", "admin"))]
Admin = Annotated[Actor, Depends(_needs("admin"))]
