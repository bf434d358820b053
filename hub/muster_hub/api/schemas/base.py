"""What all bodies and answers of the API share."""

from typing import Any

from pydantic import BaseModel, ConfigDict

View = dict[str, Any]
AT = 1767225600.0
"""The moment that examples show."""
DAY_SECONDS = 86_400


class Grows(BaseModel):
    """An answer that later versions may add fields to; readers skip what they don't know."""

    model_config = ConfigDict(extra="allow")


class Body(BaseModel):
    """A request body: an unknown field is an error, not a surprise."""

    model_config = ConfigDict(extra="forbid")
