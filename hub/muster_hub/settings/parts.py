"""What a process of the hub does: the parts named by ``serve --role``."""

from typing import Literal, get_args

from muster_hub.errors import ConfigError

Part = Literal["api", "ingest", "engine", "publisher"]
PARTS: tuple[Part, ...] = get_args(Part)
EVERY = frozenset(PARTS)
ALL = "all"


def parse(text: str) -> frozenset[Part]:
    """The parts of a list such as ``api,ingest``, or of ``all``. Raises ConfigError."""
    named = [name.strip() for name in text.split(",")]
    if named == [ALL]:
        return EVERY
    found = frozenset(part for part in PARTS if part in named)
    if len(found) != len(named):
        raise ConfigError(
            f"--role {text!r}: give {ALL}, or some of {', '.join(PARTS)}, each once, with commas"
        )
    return found


def words(parts: frozenset[Part]) -> str:
    """The parts as they are given."""
    return ALL if parts == EVERY else ",".join(part for part in PARTS if part in parts)
