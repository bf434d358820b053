"""What the demo promises, what it measured, and how it ends when a promise is broken."""

import time
from collections.abc import Callable
from typing import TypeVar

import msgspec
from msgspec import Struct

from muster_protocol.wire.errors import MusterError

POLL_SECONDS = 0.15
T = TypeVar("T")


class BrokenPromise(MusterError):
    """The demo saw something that Muster says can't happen; the message says which."""


class Summary(Struct, kw_only=True):
    """The demo's result, written as ``summary.json``."""

    devices: int = 0
    inferences_fed: int = 0
    inferences_counted: int = 0
    failed_requests: int = 0
    labels_sent: int = 0
    labels_counted: int = 0
    swaps: int = 0
    refused_releases: dict[str, str] = {}
    """Release to the reason that every device gave."""
    chunks_healed: int = 0
    """Devices that met an altered chunk and healed from a second source."""
    drift_windows_to_alert: int = 0
    false_alerts: int = 0
    accuracy_before: float = 0.0
    """Of the first version behind the degraded camera."""
    accuracy_after: float = 0.0
    bytes_up: int = 0
    """Everything the devices sent on their lines to the broker, encryption included."""
    bytes_raw: int = 0
    """What sending each input and output tensor home would have taken."""
    link_cut_seconds: float = 0.0
    seconds: float = 0.0

    def encode(self) -> bytes:
        """As the file that a demo leaves behind."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


def promise(kept: bool, otherwise: str) -> None:  # noqa: FBT001 - reads as a sentence
    """Raise BrokenPromise unless kept."""
    if not kept:
        raise BrokenPromise(otherwise)


def wait_for(
    what: str, seconds: float, look: Callable[[], T | None], meanwhile: Callable[[], None]
) -> T:
    """Look until there is something; BrokenPromise names ``what`` did not come in ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        meanwhile()
        found = look()
        if found:
            return found
        if time.monotonic() >= deadline:
            raise BrokenPromise(f"{what}: not within {seconds:g} s")
        time.sleep(POLL_SECONDS)  # looked for as an operator would: by asking the hub
