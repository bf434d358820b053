"""What fetching a bundle's chunks decides to do: words between the window and those who act."""

from dataclasses import dataclass
from typing import NamedTuple

from muster_protocol.wire.errors import Refusal

BROKER = -1
"""The broker among the sources of a chunk; HTTP sources count from 0."""


class Place(NamedTuple):
    """Where a chunk lies: in the file with this SHA-256, from this byte on."""

    file: str
    offset: int
    size_bytes: int


@dataclass(frozen=True)
class ChunkRun:
    """Neighbouring chunks of a file, in order."""

    file: str
    offset: int
    digests: tuple[str, ...]
    sizes: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of all its chunks."""
        return sum(self.sizes)


@dataclass(frozen=True)
class Subscribe:
    """Ask the broker for these chunks."""

    digests: tuple[str, ...]


@dataclass(frozen=True)
class Unsubscribe:
    """These chunks have come, or are not wanted any more."""

    digests: tuple[str, ...]


@dataclass(frozen=True)
class AskHub:
    """Publish ``up/want`` for these chunks; ``last_resort``: no other source has them."""

    digests: tuple[str, ...]
    last_resort: bool = False


@dataclass(frozen=True)
class HttpGet:
    """Get one chunk by its name from a source, which is named by its place in the directive."""

    source: int
    digest: str


@dataclass(frozen=True)
class HttpRange:
    """Get neighbouring chunks of a file in one request."""

    source: int
    run: ChunkRun


@dataclass(frozen=True)
class Keep:
    """A verified chunk from a source; ``healed`` when an altered copy came before it."""

    digest: str
    data: bytes
    healed: bool
    source: int


@dataclass(frozen=True)
class GiveUp:
    """Nothing was left to try: the update ends with this refusal."""

    refusal: Refusal
    detail: str


Action = Subscribe | Unsubscribe | AskHub | HttpGet | HttpRange | Keep | GiveUp
