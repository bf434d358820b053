"""What every command gets from the command line's global part: a way to the hub."""

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from muster_client.hub import Hub


@dataclass
class Session:
    """Connects when first asked, so that `--help` and local commands need no hub."""

    flags: dict[str, str | None] = field(default_factory=dict)
    profile: Path | None = None
    _open: ExitStack = field(default_factory=ExitStack)
    _hub: "Hub | None" = None

    def hub(self) -> "Hub":
        """The hub that the command line, the environment or a profile names."""
        from muster_client.hub import Hub  # noqa: PLC0415 - a help page needs no HTTP client

        if self._hub is None:
            flags = self.flags
            self._hub = self._open.enter_context(
                Hub.from_profile(
                    self.profile, url=flags.get("hub"), token=flags.get("token"), ca=flags.get("ca")
                )
            )
        return self._hub

    def close(self) -> None:
        """End the connections, if there are any."""
        self._open.close()


def hub(context: typer.Context) -> "Hub":
    """The hub that a command is for."""
    session = context.find_object(Session)
    assert session is not None
    return session.hub()
