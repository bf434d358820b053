"""Who asks, and what for: API tokens kept as hashes, or logins of an identity provider.

Each route declares its act with ``asks``, or whom it is open to with ``open_to``; the application
doesn't start with a route that declares neither.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from muster_hub.access import capability, sessions
from muster_hub.access.acts import ACTS, Actor
from muster_hub.access.governance import (
    TOKEN_PREFIX,
    actor_of_person,
    actor_of_token,
    token_refusal,
)
from muster_hub.access.leave import Leave
from muster_hub.access.oidc import Issuer, Login, TokenRefused
from muster_hub.api.hub import Hub
from muster_hub.errors import HubError
from muster_hub.storage.governance import Person
from muster_hub.storage.models import ApiToken
from muster_protocol.wire.chunks import sha256_hex

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

_bearer = HTTPBearer(auto_error=False, description="An API token, or a device's chunk token.")
CHALLENGE = {"WWW-Authenticate": "Bearer"}


class Turned(HTTPException):
    """Somebody known was turned away: ``label`` is who, as the audit log has it."""

    def __init__(
        self, status: int, detail: str, label: str, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(status, detail, headers)
        self.label = label


def the_hub(request: Request) -> Hub:
    """The hub that this application serves."""
    hub: Hub = request.app.state.hub
    return hub


def the_issuer(request: Request) -> Issuer | None:
    """Where sign-ins come from; None when nobody can sign in."""
    issuer: Issuer | None = request.app.state.issuer
    return issuer


HubDep = Annotated[Hub, Depends(the_hub)]
IssuerDep = Annotated[Issuer | None, Depends(the_issuer)]
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


def identify(hub: Hub, issuer: Issuer | None, bearer: str) -> Actor:
    """The holder of a bearer token; raises 401 or 403 with what to do."""
    if bearer.startswith(sessions.PREFIX):
        return _signed_in(hub, issuer, bearer)
    if issuer is not None and not bearer.startswith(TOKEN_PREFIX) and bearer.count(".") == 2:
        return person(hub, _login(issuer, bearer))
    with hub.store.read() as session:
        row = session.get(ApiToken, sha256_hex(bearer.encode()))
    refusal = token_refusal(row, hub.clock())
    if row is None:
        raise HTTPException(401, refusal, CHALLENGE)
    if refusal is not None:
        raise Turned(401, refusal, f"token:{row.name}", CHALLENGE)
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


def still_holds(request: Request, leave: Leave) -> bool:
    """Whether who asked long ago would still be let in, as the same and within the same scope."""
    _, _, bearer = request.headers.get("authorization", "").partition(" ")
    try:
        actor = identify(the_hub(request), the_issuer(request), bearer)
    except (HTTPException, HubError):
        return False
    return actor == leave.actor


def _login(issuer: Issuer, token: str) -> Login:
    try:
        return issuer.verify(token)
    except TokenRefused as error:
        raise HTTPException(401, str(error), CHALLENGE) from None


def _signed_in(hub: Hub, issuer: Issuer | None, bearer: str) -> Actor:
    """Somebody who signed in to the console at the issuer; none does where there is none."""
    login = sessions.login_of(hub.sealing, bearer, hub.clock()) if issuer is not None else None
    if login is None:
        raise HTTPException(401, "the session has ended: sign in again", CHALLENGE)
    return person(hub, login)


def person(hub: Hub, login: Login) -> Actor:
    """What somebody may do: their own entry counts, else the first group that has a role."""
    with hub.store.read() as session:
        row = session.get(Person, login.name)
    if row is not None:
        return actor_of_person(row)
    for group, role in hub.config.oidc.groups.items():
        if group in login.groups:
            return Actor(login.name, role, kind="person", owner=login.name)
    why = f"{login.name} has no role here: an admin can give one"
    raise Turned(403, why, f"person:{login.name}")


# What a route is for

_declared: dict[Callable[..., Any], str] = {}


def declare(dependency: Callable[..., Any], act: str) -> None:
    """Have a dependency of its own kind stand for an act: it has to ask by itself."""
    if act not in ACTS:
        raise KeyError(f"{act!r} is no act: see muster_hub.access.acts")
    _declared[dependency] = act


def asks(act: str) -> Any:
    """A route's declaration: its ``Leave`` for an act, for who may do that at all."""

    def leave(request: Request, actor: Annotated[Actor, Depends(authenticate)]) -> Leave:
        request.state.actor, request.state.act = actor, act
        made = Leave(actor, act)
        request.state.leave = made
        if ACTS[act].on == {"hub"}:
            made.on_hub()
        return made

    declare(leave, act)
    return Depends(leave)


def open_to(whom: str) -> Any:
    """The declaration of a route that needs no token of a person, and who then may ask it."""

    def anybody() -> None:
        return None

    _declared[anybody] = f"open to {whom}"
    return Depends(anybody)


def declared(route: APIRoute) -> list[str]:
    """What a route declares: acts, or whom it is open to."""
    return [_declared[call] for call in _calls(route.dependant) if call in _declared]


def _calls(dependant: Dependant) -> Iterator[Callable[..., Any]]:
    for inner in dependant.dependencies:
        if inner.call is not None:
            yield inner.call
        yield from _calls(inner)


def routes_of(app: FastAPI) -> Iterator[APIRoute]:
    """Every route of an application, in routers it includes as well; its own document is left out.

    Raises RuntimeError for what is no such route: nobody could say what it is for.
    """
    waiting: list[BaseRoute] = list(app.routes)
    while waiting:
        route = waiting.pop()
        inner = getattr(route, "original_router", None)  # FastAPI ≥ 0.160 keeps routers whole
        if isinstance(route, APIRoute):
            yield route
        elif inner is not None:
            waiting += inner.routes
        elif getattr(route, "path", "") != app.openapi_url:
            raise RuntimeError(f"{route!r} can't declare what it is for")


def check_declared(app: FastAPI, kind: type[APIRoute]) -> None:
    """Raise RuntimeError for a route that doesn't say once what it is for, or isn't of ``kind``."""
    for route in routes_of(app):
        found = declared(route)
        if len(found) != 1:
            raise RuntimeError(f"{route.path} declares {found or 'nothing'}: see asks and open_to")
        if not isinstance(route, kind):
            raise RuntimeError(f"{route.path} is no {kind.__name__}")  # noqa: TRY004 - a fault of ours
