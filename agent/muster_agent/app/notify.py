"""What systemd is told (sd_notify(3)): ready, still alive, stopping. Silent without systemd."""

import os
import socket
from collections.abc import Mapping


class Notifier:
    """A connection to systemd's notification socket, if there is one."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        usec = environment.get("WATCHDOG_USEC", "")
        self.watchdog_seconds = int(usec) / 1_000_000 if usec.isdecimal() else None
        """How often systemd wants to hear from us, if it does."""

    def notify(self, *lines: str) -> None:
        """Send ``READY=1`` and the like; a systemd that does not listen is not our trouble."""
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to:
                to.connect(address)
                to.send("\n".join(lines).encode())
        except OSError:
            return
