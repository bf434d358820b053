"""Values of a rollout's custom metrics."""

from typing import Annotated

from pydantic import BaseModel, Field

from muster_hub.api.schemas.base import AT, Body
from muster_protocol.wire import limits

VALUES_MAX = 500
"""In one request."""
Finite = Annotated[float, Field(allow_inf_nan=False, ge=-1e15, le=1e15)]


class ValueAsk(Body):
    device: str = Field(max_length=limits.NAME_CHARS_MAX, examples=["cam-1"])
    value: Finite = Field(examples=[0.013])
    at: Annotated[float | None, Field(ge=0, le=1e11, allow_inf_nan=False)] = Field(
        default=None, examples=[AT], description="When it was so; now, when not given."
    )


class MetricsAsk(Body):
    metric: str = Field(max_length=64, examples=["scrap rate"])
    values: list[ValueAsk] = Field(min_length=1, max_length=VALUES_MAX)


class MetricsView(BaseModel):
    metric: str = Field(examples=["scrap rate"])
    taken: int = Field(description="Values that were new, or differed from what was there.")
    kept: int = Field(description="All values of this rollout.")
