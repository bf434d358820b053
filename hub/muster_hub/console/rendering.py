"""Pages made of templates. Here, in one place, all that a page shows is escaped, and rid of the
characters that steer a reader or deceive one."""

import gzip
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastapi import Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.datastructures import Headers
from starlette.types import Scope

from muster_hub.access.acts import ACTS, Actor, may
from muster_hub.console import charts, words
from muster_protocol.wire import bounds

if TYPE_CHECKING:
    from muster_hub.api.hub import Hub

GZIP_LEVEL = 5
GZIP_BYTES_MIN = 1000
NAVIGATION = (
    ("", "Fleet", "device.list"),
    ("rollouts", "Rollouts", "rollout.list"),
    ("drift", "Drift", "drift.list"),
    ("loops", "Loops", "loop.list"),
    ("inbox", "Inbox", "alert.list"),
    ("models", "Models", "model.list"),
    ("delivery", "Delivery", "delivery.read"),
    ("audit", "Audit", "audit.read"),
    ("trust", "Trust", "signing.read"),
    ("docs", "API", "whoami.read"),
)  # fmt: skip
"""Address, name and the act by which somebody sees it."""


class _Environment(Environment):
    """Of data a template may ask for any key, and none is as good as an empty one: what databases
    keep as JSON has fields that came later, and leaves out what is as always. A name that a page
    wasn't given is an error all the same."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Jinja's way to a part of a value, in ``value.part``."""
        if not isinstance(obj, Mapping):
            return super().getattr(obj, attribute)
        if attribute in obj:
            return obj[attribute]
        return getattr(obj, attribute, None)


def _or_nothing(value: Any) -> Any:
    return "" if value is None else value


def _environment() -> Environment:
    made = _Environment(
        loader=PackageLoader("muster_hub.console"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_or_nothing,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(words.FILTERS)
    made.globals.update(charts.CHARTS)
    return made


_templates = _environment()


def page_root(scope: Scope) -> str:
    """The way from a page to the console's root, such as ``../``: every link is relative, so that
    they hold under any prefix that a proxy puts in front."""
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    return "../" * (path.split(b"?")[0].count(b"/") - 1) or "./"


def render(request: Request, template: str, *, status: int = 200, **context: Any) -> Response:
    """A page for whoever asks; they see only what leads to what their role may do."""
    actor: Actor | None = getattr(request.state, "actor", None)
    navigation = [(path, name) for path, name, act in NAVIGATION if actor and may_do(actor, act)]
    hub: Hub = request.app.state.hub
    more = {"actor": actor, "navigation": navigation, "now": hub.clock()}
    return _respond(request.scope, template, status, more | context)


def render_error(
    scope: Scope, status: int, title: str, detail: str, faults: Sequence[str] = ()
) -> Response:
    """A page that says what went wrong."""
    context = {"actor": None, "navigation": [], "title": title, "detail": detail, "faults": faults}
    return _respond(scope, "error.html", status, context | {"status": status})


def redirect(request: Request, where: str) -> Response:
    """On to another page, named from the console's root, after something was done."""
    return Response(status_code=303, headers={"Location": page_root(request.scope) + where})


def may_do(actor: Actor, act: str) -> bool:
    """Whether somebody's role lets them do an act at all: what isn't so isn't offered."""
    assert act in ACTS
    return not may(actor, act).refusal


def _respond(scope: Scope, template: str, status: int, context: Mapping[str, Any]) -> Response:
    body = _templates.get_template(template).render(
        root=page_root(scope), path=scope["path"], may_do=may_do, **context
    )
    shown = bounds.clean(body).encode(errors="replace")
    return compressed(Headers(scope=scope), shown, "text/html; charset=utf-8", status)


def compressed(headers: Headers, body: bytes, kind: str, status: int = 200) -> Response:
    """An answer, shorter on the wire for who can read that."""
    answer_headers = {"Vary": "Accept-Encoding, Cookie"}
    if len(body) >= GZIP_BYTES_MIN and "gzip" in headers.get("accept-encoding", ""):
        body = gzip.compress(body, GZIP_LEVEL, mtime=0)
        answer_headers["Content-Encoding"] = "gzip"
    return HTMLResponse(body, status, answer_headers, media_type=kind)
