"""The door of the console: what holds for every page, whatever it shows.

Who comes with a session's cookie passes as if with its bearer token, so that all that goes for
tokens goes for sessions: roles, scopes, pace, the audit log. The API is left alone: it takes no
cookie, so no page of another site can use it in somebody's name.
"""

import logging
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from muster_hub.api.hub import Hub
from muster_hub.api.problems import problem
from muster_hub.console import session
from muster_hub.console.rendering import page_root, render_error

_log = logging.getLogger(__name__)
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
PROBLEM = "application/problem+json"
PROBLEM_BYTES_MAX = 64 * 1024
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
STATIC = "/static/"
TABLES = "/csv/"
LISTS = frozenset(
    {
        "agent-releases",
        "alerts",
        "assignments",
        "audit",
        "devices",
        "drift",
        "events",
        "feed-settings",
        "loops",
        "models",
        "releases",
        "rollouts",
        "sampling",
        "silences",
        "sources",
        "tokens",
        "users",
        "webhooks",
    }
)
"""Lists of the API that the console offers as tables."""
SIGN_IN = "sign-in"


class Door:
    """Middleware around hub and pages; paths under ``api`` pass as they are."""

    def __init__(self, app: ASGIApp, hub: Hub, api: str) -> None:
        self._app = app
        self._hub = hub
        self._api = f"{api}/"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on with its session's token; a forged one is refused."""
        if scope["type"] != "http" or scope["path"].startswith(self._api):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if scope["method"] not in SAFE and not _own_site(headers):
            answer = render_error(
                scope, 403, "Not allowed", "this was sent from a page that is not this hub's"
            )
            answer.headers.update(HEADERS)
            await answer(scope, receive, send)
            return
        if not scope["path"].startswith(STATIC):
            scope = self._with_token(scope, headers)
        if scope["path"].startswith(TABLES):
            scope = self._table(scope)
        shown = _Shown(scope, receive, send, headers)
        try:
            await self._app(scope, receive, shown.send)
        except Exception:
            if shown.begun:
                raise
            _log.exception("a page failed: %s", scope["path"])
            detail = "the hub failed; its log says why"
            await problem(500, "failed", detail)(scope, receive, shown.send)

    def _table(self, scope: Scope) -> Scope:
        """A list of the API as a table, for who is signed in here: read, never written."""
        path = self._api + scope["path"].removeprefix(TABLES)
        if scope["method"] not in SAFE or path.removeprefix(self._api) not in LISTS:
            return scope
        asked = [(name, value) for name, value in scope["headers"] if name != b"accept"]
        accept = (b"accept", b"text/csv, text/html")
        return {**scope, "path": path, "raw_path": path.encode(), "headers": [*asked, accept]}

    def _with_token(self, scope: Scope, headers: Headers) -> Scope:
        cookie = session.of_cookies(headers.get("cookie", ""))
        if not cookie or "authorization" in headers:
            return scope
        found = session.opened(self._hub.sealing, cookie, self._hub.clock())
        if found is None:
            return scope
        bearer = f"Bearer {found.bearer}".encode("latin-1", "replace")
        return {**scope, "headers": [*scope["headers"], (b"authorization", bearer)]}


def _own_site(headers: Headers) -> bool:
    """Whether a browser says that a page of this hub sent the request.

    ``Sec-Fetch-Site`` is the browser's own word and holds behind proxies, too. Older browsers, and
    those that came by plain HTTP, only say the origin, which must be the host that was asked.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = urlsplit(headers.get("origin", ""))
    return bool(origin.netloc) and origin.netloc == headers.get("host")


class _Shown:
    """Sends an answer with the console's headers; a problem as a page, for who reads pages."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, headers: Headers) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._reads_pages = "text/html" in headers.get("accept", "")
        self._problem: list[bytes] | None = None
        self._status = 0
        self.begun = False

    async def send(self, message: Message) -> None:
        """Starlette's ``send``."""
        self.begun = True
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            if self._reads_pages and headers.get("content-type") == PROBLEM:
                self._problem, self._status = [], message["status"]
                return
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("Cache-Control", "no-store")
        elif self._problem is not None:
            self._problem.append(message.get("body", b""))
            if not message.get("more_body", False):
                await self._as_page(b"".join(self._problem))
            return
        await self._send(message)

    async def _as_page(self, body: bytes) -> None:
        answer = _page_of_problem(self._scope, self._status, body[:PROBLEM_BYTES_MAX])
        answer.headers.update({**HEADERS, "Cache-Control": "no-store"})
        await answer(self._scope, self._receive, self._send)


def _page_of_problem(scope: Scope, status: int, body: bytes) -> Response:
    if status == 401 and scope["method"] == "GET":
        here = scope["path"].removeprefix("/")
        if query := scope["query_string"].decode("latin-1"):
            here += f"?{query}"
        return RedirectResponse(f"{page_root(scope)}{SIGN_IN}?to={quote(here, safe='')}", 303)
    try:
        said: dict[str, Any] = msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.MsgspecError:
        said = {}
    faults = [f"{item.get('field')}: {item.get('message')}" for item in said.get("errors") or ()]
    title, detail = str(said.get("title", "It failed")), str(said.get("detail", ""))
    return render_error(scope, status, title, detail, faults)
