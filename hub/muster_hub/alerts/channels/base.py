"""What every alert channel offers: say what its settings lack, and make one attempt at sending."""

from dataclasses import dataclass
from typing import Protocol

from muster_hub.settings.alerts import Receiver


@dataclass(frozen=True)
class Outgoing:
    """A delivery at one attempt."""

    id: str
    """The same at every attempt."""
    body: bytes
    """JSON, as ``messages`` makes it."""
    at: float
    """Seconds since 1970."""


class Channel(Protocol):
    """A way to a receiver."""

    def lacks(self, receiver: Receiver, /) -> str:
        """What must still be set for a receiver to be usable, in words; empty: nothing."""
        ...

    def secret_file(self, receiver: Receiver, /) -> str:
        """The setting that names the file of its key or password; empty: it has none."""
        ...

    def send(self, receiver: Receiver, secret: bytes, delivery: Outgoing, /) -> None:
        """Make one attempt; to return is to have delivered.

        Raises posting.DeliveryRefused or one of posting.FAILURES.
        """
        ...
