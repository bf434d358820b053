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
    axes: dict[str, int | None] = {}
    """Where each input has its batch; None: it is given whole, a row of it at a time."""
    output_axes: dict[str, int] = {}
    """Where outputs have theirs, as far as that is known before."""
    group: int = 1
    """Rows of a run at least: the size of a batch that the model fixes."""
    singles: int = 1
    """So many runs are made by themselves."""
    batch: int = 1
    """Rows of each run after those."""


class Probed(Struct, frozen=True, kw_only=True, tag="probed"):
    """What was found."""

    inputs: tuple[Described, ...]
    outputs: tuple[Described, ...]
    memory_bytes: int = 0
    """Address space by which loading and running grew the process, at its peak."""
    latency_ms: float = 0.0
    """Median of the rows run one by one."""
    load_seconds: float = 0.0
    output_axes: dict[str, int | None] = {}
    """Where each output has its batch; None: it belongs to the request as a whole."""
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
