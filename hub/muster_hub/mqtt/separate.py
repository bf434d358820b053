"""The managed broker where a process of its own, ``muster-hub broker``, runs it: the hub's side.

The hub never starts one instead: devices would find a broker that ends with the hub. While the
process is away the hub says so and waits.
"""

import logging
import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from muster_hub.heartbeats import Heartbeats
from muster_hub.mqtt.broker_config import BrokerConfig
from muster_hub.mqtt.client import BrokerAddress, read_admin
from muster_hub.mqtt.control import BrokerStatus, ControlError, Word, ask, digest

CHECK_SECONDS = 1.0
BEGIN_SECONDS = 3.0
"""From the lock to its first answer a process that has just begun needs a moment."""
SILENT_SECONDS = 120.0
READ_BYTES_MAX = 256 * 1024
"""Of the broker's log at a time; what is beyond it waits for the next check."""

_log = logging.getLogger(__name__)
_random = random.SystemRandom()


class LogTail:
    """Whole lines that are added to a file that is rotated by renaming, from now on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = self._opened()
        self._rest = b""
        if self._file is not None:
            self._file.seek(0, os.SEEK_END)

    def lines(self) -> list[str]:
        """What came since the last call; the old file's end first when it was rotated."""
        found = self._read()
        if not found and self._rotated():
            self.close()
            self._file = self._opened()
            found = self._read()
        return found

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
        self._file, self._rest = None, b""

    def _opened(self) -> IO[bytes] | None:
        try:
            return self._path.open("rb")
        except FileNotFoundError:
            return None

    def _rotated(self) -> bool:
        if self._file is None:
            return True
        try:
            return self._path.stat().st_ino != os.fstat(self._file.fileno()).st_ino
        except FileNotFoundError:
            return False

    def _read(self) -> list[str]:
        if self._file is None:
            return []
        *whole, self._rest = (self._rest + self._file.read(READ_BYTES_MAX)).split(b"\n")
        self._rest = self._rest[-READ_BYTES_MAX:]
        return [line.decode(errors="replace") for line in whole]


class SeparateBroker:
    """Watches the broker's process, reads its log, and passes on what the hub wants of it."""

    def __init__(
        self,
        config: BrokerConfig,
        *,
        line: Callable[[str], None],
        heartbeats: Heartbeats,
    ) -> None:
        """Raises ControlError when whoever holds the broker's lock does not answer."""
        self._directory = config.directory
        self._line = line
        self._digest = digest(config)
        self._status = _first_status(self._directory)
        self.address: BrokerAddress = read_admin(self._directory / "admin.json")
        self.detail = ""
        """Why the broker's process can't be reached; empty while it can."""
        self._stopping = threading.Event()
        self._part = heartbeats.part("broker", SILENT_SECONDS)
        watch = self._part.watching(self._watch)
        self._thread = threading.Thread(target=watch, name="separate broker", daemon=True)

    @property
    def restarts(self) -> int:
        """How often that process had to start Mosquitto again."""
        return self._status.restarts

    @property
    def warnings(self) -> dict[str, str]:
        """What is not as the hub's settings want it."""
        if self._status.config == self._digest:
            return {}
        return {
            "other_settings": "the broker runs with other settings than hub.toml and this version "
            "of the hub give it: restart it (systemctl restart muster-hub-broker)"
        }

    def start(self) -> None:
        """Have it read what the hub has just written, and begin to watch it."""
        self.reload()
        for warning in self.warnings.values():
            _log.warning("%s", warning)
        self._thread.start()

    def stop(self) -> None:
        """End the watching; the broker goes on."""
        self._stopping.set()
        self._thread.join()

    def save(self) -> None:
        """Have the broker write retained messages to disk now."""
        self._ask("save")

    def reload(self) -> None:
        """Have the broker read access rules, certificates and revocation list again."""
        self._ask("reload")

    def _ask(self, word: Word) -> None:
        try:
            self._status = ask(self._directory, word)
        except ControlError as error:
            if not self.detail:
                _log.error("%s; waiting for it (muster-hub broker)", error)
            self.detail = f"{error}; start it: muster-hub broker"
        else:
            self.detail = ""

    def _watch(self) -> None:
        tail = LogTail(self._directory / "mosquitto.log")
        try:
            while not self._stopping.wait(CHECK_SECONDS * _random.uniform(0.8, 1.2)):
                # One that was away has missed what was asked of it meanwhile.
                self._ask("reload" if self.detail else "status")
                for line in tail.lines():
                    self._line(line)
                if self.detail or self._status.pid is None:
                    self._part.retrying(self.detail or "Mosquitto died and is started again")
                else:
                    self._part.beat()
        finally:
            tail.close()


def _first_status(directory: Path) -> BrokerStatus:
    until = time.monotonic() + BEGIN_SECONDS
    while True:
        try:
            return ask(directory, "status")
        except ControlError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)  # it tells nobody when it begins to listen
