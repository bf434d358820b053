"""Every error of the API as RFC 9457 problem+json with a stable ``code``."""

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy.exc import DataError, OperationalError
from starlette.exceptions import HTTPException

from muster_hub.errors import HubError
from muster_hub.storage import faults
from muster_protocol.wire.errors import MusterError, ProtocolError

MEDIA_TYPE = "application/problem+json"
_log = logging.getLogger(__name__)

FULL = "the hub's disk is full; nothing was changed: make room on it, then try again"
_TITLES = {
    400: "The request can't be read",
    401: "Who asks is not known",
    403: "Not allowed",
    404: "Not found",
    405: "Not that way",
    409: "In conflict with what is there",
    412: "Changed meanwhile",
    413: "Too large",
    416: "No such range",
    422: "Not valid",
    429: "Too many",
    500: "The hub failed",
    503: "Not now",
    507: "No room",
}
_CODES = {
    400: "malformed", 401: "unauthenticated", 403: "forbidden", 404: "not_found",
    405: "method_not_allowed", 412: "changed_meanwhile", 413: "too_large",
    416: "no_such_range",
    422: "invalid", 429: "too_many", 507: "no_space",
}  # fmt: skip


class Fault(BaseModel):
    """One field at fault."""

    field: str = Field(examples=["body.uses"])
    message: str = Field(examples=["Input should be greater than or equal to 1"])


class Problem(BaseModel):
    """What went wrong, where, and what to do (RFC 9457)."""

    type: str = Field(default="about:blank", examples=["about:blank"])
    title: str = Field(examples=["Not found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["there is no device 'cam-9'"])
    code: str = Field(examples=["not_found"], description="Stable; programs go by it.")
    errors: list[Fault] = []


def problem(
    status: int, code: str, detail: str, *, errors: list[Fault] | None = None, **headers: str
) -> JSONResponse:
    """An error answer as RFC 9457 has it; ``code`` is for programs, ``detail`` for people."""
    body = Problem(
        title=_TITLES.get(status, "The request failed"),
        status=status,
        detail=detail,
        code=code,
        errors=errors or [],
    )
    content = body.model_dump(exclude={"errors"} if not errors else None)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return JSONResponse(content, status, headers=named, media_type=MEDIA_TYPE)


def answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI ``responses`` of a route that can answer with these problems."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        status: {"description": _TITLES[status], "model": Problem, "content": content}
        for status in statuses
    }


def install(app: FastAPI) -> None:
    """Have every error the app can raise answered as a problem."""
    app.add_exception_handler(MusterError, _muster)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(OperationalError, _database)
    app.add_exception_handler(DataError, _data)
    app.add_exception_handler(OSError, _files)
    app.add_exception_handler(Exception, _unexpected)


async def _muster(_request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, HubError):
        return problem(error.status, error.code, str(error))
    if isinstance(error, ProtocolError):
        return problem(422, "invalid", str(error))
    _log.error("a request failed: %s", error)
    return problem(500, "failed", str(error))


async def _validation(_request: Request, error: Exception) -> JSONResponse:
    faults = error.errors() if isinstance(error, RequestValidationError) else []
    listed = [
        Fault(field=".".join(str(step) for step in fault["loc"]), message=fault["msg"])
        for fault in faults[:20]
    ]
    return problem(422, "invalid", "the request has fields that aren't valid", errors=listed)


async def _http(_request: Request, error: Exception) -> JSONResponse:
    status = error.status_code if isinstance(error, HTTPException) else 500
    detail = str(error.detail) if isinstance(error, HTTPException) else str(error)
    response = problem(status, _CODES.get(status, "failed"), detail)
    if isinstance(error, HTTPException) and error.headers:
        response.headers.update(error.headers)
    return response


async def _files(_request: Request, error: Exception) -> JSONResponse:
    if faults.disk_is_full(error):
        _log.error("the disk is full: %s", error)
        return problem(507, "no_space", FULL)
    return await _unexpected(_request, error)


async def _database(_request: Request, error: Exception) -> JSONResponse:
    _log.error("the database refused: %s", error)
    if faults.disk_is_full(error):
        return problem(507, "no_space", FULL)
    return problem(503, "database_busy", "the database is busy: try again", Retry_After="1")


async def _data(_request: Request, error: Exception) -> JSONResponse:
    """Bounds should have caught it; it is the request's fault all the same."""
    _log.error("the database can't hold what was sent: %s", error)
    return problem(422, "invalid", "a value can't be kept: too large, or of characters not allowed")


async def _unexpected(_request: Request, error: Exception) -> JSONResponse:
    _log.error("a request failed", exc_info=error)
    return problem(500, "failed", "the hub failed; its log says why")
