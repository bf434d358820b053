"""Loops: from drift to a better model."""

from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from muster_hub.api.schemas.base import AT, Body, View
from muster_hub.storage.registry import LoopRow


class LoopAsk(Body):
    model: Annotated[str, StringConstraints(min_length=1, max_length=64)] = Field(examples=["pump"])
    reason: Annotated[str, StringConstraints(max_length=500)] = Field(
        default="", examples=["a new pump on line 2"]
    )


class LoopEnd(Body):
    reason: Annotated[str, StringConstraints(max_length=500)] = Field(
        default="", examples=["the sensor was broken"]
    )


class LoopCandidate(Body):
    version: Annotated[str, StringConstraints(min_length=1, max_length=64)] = Field(examples=["4"])


class LoopView(BaseModel):
    id: int
    model: str = Field(examples=["pump"])
    state: str = Field(examples=["training"])
    reason: str = Field(description="Why it is in its state.")
    opened: float = Field(examples=[AT])
    opened_by: str
    cause: str = Field(examples=["it drifts on 2 device(s)"])
    since: float = Field(examples=[AT], description="When it entered the state.")
    deadline: float = Field(examples=[AT], description="By when it must have left it.")
    ended: float | None
    approved_by: str = Field(description="Empty: it waits for somebody to approve it.")
    pipeline: str = Field(examples=["airflow3"])
    run: str = Field(description="What the orchestrator calls the training.")
    run_state: str = Field(examples=["running"])
    run_url: str = Field(description="Where its log is.")
    run_fault: str
    version: str = Field(description="The candidate.")
    rollout: int | None
    detail: View = Field(
        description="Alerts it was opened for; empty for a role that is limited to some devices."
    )
    history: list[View] = Field(description="Each state it entered: when, why, by whom.")

    @classmethod
    def of(cls, row: LoopRow, *, limited: bool) -> "LoopView":
        """``limited``: to some devices, so that none is named."""
        fields = row.model_dump(exclude={"run_due", "attempts"})
        return cls(**(fields | {"detail": {}} if limited else fields))
