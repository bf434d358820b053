"""How fast one token, or one address without a token, may ask: token buckets in memory."""

import ipaddress
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from muster_hub.api.problems import problem
from muster_hub.settings.config import Http
from muster_protocol.wire.chunks import sha256_hex

BURST_SECONDS = 4.0
BUCKETS_MAX = 20_000
"""Buckets remembered; the one unused for longest goes first, and is full again by then."""
READING = frozenset({"GET", "HEAD", "OPTIONS"})
IPV6_SITE_BITS = 64
"""One site has that many addresses of its own: they share a bucket."""


@dataclass
class _Bucket:
    left: float
    at: float


class Buckets:
    """Token buckets by name. ``take`` is safe from any thread."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, name: str, per_second: float, cost: float = 1.0) -> float:
        """Take from a bucket; 0 when there was enough, else seconds until there will be.

        A cost of 0 only asks whether the bucket holds anything.
        """
        full = max(per_second * BURST_SECONDS, 1.0)
        now = self._monotonic()
        with self._lock:
            bucket = self._buckets.pop(name, None) or _Bucket(full, now)
            self._buckets[name] = bucket
            while len(self._buckets) > BUCKETS_MAX:
                self._buckets.popitem(last=False)
            bucket.left = min(full, bucket.left + max(now - bucket.at, 0.0) * per_second)
            bucket.at = now
            if bucket.left < 1:
                return (1 - bucket.left) / per_second
            bucket.left -= cost
        return 0.0


class Pace:
    """Answers 429 with ``Retry-After`` when somebody asks too fast.

    Who holds a good token has a bucket of their own, whatever others behind the same address do:
    when that address has used up what strangers may ask, a token is looked at before it is refused.
    What a refused token costs is charged to the address it came from, so that guessing tokens
    isn't faster than asking without one.
    """

    def __init__(
        self,
        app: ASGIApp,
        limits: Http,
        monotonic: Callable[[], float],
        is_good: Callable[[str], bool],
    ) -> None:
        """``is_good`` says whether the text of an ``Authorization`` header lets somebody in."""
        self._app = app
        self._limits = limits
        self._is_good = is_good
        self._buckets = Buckets(monotonic)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        bearer = dict(scope["headers"]).get(b"authorization")
        address = _address(scope)
        strangers = self._limits.strangers_per_second
        wait = self._buckets.take(address, strangers, 0.0 if bearer else 1.0)
        if bearer and wait and await run_in_threadpool(self._is_good, bearer.decode("latin-1")):
            wait = 0.0
        if bearer and not wait:
            reading = scope["method"] in READING
            rate = self._limits.reads_per_second if reading else self._limits.writes_per_second
            wait = self._buckets.take(f"{reading} {sha256_hex(bearer)}", rate)
        if wait:
            await self._refuse(wait, scope, receive, send)
            return

        async def watched(message: Message) -> None:
            if bearer and message["type"] == "http.response.start" and message["status"] == 401:
                self._buckets.take(address, strangers)
            await send(message)

        await self._app(scope, receive, watched)

    async def _refuse(self, wait: float, scope: Scope, receive: Receive, send: Send) -> None:
        seconds = str(max(int(wait + 0.999), 1))
        detail = f"too many requests: come back in {seconds} s"
        answer = problem(429, "too_many", detail, Retry_After=seconds)
        await answer(scope, receive, send)


def _address(scope: Scope) -> str:
    """The bucket of whoever has no token."""
    host = (scope["client"] or ("?", 0))[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return f"address {host}"
    if address.version == 6 and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    bits = IPV6_SITE_BITS if address.version == 6 else address.max_prefixlen
    return f"address {ipaddress.ip_network((address, bits), strict=False)}"
