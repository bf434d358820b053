"""The worker's end of the control channel, over blocking reads."""

import socket

from muster_agent.worker import control
from muster_agent.worker.control import Start


class Channel:
    """Commands in, replies out; the supervisor's death ends the process."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._reader = control.LineReader()
        self._lines: list[bytes] = []

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._end.fileno()

    def send(self, message: control.Reply) -> None:
        """Send a reply; a supervisor that is gone is no trouble of the worker's."""
        try:
            self._end.sendall(control.encode(message))
        except OSError:
            raise SystemExit("the supervisor has gone") from None

    def first(self) -> Start:
        """Wait for the Start command."""
        while not self._lines:
            data = self._end.recv(65536)
            if not data:
                raise SystemExit("the supervisor has gone")
            self._lines += self._reader.feed(data)
        command = control.decode_command(self._lines.pop(0))
        if not isinstance(command, Start):
            raise SystemExit("the first command must be start")
        return command

    def commands(self) -> list[control.Command]:
        """Commands that have come; raises EOFError when the supervisor has gone."""
        data = self._end.recv(65536)
        if not data:
            raise EOFError
        lines = self._lines + self._reader.feed(data)
        self._lines = []
        return [control.decode_command(line) for line in lines]
