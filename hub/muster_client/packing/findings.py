"""What is asked of the process that runs a model, and what it found. Pure."""

from msgspec import Struct


class Described(Struct, frozen=True):
    """A tensor as the runtime describes it; None in ``shape`` is a size that isn't fixed."""

    name: str
    kind: str
    """NumPy's name of its type, ``text``, or the runtime's own words for what is no tensor."""
    shape: tuple[int | None, ...]
    dims: tuple[str, ...] = ()
    """What the model calls its dimensions."""
    scale: float = 0.0
    zero_point: int = 0


class Request(Struct, frozen=True):
    """What to run the model on, and where the answer goes."""

    answer: str = ""
    """The file for what was found, as JSON."""
    inputs: str = ""
    """An ``.npz`` of inputs by name, rows first; empty: only describe the model."""
    outputs: str = ""
    rowwise: tuple[str, ...] = ()
    """Inputs whose first dimension counts rows; all others are given whole to every run."""
    first_rows: int = 0
    """So many rows are run one by one."""
    batch: int = 1
    """All others in batches of so many."""


class Probed(Struct, frozen=True, kw_only=True, tag="probed"):
    """What was found."""

    inputs: tuple[Described, ...]
    outputs: tuple[Described, ...]
    memory_bytes: int = 0
    """Address space by which loading and running grew the process, at its peak."""
    latency_ms: float = 0.0
    """Median of the rows run one by one."""
    load_seconds: float = 0.0
    repeats: bool = True
    """The first row, run again after all others, gave the same answer."""
    batches: bool = True
    """Two rows at once gave what they give one by one."""
    batch_fault: str = ""
    runtime_version: str = ""


class Failure(Struct, frozen=True, tag="failure"):
    """Why not, in the runtime's words."""

    error: str
    lacking: str = ""
    """The module that isn't installed."""


class Answer(Struct, frozen=True):
    """The file that answers a request."""

    found: Probed | Failure
