"""Signing in with a link that is good once: looked at first, used up by a button.

Programs that look at links in messages before people do only ever look.
"""

from typing import Annotated

from fastapi import APIRouter, Form, Query, Request, Response

from muster_hub.access import links
from muster_hub.access.links import CODE_CHARS_MAX
from muster_hub.api.auth import HubDep, open_to
from muster_hub.api.once import OnceRoute
from muster_hub.audit import log
from muster_hub.console import session
from muster_hub.console.rendering import redirect, render
from muster_hub.console.routes.sign_in import by_tls
from muster_hub.console.session import SESSION_SECONDS, Session

router = APIRouter(route_class=OnceRoute)


@router.get("/sign-in-link", dependencies=[open_to("who has a link")])
def look(
    request: Request, hub: HubDep, code: Annotated[str, Query(max_length=CODE_CHARS_MAX)]
) -> Response:
    """Whom a link signs in; the link stays good."""
    with hub.store.read() as database:
        found = links.find_link(database, code, hub.clock())
    return render(request, "sign_in_link.html", code=code, name=found.name, role=found.role)


@router.post("/sign-in-link", dependencies=[open_to("who has a link")])
def use(
    request: Request, hub: HubDep, code: Annotated[str, Form(max_length=CODE_CHARS_MAX)]
) -> Response:
    """Begin a session, and use the link up."""
    now = hub.clock()
    with hub.store.write() as database:
        bearer, name = links.redeem(database, code, now, SESSION_SECONDS)
        log.append(
            database, actor=f"token:{name}", action="sign-in-link.use", subject=name, now=now
        )
    response = redirect(request, "")
    text = session.sealed(hub.sealing, Session(bearer, now + SESSION_SECONDS))
    session.begin(response, text, secure=by_tls(request))
    return response
