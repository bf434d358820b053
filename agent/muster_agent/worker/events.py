"""What a worker tells the supervisor, as the supervisor's inbox sees it."""

from dataclasses import dataclass, field
from typing import Annotated, NamedTuple

from msgspec import Meta, Struct, structs

from muster_protocol.wire.errors import Refusal
from muster_protocol.wire.manifest import ProviderName

Count = Annotated[int, Meta(ge=0, le=1 << 53)]
Amount = Annotated[float, Meta(ge=0, le=1e12)]
"""Bounds for what a worker says of itself, which a hostile model may have made up."""


class ComputedBy(NamedTuple):
    """What a model runs on: a runtime, its providers, preferred first, and threads a request."""

    runtime: str
    providers: tuple[str, ...] = ()
    threads: int = 0


class Facts(Struct, frozen=True, kw_only=True):
    """What start-up measured. All zero for a worker that answers with a fallback only."""

    runtime: Annotated[str, Meta(max_length=64)] = ""
    runtime_version: Annotated[str, Meta(max_length=64)] = ""
    providers: Annotated[tuple[ProviderName, ...], Meta(max_length=8)] = ()
    """What computes the model, preferred first."""
    threads: Count = 0
    """For one request."""
    load_seconds: Amount = 0.0
    golden_cases: Count = 0
    golden_elements: Count = 0
    """Input elements of one case; ``latency_ms`` is the time that they took."""
    latency_ms: Amount = 0.0
    """Median of the warm-up runs, one batch element each."""
    largest_elements: Count = 0
    """Input elements of the largest declared shape; 0 where the manifest declares none."""
    largest_ms: Amount = 0.0
    """What a request of that shape took."""
    memory_bytes: Count = 0
    """Address space that loading, running and answering took; ``Build.memory_bytes`` bounds it."""
    rss_bytes: Count = 0
    isolation: Annotated[str, Meta(max_length=32)] = ""
    """The rung of ``isolation.cage.Rung`` that it runs on, and whether it may make code."""

    @property
    def computed_by(self) -> ComputedBy:
        """What the model runs on."""
        return ComputedBy(self.runtime, self.providers, self.threads)

    def on(self, isolation: str) -> "Facts":
        """The same facts, with how far the kernel isolates the process."""
        return structs.replace(self, isolation=isolation)


class Counters(Struct, frozen=True, kw_only=True):
    """Totals since the worker started, and latencies of its last thousand model answers."""

    inferences: Count = 0
    """Batch elements answered or failed; refused requests are not among them."""
    errors: Count = 0
    """Of them, those the model failed to answer."""
    invalid: Count = 0
    """Requests that could not be read as inputs."""
    fallbacks: Count = 0
    labels: Count = 0
    connections: Count = 0
    rss_bytes: Count = 0
    latency_p50_us: Count = 0
    latency_p95_us: Count = 0
    cpu_seconds: Amount = 0.0
    """Processor time used since the worker was ready."""


@dataclass(frozen=True)
class Ready:
    """Loaded, proved by the golden vectors, warm; it serves after ``accept``."""

    worker_id: str
    facts: Facts


@dataclass(frozen=True)
class Failed:
    """Did not become ready; its process has ended."""

    worker_id: str
    refusal: Refusal
    detail: str
    from_outside: bool = False
    """A signal that others send ended it, as when a whole machine or service is stopped."""


@dataclass(frozen=True)
class Heartbeat:
    """A worker lives, and how much it has done."""

    worker_id: str
    counters: Counters


@dataclass(frozen=True)
class Drained:
    """Paused, and no connection is left in it."""

    worker_id: str


@dataclass(frozen=True)
class Exited:
    """Ended after it was ready, or because it was told to stop."""

    worker_id: str
    returncode: int
    """Negative for the signal that killed it."""
    detail: str = field(default="")
    from_outside: bool = False
    """A signal that others send ended it, as when a whole machine or service is stopped."""


def ending(returncode: int) -> str:
    """How a process ended, in words."""
    return f"killed by signal {-returncode}" if returncode < 0 else f"exited with {returncode}"


WorkerEvent = Ready | Failed | Heartbeat | Drained | Exited
