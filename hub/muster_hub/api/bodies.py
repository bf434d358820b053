"""A bound on the size of every request body, before anything reads it."""

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from muster_hub.api.problems import problem
from muster_protocol.wire.limits import KIB, TUF_METADATA_BYTES_MAX

JSON_BYTES_MAX = 64 * KIB
FORM_OVERHEAD_BYTES = 256 * KIB


class BodyLimit:
    """Answers 413 when a body is, or turns out to be, larger than its path allows."""

    def __init__(self, app: ASGIApp, upload_bytes_max: int) -> None:
        self._app = app
        self._upload_bytes_max = upload_bytes_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limit(scope)
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > limit:
            await self._refuse(limit, scope, receive, send)
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
        if path.endswith("/versions"):
            return self._upload_bytes_max + FORM_OVERHEAD_BYTES
        if path.endswith("/signatures"):
            return 2 * TUF_METADATA_BYTES_MAX
        return JSON_BYTES_MAX

    async def _refuse(self, limit: int, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = problem(413, "too_large", _detail(limit), Connection="close")
        await refusal(scope, receive, send)


def _detail(limit: int) -> str:
    return f"the body is over the limit of {limit} bytes for this path"
