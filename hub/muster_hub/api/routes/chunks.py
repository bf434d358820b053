"""Chunks and files over HTTP, for devices whose broker can't serve them."""

import re
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, HTTPException, Response
from fastapi.responses import StreamingResponse

from muster_hub.access import capability
from muster_hub.api.auth import CHALLENGE, Credentials, HubDep, open_to
from muster_hub.api.hub import Hub
from muster_hub.api.once import OnceRoute
from muster_hub.api.problems import answers
from muster_hub.errors import NotFound
from muster_hub.registry.bundle import Pieces
from muster_hub.storage.models import Device, DirectiveRow
from muster_protocol.wire import agent_release, directive
from muster_protocol.wire.directive import DirectiveRefused
from muster_protocol.wire.limits import CHUNK_BYTES, KIB, MIB

router = APIRouter(route_class=OnceRoute)
CHUNK_AGE_SECONDS = 86_400
RECORD_BYTES = 4 * KIB
"""Of an answer of one chunk, in each record of TLS: a device asks for one at a time where its link
is slow, and of a record whose end doesn't come it has nothing: 16 KiB, if it is left to TLS."""
WHOLE_BYTES_MAX = 4 * MIB
"""An answer up to this is put together before it begins, so that a fault in it is a problem."""
_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")
_OCTETS: dict[str, Any] = {"content": {"application/octet-stream": {}}}
_CACHED = {"Cache-Control": f"private, max-age={CHUNK_AGE_SECONDS}, immutable"}


@router.get(
    "/chunks/{sha256}",
    tags=["chunks"],
    response_class=Response,
    dependencies=[open_to("a device with its chunk token")],
    responses={200: _OCTETS, **answers(401, 403, 404, 422)},
)
def chunk(hub: HubDep, credentials: Credentials, sha256: str) -> Response:
    """A chunk or manifest by its SHA-256, for the bearer of a directive's source token."""
    _device(hub, credentials)
    return Response(hub.blobs.read(sha256), media_type="application/octet-stream", headers=_CACHED)


@router.get(
    "/chunks/files/{sha256}",
    tags=["chunks"],
    response_class=Response,
    dependencies=[open_to("a device with its chunk token")],
    responses={
        200: _OCTETS,
        206: {"description": "The bytes asked for", **_OCTETS},
        **answers(401, 403, 404, 416, 422),
    },
)
def file(
    hub: HubDep,
    credentials: Credentials,
    sha256: str,
    asked: Annotated[str, Header(alias="Range", examples=["bytes=0-1048575"])] = "",
) -> Response:
    """A file of a bundle that the device's directive names, by its SHA-256; one range of it."""
    device = _device(hub, credentials)
    pieces = _pieces(hub, device, sha256)
    size = pieces.entry.size_bytes
    found = _RANGE.fullmatch(asked)
    if found is None or found.groups() == ("", ""):
        return _answer(pieces, 0, size, 200, {})
    first, end = _bounds(found[1], found[2], size)
    if first >= end:
        raise HTTPException(
            416, f"{asked[:64]}: the file has {size} bytes", {"Content-Range": f"bytes */{size}"}
        )
    return _answer(pieces, first, end, 206, {"Content-Range": f"bytes {first}-{end - 1}/{size}"})


def _device(hub: Hub, credentials: Credentials) -> str:
    """The device that holds the token; raises 401 and 403."""
    token = credentials.credentials if credentials else ""
    device = capability.check(hub.capability_key, token, hub.clock())
    if device is None:
        raise HTTPException(
            401,
            "send the token of the directive's source; this one is missing, wrong or expired",
            CHALLENGE,
        )
    with hub.store.read() as session:
        row = session.get(Device, device)
    if row is None or row.revoked or not row.approved:
        raise HTTPException(403, f"the device {device} may not fetch chunks")
    return device


def _pieces(hub: Hub, device: str, sha256: str) -> Pieces:
    """Raises NotFound unless the device's directive names a bundle with this file."""
    with hub.store.read() as session:
        row = session.get(DirectiveRow, device)
    try:
        goals = directive.decode(row.payload).goals if row is not None else ()
    except DirectiveRefused:
        goals = ()
    for goal in goals:
        for listed in agent_release.files_of(hub.blobs.read(goal.manifest)):
            if listed.sha256 == sha256:
                return Pieces(listed, hub.blobs.read)
    raise NotFound(f"the directive of {device} names no bundle with a file {sha256[:64]}")


def _bounds(first: str, last: str, size: int) -> tuple[int, int]:
    """From the first byte up to, not including, the second."""
    if not first:
        return max(size - int(last), 0), size
    return int(first), min(int(last) + 1, size) if last else size


def _answer(pieces: Pieces, first: int, end: int, status: int, headers: dict[str, str]) -> Response:
    headers = _CACHED | {"Accept-Ranges": "bytes"} | headers
    content = pieces.read(first, end)
    if CHUNK_BYTES < end - first <= WHOLE_BYTES_MAX:
        return Response(b"".join(content), status, headers, "application/octet-stream")
    headers["Content-Length"] = str(end - first)
    if end - first <= CHUNK_BYTES:
        return StreamingResponse(
            _records(b"".join(content)), status, headers, "application/octet-stream"
        )
    return StreamingResponse(content, status, headers, "application/octet-stream")


async def _records(content: bytes) -> AsyncIterator[bytes]:
    for first in range(0, len(content), RECORD_BYTES):
        yield content[first : first + RECORD_BYTES]
