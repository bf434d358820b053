"""A worker process as its slot sees it: how it is launched, told, and counted."""

from dataclasses import dataclass
from typing import Protocol

from muster_agent.base.system_error import as_refusal
from muster_agent.worker.events import ComputedBy
from muster_protocol.wire.directive import Goal
from muster_protocol.wire.errors import Refusal


class Worker(Protocol):
    """What the slot needs of a worker process; none of these blocks."""

    def start(self) -> None:
        """Start the process; raises OSError."""
        ...

    def accept(self) -> None:
        """Have it accept requests on the slot's socket."""
        ...

    def pause(self) -> None:
        """Have it accept no further connections; it stays loaded."""
        ...

    def stop(self, grace_seconds: float) -> None:
        """Have it finish its requests and end; it is killed after the grace."""
        ...


class Launcher(Protocol):
    """Makes workers for installed bundles."""

    def launch(
        self, slot: str, goal: Goal, fallback: str | None, *, model: bool = True
    ) -> tuple[str, Worker]:
        """A new, not yet started worker and its id. Raises LaunchRefused.

        ``fallback`` names one of the manifest's; None is its first. Without ``model`` the worker
        loads none and answers with the fallback alone; a manifest without one is refused.
        """
        ...


@dataclass(frozen=True)
class Counts:
    """What a worker says of itself since it started."""

    inferences: int = 0
    errors: int = 0
    p95_ms: float | None = None


@dataclass
class Running:
    """A worker process and what is known of it."""

    id: str
    goal: Goal
    worker: Worker
    ready: bool = False
    accepting: bool = False
    ready_at: float = float("inf")
    computed_by: ComputedBy | None = None
    counts: Counts = Counts()


class LaunchRefused(Exception):
    """There is nothing to run: the bundle is not installed, or no runtime for it."""

    def __init__(self, refusal: Refusal, message: str) -> None:
        super().__init__(message)
        self.refusal = refusal


def start(
    launcher: Launcher, slot: str, goal: Goal, fallback: str | None, *, model: bool = True
) -> Running:
    """Launch and start a worker; raises LaunchRefused."""
    worker_id, worker = launcher.launch(slot, goal, fallback, model=model)
    try:
        worker.start()
    except OSError as error:
        refusal, words = as_refusal(error, Refusal.WORKER_DIED)
        raise LaunchRefused(refusal, f"the worker could not be started: {words}") from None
    return Running(worker_id, goal, worker)
