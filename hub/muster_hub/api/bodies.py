"""A bound on the size of every request body, before anything reads it."""

from collections.abc import Callable

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from muster_hub.api.problems import problem
from muster_hub.storage.disk import Room
from muster_protocol.wire.limits import KIB, TUF_METADATA_BYTES_MAX

JSON_BYTES_MAX = 64 * KIB
LENGTH_DIGITS_MAX = 20
FORM_OVERHEAD_BYTES = 256 * KIB


class BodyLimit:
    """Answers 413 when a body is, or turns out to be, larger than its path allows."""

    def __init__(
        self, app: ASGIApp, upload_bytes_max: int, room: Callable[[], Room] | None = None
    ) -> None:
        """With ``room`` an upload that the disk has none for is refused before it is read."""
        self._app = app
        self._room = room
        self._upload_bytes_max = upload_bytes_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limit(scope)
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        size = int(declared[:LENGTH_DIGITS_MAX]) if declared.isdigit() else 0
        if size > limit:
            await self._refuse(limit, scope, receive, send)
            return
        if size > JSON_BYTES_MAX and self._room and (room := self._room()).refuses(size):
            detail = f"the hub's disk has no room for {size} bytes: {room}"
            await problem(507, "no_space", detail, Connection="close")(scope, receive, send)
            return
        taken = 0

        async def bounded() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > limit:
                raise HTTPException(413, _detail(limit))
            return message

        await self._app(scope, bounded, send)

    def _limit(self, scope: Scope) -> int:
        path = scope["path"]
        if path.endswith(("/versions", "/agent-releases")):
            return self._upload_bytes_max + FORM_OVERHEAD_BYTES
        if path.endswith("/signatures"):
            return 2 * TUF_METADATA_BYTES_MAX
        return JSON_BYTES_MAX

    async def _refuse(self, limit: int, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = problem(413, "too_large", _detail(limit), Connection="close")
        await refusal(scope, receive, send)


def _detail(limit: int) -> str:
    return f"the body is over the limit of {limit} bytes for this path"
