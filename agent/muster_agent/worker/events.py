"""What a worker tells the supervisor, as the supervisor's inbox sees it."""

from dataclasses import dataclass, field

from msgspec import Struct, structs

from muster_protocol.wire.errors import Refusal


class Facts(Struct, frozen=True, kw_only=True):
    """What start-up measured. All zero for a worker that answers with a fallback only."""

    runtime: str = ""
    runtime_version: str = ""
    load_seconds: float = 0.0
    golden_cases: int = 0
    latency_ms: float = 0.0
    """Median of the warm-up runs, one batch element each."""
    memory_bytes: int = 0
    """Address space that loading and running took; what ``Build.memory_bytes`` bounds."""
    rss_bytes: int = 0
    isolation: str = ""
    """The rung of ``isolation.cage.Rung`` that it runs on."""

    def on(self, rung: str) -> "Facts":
        return structs.replace(self, isolation=rung)


class Counters(Struct, frozen=True, kw_only=True):
    """Totals since the worker started, and latencies of its last thousand model answers."""

    inferences: int = 0
    """Batch elements answered or failed; refused requests are not among them."""
    errors: int = 0
    """Of them, those the model failed to answer."""
    invalid: int = 0
    """Requests that could not be read as inputs."""
    fallbacks: int = 0
    labels: int = 0
    connections: int = 0
    rss_bytes: int = 0
    latency_p50_us: int = 0
    latency_p95_us: int = 0
    cpu_seconds: float = 0.0
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


@dataclass(frozen=True)
class Heartbeat:
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


def ending(returncode: int) -> str:
    """How a process ended, in words."""
    return f"killed by signal {-returncode}" if returncode < 0 else f"exited with {returncode}"


WorkerEvent = Ready | Failed | Heartbeat | Drained | Exited
