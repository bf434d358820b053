"""The ``[traces]`` part of hub.toml: where what a rollout did, and when, is sent."""

from typing import Annotated

from msgspec import Meta, Struct


class TraceSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Traces by OpenTelemetry's protocol (OTLP) over HTTP; without an endpoint none are made."""

    endpoint: Annotated[str, Meta(pattern=r"^(https?://.+)?$")] = ""
    """Of a collector, such as ``http://localhost:4318``; ``/v1/traces`` is added."""
    share: Annotated[float, Meta(ge=0, le=1)] = 1.0
    """Of rollouts that are traced, each wholly or not at all."""
