"""What a path and a query may hold: no control characters, no overrides of text direction."""

from urllib.parse import unquote_to_bytes

from starlette.types import ASGIApp, Receive, Scope, Send

from muster_hub.api.problems import problem
from muster_protocol.wire import bounds


class CleanText:
    """Answers 422 where a path or query holds what no name and no text of Muster's may."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            query = unquote_to_bytes(scope["query_string"]).decode(errors="replace")
            for what, text in (("path", scope["path"]), ("query", query)):
                if not bounds.is_clean(text):
                    detail = f"the {what} holds control characters or overrides of text direction"
                    await problem(422, "invalid", detail)(scope, receive, send)
                    return
        await self._app(scope, receive, send)
