"""What every directive says besides its slots, as the hub's settings have it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from msgspec import UNSET, UnsetType

from muster_protocol.wire.contact import Contact
from muster_protocol.wire.directive import Drift


@dataclass(frozen=True, kw_only=True)
class DirectiveTerms:
    """What every directive says besides its slots."""

    window_seconds: float
    valid_seconds: int
    chunks_url: str
    public_chunks_url: str = ""
    """Where chunks are to be had by their hashes without a token; asked first. Empty: nowhere."""
    token: Callable[[str, int], str]
    """A device's capability to fetch chunks by HTTP until a time in seconds since 1970."""
    keep_crash_input: bool = False
    drift: Callable[[str, Mapping[str, str]], Drift | UnsetType] = lambda _model, _labels: UNSET
    """How drift of a model is judged on a device with such labels."""
    trace: Callable[[int | None], str] = lambda _rollout: ""
    """The ``traceparent`` of what a rollout asks for; empty: it isn't traced."""
    contact: Callable[[], Contact | UnsetType] = lambda: UNSET
    """Where devices are sent, once targets that name the same are in force."""
