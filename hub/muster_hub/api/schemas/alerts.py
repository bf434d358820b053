"""Alerts."""

from pydantic import Field

from muster_hub.api.schemas.base import AT, Grows, View


class AlertView(Grows):
    id: int
    key: str = Field(examples=["drift/cam-1/digits"])
    device: str | None = Field(examples=["cam-1"])
    kind: str = Field(examples=["drift"])
    severity: str = Field(examples=["warning"])
    state: str = Field(examples=["open"])
    opened: float = Field(examples=[AT])
    updated: float
    title: str
    detail: View
    advice: str = Field(
        examples=["Only this device sees it: check its sensor, lens, mounting and light …"],
        description="What to do; empty where the alert says it all.",
    )
