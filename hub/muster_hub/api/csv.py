"""Any list of the API as a table for spreadsheets: ``?format=csv``, or ``Accept: text/csv``.

The pages of a list follow each other in one answer. Cells that a spreadsheet would take for a
formula are marked as text: what a device calls itself must not be run by whoever opens a table.
"""

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any, get_args
from urllib.parse import parse_qsl, urlencode

import msgspec
from pydantic import BaseModel
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from muster_hub.api.pages import PAGE_MAX

TYPE = "text/csv"
ROWS_MAX = 100_000
"""Of one answer; who needs more narrows it by selector, or reads pages as JSON."""
BYTES_MAX = 64 * 1024 * 1024
"""Of one page."""
FORMULAS = ("=", "+", "-", "@", "\t", "\r")
_JSON = "application/json"


class AsCsv:
    """Middleware: has lists of the API answered as tables, when that is asked for."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; the pages of a list become one table."""
        if scope["type"] != "http" or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        asked = ("format", "csv") in query
        if not asked and TYPE not in Headers(scope=scope).get("accept", ""):
            await self._app(scope, receive, send)
            return
        kept = [(name, value) for name, value in query if (name, value) != ("format", "csv")]
        await self._table(scope, receive, send, kept)

    async def _table(
        self, scope: Scope, receive: Receive, send: Send, query: list[tuple[str, str]]
    ) -> None:
        names = {name for name, _ in query}
        wanted = query if "limit" in names else [*query, ("limit", str(PAGE_MAX))]
        page = _Page(send)
        asked = self._asked(scope, wanted)
        await self._app(asked, receive, page.send)
        scope["route"] = asked.get("route")
        rows, cursor = page.rows
        if rows is None:  # No list: it goes out as it is.
            await page.pass_on()
            return
        columns = _columns(asked, rows)
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [
                    (b"content-type", b"text/csv; charset=utf-8; header=present"),
                    (b"content-disposition", f'attachment; filename="{_name(scope)}"'.encode()),
                    (b"cache-control", b"no-store"),
                ],
            }
        )
        body = text([columns]) + text(_cells(rows, columns))
        count = len(rows)
        while cursor and "limit" not in names and count < ROWS_MAX:
            await send({"type": "http.response.body", "body": body, "more_body": True})
            following = [(name, value) for name, value in wanted if name != "cursor"]
            page = _Page(send)
            await self._app(
                self._asked(scope, [*following, ("cursor", cursor)]), receive, page.send
            )
            more, cursor = page.rows
            if more is None:  # It can't be said any more: the connection breaks off.
                raise RuntimeError(f"{scope['path']} failed in the middle of a table")
            body = text(_cells(more, columns))
            count += len(more)
        await send({"type": "http.response.body", "body": body})

    def _asked(self, scope: Scope, query: list[tuple[str, str]]) -> Scope:
        headers = [pair for pair in scope["headers"] if pair[0] != b"accept"]
        return {
            **scope,
            "query_string": urlencode(query).encode(),
            "headers": [*headers, (b"accept", _JSON.encode())],
            "state": dict(scope.get("state") or {}),
        }


class _Page:
    """One answer of the API, held back."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message = {}
        self._body = bytearray()
        self._passes = False

    async def send(self, message: Message) -> None:
        """Starlette's ``send``; what is no list of JSON, such as a stream, goes on at once."""
        if message["type"] == "http.response.start":
            kind = Headers(raw=message["headers"]).get("content-type", "")
            self._start = message
            self._passes = message["status"] != 200 or not kind.startswith(_JSON)
        if self._passes:
            await self._send(message)
            return
        if message["type"] == "http.response.body":
            self._body += message.get("body", b"")
            if len(self._body) > BYTES_MAX:
                raise RuntimeError("a page is too large for a table")

    @property
    def rows(self) -> tuple[list[Mapping[str, Any]] | None, str | None]:
        """The items of a list and the cursor of the next page; no items when it is no list."""
        if self._passes:
            return None, None
        found = msgspec.json.decode(bytes(self._body))
        items, cursor = found, None
        if isinstance(found, dict):
            items, cursor = found.get("items"), found.get("next")
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            return None, None
        return items, cursor

    async def pass_on(self) -> None:
        """Send what was held back, if anything."""
        if not self._passes:
            await self._send(self._start)
            await self._send({"type": "http.response.body", "body": bytes(self._body)})


def text(rows: Iterable[Iterable[Any]]) -> bytes:
    """Rows of cells as RFC 4180 has them."""
    out = io.StringIO()
    csv.writer(out).writerows([[cell(value) for value in row] for row in rows])
    return out.getvalue().encode(errors="replace")


def cell(value: Any) -> Any:
    """A value as a cell: numbers as they are, what has parts as JSON, and no text a formula."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return value
    if isinstance(value, dict | list):
        return msgspec.json.encode(value).decode()
    return f"'{value}" if str(value).startswith(FORMULAS) else value


def _cells(rows: Iterable[Mapping[str, Any]], columns: list[str]) -> Iterable[list[Any]]:
    return ([row.get(name) for name in columns] for row in rows)


def _columns(scope: Scope, rows: list[Mapping[str, Any]]) -> list[str]:
    """The fields that the API's document names, so that an empty table has its columns, too."""
    model = getattr(scope.get("route"), "response_model", None)
    for _ in range(3):  # A page of a list of a view.
        if isinstance(model, type) and issubclass(model, BaseModel):
            items = model.model_fields.get("items")
            if items is None:
                return [field.alias or name for name, field in model.model_fields.items()]
            model = items.annotation
        elif get_args(model):
            model = get_args(model)[0]
    return list(dict.fromkeys(name for row in rows for name in row))


def _name(scope: Scope) -> str:
    """``devices.csv`` of ``/api/v1/devices``; only letters that any system takes in a name."""
    parts = [part for part in scope["path"].split("/")[3:] if part]
    known = ["".join(c for c in part if c.isascii() and c.isalnum()) for part in parts]
    return f"{'-'.join(known) or 'table'}.csv"
