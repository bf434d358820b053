"""Silences of alerts."""

from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from muster_hub.api.schemas.base import Body
from muster_protocol.wire import selectors

SECONDS_MAX = 366 * 86_400.0


class SilenceAsk(Body):
    selector: Annotated[str, StringConstraints(max_length=selectors.CHARS_MAX)] = Field(
        default="", examples=["site=berlin"], description="Empty: every alert."
    )
    seconds: float = Field(gt=0, le=SECONDS_MAX, examples=[14400.0])
    reason: Annotated[str, StringConstraints(max_length=500)] = Field(
        default="", examples=["the oven is being rebuilt"]
    )


class SilenceView(BaseModel):
    id: int
    selector: str
    until: float = Field(examples=[1767225600.0])
    reason: str
    by: str
    created: float
