"""A device's log, as the API says it."""

from pydantic import Field

from muster_hub.api.schemas.base import Grows


class LogAsked(Grows):
    device: str = Field(examples=["press-7"])
    request: int = Field(examples=[3], description="How often its log was watched.")


class LogLineView(Grows):
    number: int = Field(examples=[912], description="Rises from line to line, with gaps.")
    received: float = Field(examples=[1_800_000_000.5])
    at: float = Field(
        examples=[1_800_000_000.0], description="When it was written, as far as that is known."
    )
    level: str = Field(examples=["WARNING"])
    logger: str = Field(examples=["muster_agent.app.outages"])
    line: str = Field(examples=["offline: hub.example:8883 does not answer"])


class LogView(Grows):
    device: str = Field(examples=["press-7"])
    lines: list[LogLineView]
