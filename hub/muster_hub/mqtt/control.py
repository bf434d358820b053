"""Who runs a directory's managed broker, and what its owner can be asked over a Unix socket.

The owner holds a lock for as long as it lives, so that there is never a second broker. One that is
a process of its own (``muster-hub broker``) also answers on ``broker/control.sock``: a word and a
line feed, answered by one line of JSON. The directory is the hub's user's alone (0700).
"""

import fcntl
import hashlib
import json
import logging
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Literal, assert_never, get_args

from muster_hub.mqtt.broker_config import BrokerConfig, acl_text, config_text
from muster_hub.mqtt.client import connect_unix
from muster_protocol.wire.errors import MusterError

FORMAT = 1
LINE_BYTES_MAX = 1024
ASKING_MAX = 8
ANSWER_SECONDS = 5.0
LOOK_SECONDS = 0.5

Word = Literal["status", "reload", "save"]

_log = logging.getLogger(__name__)


class ControlError(MusterError):
    """The process that runs the broker does not answer, or not as it should."""


@dataclass(frozen=True, kw_only=True)
class BrokerStatus:
    """What the process that runs the broker says of it."""

    format: int
    pid: int | None
    """Of Mosquitto; None while it does not run."""
    restarts: int
    config: str
    """``digest`` of what Mosquitto was told."""


def digest(config: BrokerConfig) -> str:
    """SHA-256 of configuration and access rules, hexadecimal."""
    return hashlib.sha256((config_text(config) + acl_text()).encode()).hexdigest()


def take_lock(directory: Path) -> IO[str] | None:
    """The lock on a directory's broker, held until it is closed; None if a process has it."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = (directory / "broker.lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def owner(directory: Path) -> str:
    """Process id of who holds the lock, for people; "unknown" when it can't be read."""
    try:
        return (directory / "broker.lock").read_text()[:32].strip() or "unknown"
    except OSError:
        return "unknown"


def ask(directory: Path, word: Word) -> BrokerStatus:
    """Have the broker's process do something; its state after it. Raises ControlError."""
    try:
        with connect_unix(directory / "control.sock") as connection:
            connection.settimeout(ANSWER_SECONDS)
            connection.sendall(f"{word}\n".encode())
            line = _line(connection)
    except OSError as error:
        raise ControlError(f"the broker's process does not answer: {error}") from None
    try:
        fields = json.loads(line)
        if fields["format"] != FORMAT:
            raise ControlError(
                f"the broker's process is of another version (format {fields['format']}): "
                "restart it"
            )
        return BrokerStatus(**fields)
    except (ValueError, TypeError, KeyError):
        raise ControlError(f"the broker's process answered {line!r}") from None


class Control:
    """Answers on the control socket, on a thread of its own, while started."""

    def __init__(
        self,
        directory: Path,
        *,
        status: Callable[[], BrokerStatus],
        reload: Callable[[], None],
        save: Callable[[], None],
    ) -> None:
        self._path = directory / "control.sock"
        self._status, self._reload, self._save = status, reload, save
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="broker control", daemon=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def start(self) -> None:
        """Listen; whoever calls holds the lock, so a socket that is there is a dead one's."""
        self._path.unlink(missing_ok=True)
        directory = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY)
        try:  # The path may be longer than a socket address holds.
            self._listener.bind(f"/proc/self/fd/{directory}/{self._path.name}")
        finally:
            os.close(directory)
        self._path.chmod(0o600)
        self._listener.listen(ASKING_MAX)
        self._listener.settimeout(LOOK_SECONDS)
        self._thread.start()

    def stop(self) -> None:
        """End the thread and remove the socket."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._listener.close()
        self._path.unlink(missing_ok=True)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            try:
                with connection:
                    connection.settimeout(ANSWER_SECONDS)
                    connection.sendall(self._answer(_line(connection)))
            except Exception:
                _log.exception("a question about the broker could not be answered")

    def _answer(self, line: str) -> bytes:
        words: tuple[Word, ...] = get_args(Word)
        word = next((each for each in words if each == line), None)
        if word is None:
            refusal = {"format": FORMAT, "error": f"unknown word; known are {', '.join(words)}"}
            return json.dumps(refusal).encode() + b"\n"
        match word:
            case "status":
                pass
            case "reload":
                self._reload()
            case "save":
                self._save()
            case _:
                assert_never(word)
        return json.dumps(asdict(self._status())).encode() + b"\n"


def _line(connection: socket.socket) -> str:
    data = b""
    while not data.endswith(b"\n") and len(data) < LINE_BYTES_MAX:
        more = connection.recv(LINE_BYTES_MAX - len(data))
        if not more:
            break
        data += more
    return data.decode(errors="replace").strip()
