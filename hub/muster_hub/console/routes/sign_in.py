"""Signing in with an API token, and out."""

from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from muster_hub.api.auth import HubDep, IssuerDep, identify, open_to
from muster_hub.api.once import OnceRoute
from muster_hub.console import session
from muster_hub.console.rendering import redirect, render
from muster_hub.console.session import SESSION_SECONDS, Session
from muster_hub.errors import HubError

router = APIRouter(route_class=OnceRoute)
WAY_CHARS_MAX = 2000
TOKEN_CHARS_MAX = 2500
Way = Annotated[str, Query(max_length=WAY_CHARS_MAX)]


@router.get("/sign-in", dependencies=[open_to("anybody")])
def form(request: Request, issuer: IssuerDep, to: Way = "") -> Response:
    """Where somebody signs in; ``to`` is the page they came for, from the console's root."""
    if request.headers.get("sec-fetch-site") == "cross-site" and to:
        # A link in another site's page or an e-mail: the browser held the session's cookie back.
        # From our own page it sends it.
        return render(request, "returning.html", to=to)
    return render(request, "sign_in.html", to=to, fault="", issuer=issuer is not None)


@router.post("/sign-in", dependencies=[open_to("anybody")])
async def sign_in(
    request: Request,
    hub: HubDep,
    issuer: IssuerDep,
    token: Annotated[str, Form(max_length=TOKEN_CHARS_MAX)],
    to: Annotated[str, Form(max_length=WAY_CHARS_MAX)] = "",
) -> Response:
    """Begin a session with a token that lets somebody in."""
    bearer, offered = token.strip(), issuer is not None
    try:
        await run_in_threadpool(identify, hub, issuer, bearer)
    except HTTPException as error:
        fault, status = str(error.detail), 401
    except HubError as error:
        fault, status = str(error), error.status
    else:
        text = session.sealed(hub.sealing, Session(bearer, hub.clock() + SESSION_SECONDS))
        response = redirect(request, to)
        session.begin(response, text, secure=by_tls(request))
        return response
    return render(request, "sign_in.html", status=status, to=to, fault=fault, issuer=offered)


@router.post("/sign-out", dependencies=[open_to("anybody")])
def sign_out(request: Request) -> Response:
    """End the session in this browser."""
    response = redirect(request, "sign-in")
    session.end(response)
    return response


def by_tls(request: Request) -> bool:
    """Whether the browser came by TLS, also when a proxy in front of the hub ended it."""
    return request.url.scheme == "https" or request.headers.get("origin", "").startswith("https:")
