"""Changing only what one has seen: ``ETag`` on answers, ``If-Match`` on changes.

A tag covers what operators can change of a thing, not what devices report of it meanwhile: a device
that is heard of every minute could otherwise never be changed with care.
"""

from typing import Annotated, Any

import msgspec
from fastapi import Header

from muster_hub.errors import PreconditionFailed
from muster_protocol.wire.chunks import sha256_hex

TAG_CHARS = 32
IfMatch = Annotated[
    str | None,
    Header(
        max_length=1024, examples=['"5f2a…"'], description="Change it only if its `ETag` is this."
    ),
]


def tag(*parts: Any) -> str:
    """The tag of a thing with these changeable parts."""
    return f'"{sha256_hex(msgspec.json.encode(parts, order="deterministic"))[:TAG_CHARS]}"'


def check(if_match: str | None, current: str) -> None:
    """Raise PreconditionFailed when the caller has seen another state. ``*`` is any."""
    if if_match is None or if_match.strip() == "*":
        return
    if current not in [item.strip() for item in if_match.split(",")]:
        raise PreconditionFailed("it was changed since you last saw it: look again, then decide")
