"""Mosquitto as a child of the hub: started, watched, restarted, stopped and never left behind."""

import collections
import getpass
import logging
import os
import platform
import random
import resource
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from logging.handlers import RotatingFileHandler
from pathlib import Path

from muster_hub.heartbeats import Heartbeats
from muster_hub.mqtt.broker_config import (
    CA_FILE,
    CERTIFICATE_FILE,
    CRL_FILE,
    HUB_USER,
    KEY_FILE,
    BrokerConfig,
    acl_text,
    config_text,
    password_text,
)
from muster_hub.mqtt.client import BrokerAddress, admin_text, connect_unix
from muster_hub.settings.config import HubConfig
from muster_protocol.wire.addresses import joined
from muster_protocol.wire.errors import MusterError

READY_SECONDS = 10.0
STOP_SECONDS = 5.0
PORT_WAIT_SECONDS = 3.0
"""A broker whose hub was killed needs a moment to save its state and let go of the port."""
SILENT_SECONDS = 120.0
RESTART_SECONDS = (0.2, 30.0)
STABLE_SECONDS = 60.0
MEMORY_BYTES_LEAST = 768 * 2**20
TURNED_AWAY = ("socket count has been exceeded", "denied access by tcpd")
"""What Mosquitto says when it has no file left for a connection; the second, also when hosts.deny
forbids one: then the files tell."""
FILES_SPARE, FILES_LOOK_SECONDS = 4, 5.0
FULL_SECONDS = 60.0
"""For so long after the last device that was turned away it counts as full."""
LOG_BYTES_MAX = 1024 * 1024
LOG_FILES = 3
LOG_LINES_SHOWN = 6

_log = logging.getLogger(__name__)
_random = random.SystemRandom()
_INSTALL = {
    "apt-get": "apt-get install -y mosquitto",
    "dnf": "dnf install -y mosquitto",
    "apk": "apk add mosquitto",
    "pacman": "pacman -S mosquitto",
    "zypper": "zypper install -y mosquitto",
    "brew": "brew install mosquitto",
}


class BrokerError(MusterError):
    """The broker can't run; the message says why and what to do."""


def find_mosquitto() -> str:
    """Path of a Mosquitto ≥ 2.0; raises BrokerError that names the command to install it."""
    path = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if path is None:
        command = next((how for tool, how in _INSTALL.items() if shutil.which(tool)), None)
        how = f"run: {command}" if command else "install Mosquitto 2.0 or newer"
        raise BrokerError(f"the broker mosquitto is not installed on {platform.node()}; {how}")
    shown = subprocess.run([path, "-h"], capture_output=True, text=True, check=False, timeout=10)
    words = shown.stdout.split("\n", 1)[0].split()
    version = words[2] if len(words) > 2 else "unknown"
    if not version.split(".")[0].isdigit() or int(version.split(".")[0]) < 2:
        raise BrokerError(f"{path} is version {version}; Muster needs Mosquitto 2.0 or newer")
    return path


