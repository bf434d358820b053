"""Events of devices and hub."""

from pydantic import Field

from muster_hub.api.schemas.base import AT, Grows, View


class EventView(Grows):
    id: int
    device: str | None = Field(examples=["cam-1"], description="null: the hub's own.")
    kind: str = Field(examples=["update"])
    received: float = Field(examples=[AT])
    slot: str
    model: str
    version: str
    manifest: str
    generation: int
    refusal: str | None = Field(examples=["golden_mismatch"])
    detail: str
    data: View
