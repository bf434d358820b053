"""A browser's session: a bearer token, sealed in a cookie with the hub's key.

The database holds nothing of it, so that any of several hubs can answer. What ends a token ends its
sessions; without that a session ends after ``SESSION_SECONDS``, or when its cookie is taken back.
"""

import base64
import binascii
from http.cookies import CookieError, SimpleCookie
from typing import Annotated

import msgspec
from fastapi import Response
from msgspec import Meta

from muster_hub.errors import ConfigError
from muster_hub.storage.sealing import Sealing

COOKIE = "muster_session"
SESSION_SECONDS = 12 * 3600
COOKIE_CHARS_MAX = 4000
"""What every browser keeps; a longer one would be dropped without a word."""
_PURPOSE = "console session"


class Session(msgspec.Struct, frozen=True):
    """Who is signed in, by what they signed in with, and until when (seconds since 1970)."""

    bearer: Annotated[str, Meta(max_length=COOKIE_CHARS_MAX)]
    expires: float


def sealed(sealing: Sealing, session: Session, purpose: str = _PURPOSE) -> str:
    """The text of a cookie or link that only this hub's key opens, for this purpose alone."""
    return base64.urlsafe_b64encode(sealing.seal(purpose, msgspec.json.encode(session))).decode()


def opened(sealing: Sealing, text: str, now: float, purpose: str = _PURPOSE) -> Session | None:
    """What ``sealed`` made; None for what it didn't make, and for what has ended."""
    try:
        plain = sealing.open(purpose, base64.urlsafe_b64decode(text[:COOKIE_CHARS_MAX]))
        session = msgspec.json.decode(plain, type=Session)
    except (ConfigError, msgspec.MsgspecError, binascii.Error, ValueError):
        return None
    return session if now < session.expires else None


def of_cookies(header: str, name: str = COOKIE) -> str:
    """The value of one of a request's cookies; empty when it isn't there."""
    try:
        found = SimpleCookie(header).get(name)
    except CookieError:
        return ""
    return "" if found is None else found.value


def begin(response: Response, text: str, *, secure: bool) -> None:
    """Have the browser keep a session.

    No path is named: the browser takes the folder of the page that sets it. So a hub behind a proxy
    keeps its session under its own prefix, without knowing it.
    """
    response.set_cookie(
        COOKIE, text, max_age=SESSION_SECONDS, path=None, secure=secure, httponly=True,
        samesite="strict",
    )  # fmt: skip


def end(response: Response) -> None:
    """Have the browser forget its session."""
    response.delete_cookie(COOKIE, path=None, httponly=True, samesite="strict")  # type: ignore[arg-type]  # Starlette writes no path for None
