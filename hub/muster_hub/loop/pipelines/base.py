"""What every pipeline offers: start a training once, and say how it stands."""

from dataclasses import dataclass
from typing import Any, Protocol

from muster_hub.loop.decide import RunState
from muster_hub.settings.loop import LoopTerms


class PipelineFault(Exception):
    """A training could not be started, or asked about; the message says why.

    ``final``: trying again won't help.
    """

    def __init__(self, message: str, *, final: bool = False) -> None:
        super().__init__(message)
        self.final = final


@dataclass(frozen=True)
class Order:
    """What is asked of a pipeline; the same at every attempt."""

    key: str
    """By which it tells a repeat: ``muster-loop-12``."""
    body: dict[str, Any]
    """What the training is told: loop, model, cause."""
    at: float


@dataclass(frozen=True)
class Run:
    """A training at the orchestrator."""

    id: str
    state: RunState
    url: str = ""
    """Where people see its log."""


class Pipeline(Protocol):
    """An orchestrator. Calls block for seconds at most."""

    asks: bool
    """Whether it can be asked how a run stands."""

    def lacks(self, terms: LoopTerms, /) -> str:
        """What must still be set, in words; empty: nothing."""
        ...

    def start(self, terms: LoopTerms, secret: str, order: Order, /) -> Run:
        """Start a training, or find the one that this order started. Raises PipelineFault."""
        ...

    def look(self, terms: LoopTerms, secret: str, run: str, /) -> Run:
        """How a run stands. Raises PipelineFault."""
        ...
