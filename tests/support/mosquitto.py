"""A real Mosquitto for tests: TLS with client certificates, device ACL, on a free port."""

import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from support.pki import Authority, Pair
from support.ports import free_port

BINARY = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
START_SECONDS = 60.0


class Mosquitto:
    """Used as a context manager. ``stop`` and ``start`` keep the port; nothing is persisted."""

    def __init__(
        self, directory: Path, authority: Authority, server: Pair | None = None, extra: str = ""
    ) -> None:
        self.port = free_port()
        server = server or authority.issue("broker", hosts=("127.0.0.1", "localhost"))
        acl = directory / "acl"
        acl.write_text(
            "user hub\ntopic readwrite muster/#\n"
            "pattern write muster/v1/up/%u/#\npattern read muster/v1/down/%u/#\n"
            "pattern read muster/v1/tuf/#\npattern read muster/v1/chunk/#\n"
        )
        self._log = directory / "mosquitto.log"
        self._config = directory / "mosquitto.conf"
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\ncafile {authority.cert}\ncertfile {server.cert}\n"
            f"keyfile {server.key}\ntls_version tlsv1.2\nrequire_certificate true\n"
            "use_identity_as_username true\nuse_username_as_clientid true\n"
            f"acl_file {acl}\nallow_anonymous true\nset_tcp_nodelay true\nlog_type all\n"
            f"log_dest stderr\nuser root\n{extra}"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [BINARY, "-c", str(self._config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            assert self._process.poll() is None, self._log.read_text()
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.02)  # it is starting
            else:
                return
        raise AssertionError(f"mosquitto did not start: {self._log.read_text()}")

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(timeout=60)
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