class Broker:
    """A Mosquitto that runs while this object is started.

    ``started`` is called, from the watching thread, after every (re)start that became ready;
    ``line``, from the thread that reads it, with every line of the broker's log.
    """

    def __init__(
        self,
        config: BrokerConfig,
        *,
        started: Callable[[], None] | None = None,
        line: Callable[[str], None] = lambda _line: None,
        heartbeats: Heartbeats | None = None,
        password: str | None = None,
    ) -> None:
        """``password`` is the hub's own at the broker; without it one is made."""
        self.config = config
        self.restarts = 0
        self._started = started
        self._line = line
        self._program = ""
        self._password = password or secrets.token_urlsafe(32)
        self._tail: collections.deque[str] = collections.deque(maxlen=LOG_LINES_SHOWN)
        self._process: subprocess.Popen[str] | None = None
        self._full_at: float | None = None
        self._looked_at: float | None = None
        self._stopping = threading.Event()
        self._first = threading.Event()
        self._failure: BrokerError | None = None
        self._part = (heartbeats or Heartbeats()).part("broker", SILENT_SECONDS)
        watch = self._part.watching(self._watch)
        self._watcher = threading.Thread(target=watch, name="broker", daemon=True)

    @property
    def address(self) -> BrokerAddress:
        """How the hub itself connects."""
        return BrokerAddress(
            host="", unix=self.config.admin_socket, user=HUB_USER, password=self._password
        )

    @property
    def pid(self) -> int | None:
        """Process id of Mosquitto; None while it does not run."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def start(self) -> None:
        """Start and wait until both listeners answer; raises BrokerError."""
        self._program = find_mosquitto()
        self.prepare()
        self._end_leftover()
        self._claim_port()
        self._watcher.start()
        self._first.wait()
        if self._failure is not None:
            self._watcher.join()
            raise self._failure

    def stop(self) -> None:
        """End the broker, letting it save its state; safe to call twice."""
        self._stopping.set()
        if self._watcher.ident is not None:
            self._watcher.join()

    def save(self) -> None:
        """Have the broker write retained messages to disk now."""
        self._signal(signal.SIGUSR1)

    def reload(self) -> None:
        """Have the broker read access rules and revocation list again."""
        self._signal(signal.SIGHUP)

    def _signal(self, number: signal.Signals) -> None:
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(number)

    def prepare(self) -> None:
        """Write configuration, access rules and the hub's own access."""
        directory = self.config.directory
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        directory.chmod(0o700)
        _write_private(directory / "mosquitto.conf", config_text(self.config))
        _write_private(directory / "acl", acl_text())
        salt = secrets.token_bytes(12)
        _write_private(directory / "passwords", password_text(HUB_USER, self._password, salt))
        _write_private(directory / "admin.json", admin_text(self.address))

    def _end_leftover(self) -> None:
        """End a broker of this very directory whose hub died without its tether pulling."""
        try:
            pid = int((self.config.directory / "pid").read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return
        if str(self.config.directory / "mosquitto.conf").encode() not in command:
            return
        _log.warning("ending a broker left behind by an earlier hub: pid %d", pid)
        for number in (signal.SIGTERM, signal.SIGKILL):
            if _end(pid, number):
                return

    def _claim_port(self) -> None:
        host, port = self.config.host, self.config.port
        until = time.monotonic() + PORT_WAIT_SECONDS
        while True:
            try:
                family = socket.AF_INET6 if ":" in host else socket.AF_INET
                with socket.socket(family, socket.SOCK_STREAM) as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind((host, port))
            except OSError as error:
                if time.monotonic() < until:
                    time.sleep(0.1)  # the port's last owner may still be ending
                    continue
                raise BrokerError(
                    f"the broker can't listen on {joined(host, port)}: {error.strerror}; "
                    "stop what uses the port or choose another with --mqtt-port"
                ) from None
            return

    def _watch(self) -> None:
        least, most = RESTART_SECONDS
        delay = least
        log = _rotating(self.config.directory / "mosquitto.log")
        try:
            while not self._stopping.is_set():
                began = time.monotonic()
                ready = self._run_once(log)
                if not self._first.is_set():
                    self._first.set()
                    return
                if self._stopping.is_set():
                    return
                self.restarts += 1
                lived = time.monotonic() - began
                delay = least if ready and lived > STABLE_SECONDS else min(delay * 2, most)
                last_lines = self._last_lines()
                _log.error("the broker died after %.0f s, restarting: %s", lived, last_lines)
                self._part.retrying("Mosquitto died and is started again; see the log")
                self._stopping.wait(delay * _random.uniform(0.5, 1.0))
        finally:
            log.close()
            (self.config.directory / "pid").unlink(missing_ok=True)

    def _run_once(self, log: RotatingFileHandler) -> bool:
        """Run the broker until it ends or the hub stops; whether it became ready."""
        tether = str(Path(__file__).with_name("tether.py"))
        process = subprocess.Popen(
            [
                sys.executable, "-I", "-S", tether, str(os.getpid()),
                self._program, "-c", str(self.config.directory / "mosquitto.conf"),
            ],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            text=True, errors="replace", cwd="/",
            start_new_session=True,  # A Ctrl-C is the hub's, which ends the broker last.
        )  # fmt: skip
        self._process = process
        (self.config.directory / "pid").write_text(f"{process.pid}\n")
        reader = threading.Thread(target=self._capture, args=(process, log), daemon=True)
        reader.start()
        ready = self._wait_ready(process)
        if ready:
            if self._started is not None:
                self._started()
            self._first.set()
            self._part.beat()
            while process.poll() is None and not self._stopping.wait(0.1):
                self._show(process.pid)
        elif not self._first.is_set():
            self._failure = BrokerError(f"the broker did not start: {self._last_lines(reader)}")
        self._end(process)
        reader.join(timeout=STOP_SECONDS)
        return ready

    def _show(self, pid: int) -> None:
        """That it lives; and whether it turns devices away."""
        if self._full_at is None:
            self._part.alive()
        elif time.monotonic() < self._full_at + FULL_SECONDS:
            self._part.lagging(full_in_words(pid))
        else:
            self._full_at = None
            self._part.beat()

    def _wait_ready(self, process: subprocess.Popen[str]) -> bool:
        """Wait for the hub's listener, which Mosquitto opens after the devices' one."""
        until = time.monotonic() + READY_SECONDS
        while time.monotonic() < until and not self._stopping.is_set():
            if process.poll() is not None:
                return False
            try:
                connect_unix(self.config.admin_socket).close()
            except OSError:
                self._stopping.wait(0.02)
                continue
            return True
        return False

    def _capture(self, process: subprocess.Popen[str], log: RotatingFileHandler) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            text = line.rstrip("\n")
            self._tail.append(text)
            if any(words in text for words in TURNED_AWAY):
                self._turned_away(process.pid)
            self._line(text)
            log.emit(logging.makeLogRecord({"msg": text.replace("%", "%%"), "args": ()}))
        process.stderr.close()

    def _turned_away(self, pid: int) -> None:
        now = time.monotonic()
        if self._looked_at is not None and now < self._looked_at + FILES_LOOK_SECONDS:
            return
        self._looked_at = now
        try:
            files, _hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            used = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
        except OSError:  # it has just ended
            return
        if used >= files - FILES_SPARE:
            self._full_at = now

    def _last_lines(self, reader: threading.Thread | None = None) -> str:
        if reader is not None:
            reader.join(timeout=1)
        lines = [line.partition(": ")[2] or line for line in self._tail]
        last_lines = " | ".join(lines) or "it said nothing"
        return f"{last_lines} (log: {self.config.directory / 'mosquitto.log'})"

    def _end(self, process: subprocess.Popen[str]) -> None:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def full_in_words(pid: int) -> str:
    """That a broker turns devices away, and what to do."""
    try:
        files, _hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    except OSError:  # it has just ended
        return "it turns devices away: raise the limit of open files"
    return (
        f"it may open {files} files, one for each connection, and turns devices away: raise "
        "LimitNOFILE of its unit, or ulimit -Hn, and start it again"
    )


def managed_config(config: HubConfig) -> BrokerConfig:
    """What the settings of a hub make of its managed broker."""
    directory = config.broker_directory
    return BrokerConfig(
        directory=directory,
        host=config.broker.host,
        port=config.broker.port,
        ca=directory / CA_FILE,
        certificate=directory / CERTIFICATE_FILE,
        key=directory / KEY_FILE,
        crl=directory / CRL_FILE,
        run_as=own_user(),
        memory_bytes_max=memory_bytes_max(),
    )


def memory_bytes_max() -> int:
    """Half of this machine's memory, and room enough for a full cache on a small one."""
    memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(memory_bytes // 2, MEMORY_BYTES_LEAST)


def own_user() -> str | None:
    """The user the broker must stay when the hub runs as root, else None."""
    return getpass.getuser() if os.geteuid() == 0 else None


def _end(pid: int, number: signal.Signals) -> bool:
    """Send a signal and wait for the process to be gone."""
    until = time.monotonic() + STOP_SECONDS
    try:
        os.kill(pid, number)
        while time.monotonic() < until:
            time.sleep(0.05)  # not our child: only its pid can be asked
            os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def _rotating(path: Path) -> RotatingFileHandler:
    return RotatingFileHandler(path, maxBytes=LOG_BYTES_MAX, backupCount=LOG_FILES, delay=True)


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(descriptor, 0o600)
        file.write(text)
