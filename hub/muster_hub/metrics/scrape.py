"""A scrape of the hub: the database is read once for all that ask within a few seconds."""

import threading
import time
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

KEPT_SECONDS = 10.0
"""Several Prometheus servers, or an impatient one, cost the database one look in this time."""
UNMATCHED = "unmatched"
"""The route of requests that no route answers: their paths would be series without end."""
DURATION_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Scrape:
    """``text`` is the exposition; ``answered`` counts an answer of the API.

    ``collect`` reads the fleet; it is called at most once in ``KEPT_SECONDS``.
    """

    def __init__(
        self,
        collect: Callable[[], Iterator[Metric]],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Kept(collect, monotonic))
        self._durations = Histogram(
            "muster_http_request_duration_seconds",
            "How long the API took to answer, by route template.",
            ("route", "method", "code"),
            registry=self._registry,
            buckets=DURATION_BUCKETS,
        )

    def text(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def answered(self, route: str, method: str, code: int, seconds: float) -> None:
        """Count an answer that took this long."""
        self._durations.labels(route, method, str(code)).observe(seconds)


class Timed:
    """Middleware that has each answer's time counted; event streams, which never end, are not."""

    def __init__(
        self, app: ASGIApp, scrape: Scrape, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._app = app
        self._scrape = scrape
        self._monotonic = monotonic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and count what it took."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, code, streams = self._monotonic(), 0, False

        async def watched(message: Message) -> None:
            nonlocal code, streams
            if message["type"] == "http.response.start":
                code = message["status"]
                kinds = {value for name, value in message["headers"] if name == b"content-type"}
                streams = any(kind.startswith(b"text/event-stream") for kind in kinds)
            await send(message)

        await self._app(scope, receive, watched)
        if code and not streams:
            route = getattr(scope.get("route"), "path", UNMATCHED)
            self._scrape.answered(route, scope["method"], code, self._monotonic() - begun)


class _Kept(Collector):
    """What was collected, for as long as it is fresh; one thread reads, the others wait."""

    def __init__(
        self, collect: Callable[[], Iterator[Metric]], monotonic: Callable[[], float]
    ) -> None:
        self._collect = collect
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._families: list[Metric] = []
        self._until = float("-inf")

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            now = self._monotonic()
            if now >= self._until:
                self._families = list(self._collect())
                self._until = now + KEPT_SECONDS
            yield from self._families
