"""Assignments."""

from typing import Annotated

from pydantic import Field

from muster_hub.api.schemas.base import Body, Grows
from muster_protocol.wire import limits


class AssignmentAsk(Body):
    """What devices that match shall run in a slot, from now on and when they join later."""

    slot: str = Field(default="main", max_length=limits.NAME_CHARS_MAX, examples=["vision"])
    selector: str = Field(default="", max_length=1024, examples=["site=berlin"])
    model: str = Field(max_length=limits.NAME_CHARS_MAX, examples=["digits"])
    version: str = Field(max_length=limits.NAME_CHARS_MAX, examples=["2"])
    precedence: int | None = Field(
        default=None, ge=1, le=2**31 - 1,
        description="Null: before all others, or unchanged when there is one already.",
    )  # fmt: skip
    window_seconds: Annotated[
        float | None, Field(ge=limits.WINDOW_SECONDS_MIN, le=limits.WINDOW_SECONDS_MAX)
    ] = None


class AssignmentView(Grows):
    id: int
    slot: str = Field(examples=["vision"])
    selector: str = Field(examples=["site=berlin"])
    model: str = Field(examples=["digits"])
    version: str = Field(examples=["2"])
    precedence: int = Field(description="Of several that match a device the highest wins.")
    window_seconds: float | None
    rollout: int | None = Field(description="The rollout that made it.")
    created: float


class AssignmentPlanView(Grows):
    """What ``PUT`` would do. Nothing was done."""

    before: str | None = Field(
        examples=["digits/1"], description="What is assigned there now; null: nothing."
    )
    devices: int = Field(examples=[12], description="That the selector matches now.")
