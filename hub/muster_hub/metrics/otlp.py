"""Spans as OpenTelemetry's protocol has them: OTLP over HTTP, in JSON.

https://opentelemetry.io/docs/specs/otlp/#otlphttp
"""

from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

import msgspec

from muster_hub.metrics.spans import Span

PATH = "/v1/traces"
INTERNAL = 1
ERROR = 2


def body_of(spans: Iterable[Span], instance: str) -> bytes:
    """The body of ``POST /v1/traces``; ``instance`` is the hub's address."""
    services: dict[str, list[Span]] = {}
    for span in spans:
        services.setdefault(span.service, []).append(span)
    scope = {"name": "muster", "version": version("muster-edge")}
    return msgspec.json.encode(
        {
            "resourceSpans": [
                {
                    "resource": {
                        "attributes": _attributes({"service.name": service, "muster.hub": instance})
                    },
                    "scopeSpans": [{"scope": scope, "spans": [_span(span) for span in some]}],
                }
                for service, some in services.items()
            ]
        }
    )


def _span(span: Span) -> dict[str, Any]:
    found: dict[str, Any] = {
        "traceId": span.trace,
        "spanId": span.id,
        "name": span.name,
        "kind": INTERNAL,
        "startTimeUnixNano": _nanoseconds(span.start),
        "endTimeUnixNano": _nanoseconds(span.end),
        "attributes": _attributes(span.about),
    }
    if span.parent:
        found["parentSpanId"] = span.parent
    if span.fault:
        found["status"] = {"code": ERROR, "message": span.fault}
    return found


def _nanoseconds(seconds: float) -> str:
    """JSON has no integers of 64 bits: the protocol writes them as text."""
    return str(int(seconds * 1e6) * 1000)


def _attributes(about: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"key": key, "value": {"intValue": str(value)} if isinstance(value, int)
         else {"stringValue": value}}
        for key, value in about.items()
    ]  # fmt: skip
