"""Releases of the agent."""

from pydantic import BaseModel, Field

from muster_hub.api.schemas.base import AT


class AgentReleaseView(BaseModel):
    version: str = Field(examples=["0.2.0"])
    size_bytes: int = Field(examples=[48_000_000])
    issued: int = Field(description="When its keys signed it.", examples=[1767225600])
    extras: list[str] = Field(examples=[["agent", "onnx"]])
    listing: str = Field(description="SHA-256 that directives and reports name it by.")
    created: float = Field(description="When it was pushed.", examples=[AT])
    created_by: str = Field(examples=["ci"])
    devices: int = Field(description="Devices that say that they run it.", examples=[40])


class AgentWheelView(BaseModel):
    name: str
    size_bytes: int
    sha256: str


class AgentReleaseDetail(AgentReleaseView):
    wheels: list[AgentWheelView]
