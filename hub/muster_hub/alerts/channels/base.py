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
    hub: str = ""
    """The hub's address, for links; empty where it isn't known."""


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


def lacks_address(receiver: Receiver) -> str:
    """What ``Channel.lacks`` says where an address is all there is, and is itself a secret."""
    if bool(receiver.url) == bool(receiver.secret_file):
        return "needs a `secret_file` that holds the webhook's address, or else a `url`"
    return ""


def address_of(receiver: Receiver, secret: bytes) -> str:
    """The address that such a receiver has, from its file or from hub.toml."""
    return secret.decode() or receiver.url
