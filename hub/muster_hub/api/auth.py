"""Who asks: API tokens kept as hashes, or logins of an identity provider; what each may do."""

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from muster_hub.access import capability
from muster_hub.access.governance import (
    TOKEN_PREFIX,
    Actor,
    actor_of_person,
    actor_of_token,
    make_token,
    token_refusal,
)
from muster_hub.access.oidc import Issuer, Login, TokenRefused
from muster_hub.api.hub import Hub
from muster_hub.errors import HubError
from muster_hub.settings.roles import Role
from muster_hub.storage.governance import Person
from muster_hub.storage.models import ApiToken
from muster_protocol.wire.chunks import sha256_hex

__all__ = ["Actor", "Admin", "HubDep", "Operator", "Reader", "Releaser", "make_token"]

_bearer = HTTPBearer(auto_error=False, description="An API token, or a device's chunk token.")
CHALLENGE = {"WWW-Authenticate": "Bearer"}


def the_hub(request: Request) -> Hub:
    hub: Hub = request.app.state.hub
    return hub


def the_issuer(request: Request) -> Issuer | None:
    issuer: Issuer | None = request.app.state.issuer
    return issuer


HubDep = Annotated[Hub, Depends(the_hub)]
IssuerDep = Annotated[Issuer | None, Depends(the_issuer)]
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


def identify(hub: Hub, issuer: Issuer | None, bearer: str) -> Actor:
    """The holder of a bearer token; raises 401 or 403 with what to do."""
    if issuer is not None and not bearer.startswith(TOKEN_PREFIX) and bearer.count(".") == 2:
        return _person(hub, _login(issuer, bearer))
    with hub.store.read() as session:
        row = session.get(ApiToken, sha256_hex(bearer.encode()))
    refusal = token_refusal(row, hub.clock())
    if row is None or refusal is not None:
        raise HTTPException(401, refusal, CHALLENGE)
    return actor_of_token(row)


def is_good(hub: Hub, issuer: Issuer | None, authorization: str) -> bool:
    """Whether an ``Authorization`` header would let somebody in: a person, a token or a device."""
    scheme, _, bearer = authorization.partition(" ")
    if scheme.lower() != "bearer" or not bearer:
        return False
    if capability.check(hub.capability_key, bearer, hub.clock()) is not None:
        return True
    try:
        identify(hub, issuer, bearer)
    except (HTTPException, HubError):
        return False
    return True


def authenticate(hub: HubDep, issuer: IssuerDep, credentials: Credentials) -> Actor:
    """The actor of a request; raises 401 with what to do."""
    if credentials is None:
        raise HTTPException(401, "send an API token: Authorization: Bearer …", CHALLENGE)
    return identify(hub, issuer, credentials.credentials)


def _login(issuer: Issuer, token: str) -> Login:
    try:
        return issuer.verify(token)
    except TokenRefused as error:
        raise HTTPException(401, str(error), CHALLENGE) from None


def _person(hub: Hub, login: Login) -> Actor:
    """What somebody may do: their own entry counts, else the first group that has a role."""
    with hub.store.read() as session:
        row = session.get(Person, login.name)
    if row is not None:
        return actor_of_person(row)
    for group, role in hub.config.oidc.groups.items():
        if group in login.groups:
            return Actor(login.name, role, kind="person")
    raise HTTPException(403, f"{login.name} has no role here: an admin can give one")


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
