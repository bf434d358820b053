"""The fleet at a glance."""

from pydantic import BaseModel, Field

from muster_hub.api.schemas.base import Grows


class StandingView(BaseModel):
    standing: str = Field(examples=["refused"])
    meaning: str = Field(examples=["refused a version, or went back from it"])
    devices: int = Field(examples=[3])


class RunsView(BaseModel):
    model: str = Field(examples=["digits"])
    version: str = Field(examples=["2"])
    devices: int = Field(examples=[417])


class AgentsView(BaseModel):
    version: str = Field(examples=["0.2.0"])
    devices: int = Field(examples=[412])


class WaitView(BaseModel):
    who: str = Field(examples=["a releaser"])
    what: str = Field(examples=["to approve digits 3"])
    count: int = Field(examples=[0], description="Devices that wait for it; 0 for what is single.")


class GoingView(BaseModel):
    """A rollout that has not ended."""

    id: int = Field(examples=[7])
    model: str = Field(examples=["digits"])
    version: str = Field(examples=["2"])
    selector: str = Field(examples=["site=berlin"])
    state: str = Field(examples=["running"])
    reason: str


class OverviewView(Grows):
    """How many devices stand where, what they run, and what needs somebody."""

    devices: int = Field(examples=[420], description="Without those that were revoked.")
    online: int = Field(examples=[411], description="Connected, and heard of within minutes.")
    failing: int = Field(
        examples=[3], description="Online; refused a version, or their model isn't well."
    )
    drifting: int = Field(examples=[2], description="Devices with a drift alert, not resolved.")
    waiting: int = Field(examples=[5], description="Online; a version is ready and waits.")
    open_alerts: dict[str, int] = Field(examples=[{"warning": 4, "critical": 1}])
    acknowledged_alerts: int = Field(examples=[1])
    standings: list[StandingView] = Field(description="Each device once, revoked ones included.")
    versions: list[RunsView] = Field(description="As devices report; the commonest first.")
    agents: list[AgentsView] = Field(description="Versions of the agent; the commonest first.")
    rollouts: list[GoingView] = Field(description="Running or paused, the newest first.")
    waits: list[WaitView] = Field(description="What waits for whom.")
