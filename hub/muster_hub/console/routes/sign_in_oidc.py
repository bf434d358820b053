"""Signing in where one's identity is kept: OpenID Connect, by authorization code with PKCE.

What must hold until the browser is back, its state, nonce and verifier, is sealed in a cookie: any
of several hubs may answer, and nobody's browser is led into a session that another one began.
"""

import base64
import hashlib
import hmac
import secrets
from typing import Annotated

import msgspec
from fastapi import APIRouter, HTTPException, Query, Request, Response
from msgspec import Meta

from muster_hub.access import sessions
from muster_hub.access.oidc import Issuer, Login, TokenRefused
from muster_hub.api.auth import HubDep, IssuerDep, open_to, person
from muster_hub.api.hub import Hub
from muster_hub.api.once import OnceRoute
from muster_hub.audit import log
from muster_hub.console import session
from muster_hub.console.rendering import render
from muster_hub.console.routes.sign_in import WAY_CHARS_MAX, Way, by_tls
from muster_hub.console.session import SESSION_SECONDS, Session
from muster_hub.errors import NotFound

router = APIRouter(route_class=OnceRoute)
COOKIE = "muster_login"
LOGIN_SECONDS = 600
"""In which somebody has to come back."""
CALLBACK = "sign-in-callback"
CODE_CHARS_MAX = 4_096
_PURPOSE = "console login"
Said = Annotated[str, Query(max_length=CODE_CHARS_MAX)]


class _Begun(msgspec.Struct, frozen=True):
    """A login that is under way in one browser."""

    state: str
    nonce: str
    verifier: str
    to: Annotated[str, Meta(max_length=WAY_CHARS_MAX)]
    expires: float


@router.get("/sign-in-oidc", dependencies=[open_to("anybody")])
def begin(request: Request, hub: HubDep, issuer: IssuerDep, to: Way = "") -> Response:
    """Send somebody to the issuer, who sends them back to the page they came for."""
    known = _known(issuer)
    state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
    begun = _Begun(state, nonce, verifier, to, hub.clock() + LOGIN_SECONDS)
    digest = hashlib.sha256(begun.verifier.encode()).digest()
    where = known.authorization(
        redirect=_redirect(hub),
        state=begun.state,
        nonce=begun.nonce,
        challenge=base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
    )
    response = Response(status_code=303, headers={"Location": where})
    sealed = hub.sealing.seal(_PURPOSE, msgspec.json.encode(begun))
    # Lax: the issuer's page, which is another site's, sends the browser back.
    response.set_cookie(
        COOKIE, base64.urlsafe_b64encode(sealed).decode(), max_age=LOGIN_SECONDS, path=None,
        secure=by_tls(request) or hub.config.url.startswith("https:"), httponly=True,
        samesite="lax",
    )  # fmt: skip
    return response


@router.get(f"/{CALLBACK}", dependencies=[open_to("anybody")])
def back(
    request: Request,
    hub: HubDep,
    issuer: IssuerDep,
    state: Said = "",
    code: Said = "",
    error: Said = "",
    iss: Said = "",
) -> Response:
    """Begin a session for whom the issuer vouches for; the browser must be the one that left."""
    known = _known(issuer)
    begun = _of_cookie(request, hub)
    if begun is None or not hmac.compare_digest(begun.state.encode(), state.encode()):
        return _refused(request, "this sign-in was not begun in this browser, or too long ago")
    if iss and iss != hub.config.oidc.issuer:
        return _refused(request, "another issuer than the hub's answered")
    if error or not code:
        return _refused(request, f"the issuer lets nobody in: {error[:200] or 'no code'}")
    try:
        login = known.redeem(code, begun.verifier, _redirect(hub), begun.nonce)
        actor = person(hub, login)
    except (TokenRefused, HTTPException) as fault:
        return _refused(request, str(getattr(fault, "detail", fault)), begun.to)
    now = hub.clock()
    groups = tuple(group for group in login.groups if group in hub.config.oidc.groups)
    bearer = sessions.bearer_of(hub.sealing, Login(login.name, groups), now + SESSION_SECONDS)
    with hub.store.write() as database:
        log.append(database, actor=actor.label, action="sign-in.oidc", subject=login.name, now=now)
    # A page of ours, and no redirect: on the way from another site the browser would hold back the
    # session's cookie, from our own page it sends it.
    response = render(request, "returning.html", to=begun.to)
    text = session.sealed(hub.sealing, Session(bearer, now + SESSION_SECONDS))
    session.begin(response, text, secure=by_tls(request) or hub.config.url.startswith("https:"))
    _forget(response)
    return response


def _known(issuer: Issuer | None) -> Issuer:
    if issuer is None:
        raise NotFound("nobody signs in by OpenID Connect here: [oidc] names no issuer")
    return issuer


def _redirect(hub: Hub) -> str:
    """Where the issuer sends people back; it has to know this address."""
    return f"{hub.config.url}/{CALLBACK}"


def _of_cookie(request: Request, hub: Hub) -> _Begun | None:
    cookie = session.of_cookies(request.headers.get("cookie", ""), COOKIE)
    plain = sessions.opened(hub.sealing, _PURPOSE, cookie)
    try:
        begun = msgspec.json.decode(plain, type=_Begun)
    except msgspec.MsgspecError:
        return None
    return begun if hub.clock() < begun.expires else None


def _refused(request: Request, fault: str, to: str = "") -> Response:
    response = render(request, "sign_in.html", status=401, to=to, fault=fault, issuer=True)
    _forget(response)
    return response


def _forget(response: Response) -> None:
    """What a login held is good for one return."""
    response.delete_cookie(COOKIE, path=None, httponly=True, samesite="lax")  # type: ignore[arg-type]  # Starlette writes no path for None
