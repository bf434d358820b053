"""What pages are made of besides their text: one stylesheet, one script, one icon."""

import hashlib
from functools import cache
from importlib.resources import files

from fastapi import APIRouter, Request, Response

from muster_hub.api.auth import open_to
from muster_hub.api.once import OnceRoute
from muster_hub.console.rendering import compressed
from muster_hub.errors import NotFound

router = APIRouter(route_class=OnceRoute)

KINDS = {
    "console.css": "text/css; charset=utf-8",
    "console.js": "text/javascript; charset=utf-8",
    "favicon.svg": "image/svg+xml",
}
CACHE = "public, max-age=300"
"""Short, and then asked for by tag: an upgraded hub's pages meet its own stylesheet soon."""


@cache
def _asset(name: str) -> tuple[bytes, str]:
    body = (files("muster_hub.console") / "static" / name).read_bytes()
    return body, f'"{hashlib.sha256(body).hexdigest()[:16]}"'


@router.get("/static/{name}", dependencies=[open_to("anybody")])
def asset(request: Request, name: str) -> Response:
    """A file of the console."""
    if name not in KINDS:
        raise NotFound(f"there is no file {name!r}")
    body, tag = _asset(name)
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers={"ETag": tag, "Cache-Control": CACHE})
    response = compressed(request.headers, body, KINDS[name])
    response.headers.update({"ETag": tag, "Cache-Control": CACHE, "Vary": "Accept-Encoding"})
    return response
