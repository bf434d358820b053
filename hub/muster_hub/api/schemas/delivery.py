"""How delivery itself does."""

from pydantic import BaseModel, Field

from muster_hub.api.schemas.base import AT


class ReleaseStoryView(BaseModel):
    model: str = Field(examples=["digits"])
    version: str = Field(examples=["2"])
    pushed: float = Field(examples=[AT])
    outcome: str = Field(
        examples=["delivered"],
        description="`refused` by the hub before any device heard of it, `taken_back` after one "
        "had it, `delivered`, `under_way` or `not_rolled_out`.",
    )
    delivered: float | None = Field(description="When its first rollout was complete.")
    lead_seconds: float | None = Field(description="From the push to then.")
    taken_back: float | None = Field(description="When a rollout of it was ended for harm.")
    exposed_seconds: float | None = Field(description="From that rollout's start to then.")
    back_seconds: float | None = Field(
        description="From then to the last of its devices saying that it runs something else."
    )


class DeliveryView(BaseModel):
    days: float = Field(examples=[30.0])
    outcomes: dict[str, int] = Field(examples=[{"delivered": 3, "refused": 1}])
    lead_seconds: float | None = Field(description="Median, from a push to the fleet.")
    exposed_seconds: float | None = Field(
        description="Median, from the start of a rollout that went wrong to its end."
    )
    back_seconds: float | None = Field(description="Median, from then to the last device.")
    devices: int
    alerts: int = Field(description="Opened in the period.")
    alerts_acted: int = Field(description="Of these, acknowledged or resolved by somebody.")
    alerts_per_device_month: float | None
    inferences: float
    bytes_sent: float | None = Field(description="Of their summaries, estimated.")
    bytes_raw: float | None = Field(description="Of their inputs and outputs, had they been sent.")
    joules_saved: float | None = Field(
        description="By devices' radios for the difference, estimated: `telemetry.joules_per_byte`."
    )
