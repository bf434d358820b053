"""What all bodies and answers of the API share."""

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from muster_protocol.wire import bounds

View = dict[str, Any]
AT = 1767225600.0
"""The moment that examples show."""
DAY_SECONDS = 86_400


class Grows(BaseModel):
    """An answer that later versions may add fields to; readers skip what they don't know."""

    model_config = ConfigDict(extra="allow")


class Body(BaseModel):
    """A request body: an unknown field is an error, not a surprise."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _within_bounds(cls, value: Any) -> Any:
        """The bounds of every message, also for what has no schema of its own."""
        bounds.check_plain(value)
        return value
