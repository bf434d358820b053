"""Who has signed in at the issuer, as the hub remembers it: sealed, for the console's own cookies.

An issuer's token lasts for minutes. What the hub makes of it lasts as long as a session, and what
it lets somebody do is looked up anew at each request: who loses their role loses it at once.
"""

import base64
import binascii
from typing import Annotated

import msgspec
from msgspec import Meta

from muster_hub.access.oidc import Login
from muster_hub.errors import ConfigError
from muster_hub.storage.sealing import Sealing

PREFIX = "msp_"
CHARS_MAX = 2_500
_PURPOSE = "signed in at the issuer"


class _SignedIn(msgspec.Struct, frozen=True):
    name: Annotated[str, Meta(min_length=1, max_length=255)]
    groups: tuple[str, ...]
    expires: float


def bearer_of(sealing: Sealing, login: Login, expires: float) -> str:
    """A bearer token that says who has signed in; it goes into a sealed cookie, never to people."""
    said = msgspec.json.encode(_SignedIn(login.name, login.groups, expires))
    return PREFIX + base64.urlsafe_b64encode(sealing.seal(_PURPOSE, said)).decode()


def login_of(sealing: Sealing, bearer: str, now: float) -> Login | None:
    """Whom ``bearer_of`` made it for; None for what it didn't make, and for what has ended."""
    try:
        plain = opened(sealing, _PURPOSE, bearer.removeprefix(PREFIX))
        said = msgspec.json.decode(plain, type=_SignedIn)
    except msgspec.MsgspecError:
        return None
    return Login(said.name, said.groups) if now < said.expires else None


def opened(sealing: Sealing, purpose: str, text: str) -> bytes:
    """What was sealed for a purpose and written as base64; empty for anything else."""
    try:
        return sealing.open(purpose, base64.urlsafe_b64decode(text[:CHARS_MAX]))
    except (ConfigError, binascii.Error, ValueError):
        return b""
