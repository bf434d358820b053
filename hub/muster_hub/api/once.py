"""Requests that may be repeated: the same ``Idempotency-Key`` gets the same answer, acted on once.

Every request passes here: what was refused to somebody known leaves a row in the audit log, and a
route that answered without having asked whether it may is an error.

Only hashes of who asks and of their key are stored, and the answer is encrypted under both: an
answer may hold a secret, and what it opens must not lie in the database.
"""

import hashlib
import secrets
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from fastapi import Request, Response
from fastapi.routing import APIRoute
from sqlalchemy.exc import IntegrityError
from starlette.concurrency import run_in_threadpool

from muster_hub.api.auth import Turned, identify
from muster_hub.api.hub import Hub
from muster_hub.api.pages import KEY_CHARS_MAX
from muster_hub.errors import Conflict, HubError, Invalid
from muster_hub.storage.governance import KeptAnswer
from muster_protocol.wire.chunks import sha256_hex

if TYPE_CHECKING:
    from muster_hub.access.leave import Leave
    from muster_hub.audit.refusals import Refusals

KEEP_SECONDS = 86_400.0
STALE_SECONDS = 120.0
"""A request under way for longer died with its hub: its key may be used anew."""
UNDER_WAY = 0
KEPT_HEADERS = ("content-type", "etag", "location")
NONCE_BYTES = 12

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class KeyReused(Invalid):
    """The idempotency key was used for another request."""

    code = "idempotency_key_reused"


class KeyUnderWay(Conflict):
    """The first request with this idempotency key has not been answered yet."""

    code = "idempotency_key_under_way"


class Unasked(RuntimeError):
    """A route that declares an act did it on nothing that was asked about."""


class OnceRoute(APIRoute):
    """A route that refuses a query with two meanings, and whose changes honour ``Idempotency-Key``.

    Uploads are repeated safely without one: the same content is the same version.
    """

    def get_route_handler(self) -> Handler:
        """FastAPI's hook: the route's handler behind the memory of idempotency keys."""
        inner = super().get_route_handler()

        async def handle(request: Request) -> Response:
            _check_query(request)
            key = request.headers.get("idempotency-key")
            content = request.headers.get("content-type", "")
            if key is None or request.method == "GET" or content.startswith("multipart/"):
                return await _asked(request, inner)
            if not 0 < len(key) <= KEY_CHARS_MAX:
                raise Invalid(f"Idempotency-Key: 1 to {KEY_CHARS_MAX} characters")
            return await _once(request, key, inner)

        return handle


async def _asked(request: Request, inner: Handler) -> Response:
    """The answer of a route that has asked whether it may; a refusal is recorded."""
    try:
        response = await inner(request)
    except Turned as error:
        await _record(request, error.label, error.detail)
        raise
    except HubError as error:
        if error.status == 403 and (actor := getattr(request.state, "actor", None)) is not None:
            await _record(request, actor.label, str(error))
        raise
    leave: Leave | None = getattr(request.state, "leave", None)
    if leave is not None and not leave.asked:
        raise Unasked(f"{request.url.path} answered without asking about what {leave.act} is on")
    return response


async def _record(request: Request, actor: str, why: str) -> None:
    refusals: Refusals = request.app.state.refusals
    act: str = getattr(request.state, "act", "access")
    leave: Leave | None = getattr(request.state, "leave", None)
    what = f"{request.method} {request.url.path}"
    if leave is not None and leave.on_what:
        what += f" ({leave.on_what})"
    await run_in_threadpool(refusals.record, actor, act, what, why)


def _check_query(request: Request) -> None:
    """Of a parameter given twice one would be ignored: which one, no reader could tell."""
    given = [name for name, _ in request.query_params.multi_items()]
    twice = next((name for name in given if given.count(name) > 1), None)
    if twice is not None:
        raise Invalid(f"the parameter {twice[:80]!r} is given more than once")


async def _once(request: Request, key: str, inner: Handler) -> Response:
    hub: Hub = request.app.state.hub
    asker = request.headers.get("authorization", "")
    scheme, _, bearer = asker.partition(" ")
    if scheme.lower() == "bearer":
        await run_in_threadpool(identify, hub, request.app.state.issuer, bearer)
    body = await request.body()
    kept = _Kept(hub, asker, key, f"{request.method} {request.url.path}".encode(), body)
    answered = await run_in_threadpool(kept.begin)
    if answered is not None:
        return answered
    try:
        response = await _asked(request, inner)
    except BaseException:
        await run_in_threadpool(kept.forget)
        raise
    await run_in_threadpool(kept.keep, response)
    return response


class _Kept:
    """One key's place in the database."""

    def __init__(self, hub: Hub, asker: str, key: str, target: bytes, body: bytes) -> None:
        self._hub = hub
        secret = asker.encode() + b"\0" + key.encode()
        self._id = sha256_hex(b"id\0" + secret)
        self._cipher = AESGCM(hashlib.sha256(b"answer\0" + secret).digest())
        self._request = sha256_hex(target + b"\0" + body)

    def begin(self) -> Response | None:
        """The answer given before, or None: go on. Raises KeyReused or KeyUnderWay."""
        now = self._hub.clock()
        try:
            with self._hub.store.write() as session:
                row = session.get(KeptAnswer, self._id)
                if row is not None and now - row.created >= (
                    STALE_SECONDS if row.status == UNDER_WAY else KEEP_SECONDS
                ):
                    session.delete(row)
                    session.flush()
                    row = None
                if row is None:
                    session.add(
                        KeptAnswer(
                            key=self._id,
                            request_sha256=self._request,
                            status=UNDER_WAY,
                            created=now,
                        )
                    )
                    return None
        except IntegrityError:
            raise KeyUnderWay("a request with this Idempotency-Key is under way") from None
        if row.request_sha256 != self._request:
            raise KeyReused("this Idempotency-Key was used for another request")
        if row.status == UNDER_WAY:
            raise KeyUnderWay("a request with this Idempotency-Key is under way")
        content = self._cipher.decrypt(row.body[:NONCE_BYTES], row.body[NONCE_BYTES:], None)
        return Response(content, row.status, {**row.headers, "Idempotency-Replayed": "true"})

    def keep(self, response: Response) -> None:
        headers = {
            name: response.headers[name] for name in KEPT_HEADERS if name in response.headers
        }
        with self._hub.store.write() as session:
            row = session.get_one(KeptAnswer, self._id)
            row.status = response.status_code
            row.headers = headers
            nonce = secrets.token_bytes(NONCE_BYTES)
            row.body = nonce + self._cipher.encrypt(nonce, bytes(response.body), None)

    def forget(self) -> None:
        """The request failed: whoever asked may try again."""
        with self._hub.store.write() as session:
            row = session.get(KeptAnswer, self._id)
            if row is not None:
                session.delete(row)
