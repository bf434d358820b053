"""A hub, its broker and one device on this machine, in one folder, that outlive the command."""

import contextlib
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from muster_client.profile import resolve
from muster_client.transport import Api, connect
from muster_hub.demo import processes, settings
from muster_hub.demo.fleet import TRUST_ROOT, console_link, free_ports, program
from muster_hub.demo.processes import Child, run
from muster_hub.errors import ConfigError
from muster_protocol.wire.errors import MusterError

DEVICE = "device-1"
LABELS = {"site": "here"}
SLOT = "main"
WINDOW_SECONDS = 10.0
REPORT_SECONDS = 5.0
METADATA_SECONDS = 5.0
ENOUGH_SECONDS = 120.0
"""How long a hub or a device may take to answer on a busy machine."""
POLL_SECONDS = 0.2
FILE = "quickstart.json"


class Ports(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where everything listens, all on the loopback; kept in ``FILE``."""

    hub: int
    broker: int
    model: int


@dataclass(frozen=True)
class Local:
    """What stands in the folder. Each method does nothing where its work is done already."""

    directory: Path
    ports: Ports

    @classmethod
    def at(cls, directory: Path, model_port: int) -> "Local":
        """The set-up of an earlier time, or a new one. Raises ConfigError for a foreign folder."""
        directory = directory.absolute()
        file = directory / FILE
        if file.exists():
            return cls(directory, msgspec.json.decode(file.read_bytes(), type=Ports))
        if directory.exists() and any(directory.iterdir()):
            raise ConfigError(f"{directory} is not empty and no earlier set-up: name another")
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", model_port))
            except OSError:
                raise ConfigError(
                    f"port {model_port} is taken: name another for the model with --port"
                ) from None
        hub, broker = free_ports(2)
        directory.mkdir(parents=True, exist_ok=True)
        made = cls(directory, Ports(hub, broker, model_port))
        made.processes.mkdir()
        file.write_bytes(msgspec.json.encode(made.ports))
        return made

    @property
    def processes(self) -> Path:
        """Where logs and process ids are."""
        return self.directory / "processes"

    @property
    def profile(self) -> Path:
        """What `muster --profile` takes."""
        return self.directory / "hub" / "operator.toml"

    @property
    def _agent(self) -> Path:
        return self.directory / DEVICE

    def start(self, say: Callable[[str], None]) -> None:
        """Make and start what isn't there; returns when the hub sees the device. Raises
        MusterError."""
        hub = self.directory / "hub"
        if not self.profile.exists():
            say("making a hub, with all keys here")
            ports = ["--http-port", str(self.ports.hub), "--broker-port", str(self.ports.broker)]
            run([program("muster-hub"), "init", "--data", str(hub), "--all-keys-here", *ports])
            settings.change(hub / "hub.toml", {"directives.window_seconds": WINDOW_SECONDS})
        say("starting the hub and its broker")
        served = self._started("hub", [program("muster-hub"), "serve", "--data", str(hub)])
        with connect(resolve({}, {}, self.profile)) as http:
            api = Api(http)
            self._wait("the hub", lambda: bool(_asked(api, "/health")), served)
            if not (self._agent / "agent.toml").exists():
                say(f"enrolling {DEVICE}")
                self._enrol(api)
            say(f"starting {DEVICE}")
            supervisor = self._started(
                DEVICE, [program("muster-agent"), "run", "--dir", str(self._agent)]
            )
            self._wait(DEVICE, lambda: _asked(api, f"/devices/{DEVICE}").get("online"), supervisor)

    def console_link(self) -> str:
        """A link to the hub's console that signs somebody in once."""
        return console_link(self.directory / "hub", "quickstart")

    def stop(self) -> list[str]:
        """End what runs; its names."""
        return processes.end_leftovers(self.processes)

    def _enrol(self, api: Api) -> None:
        asked = {"labels": LABELS, "uses": 1, "expires_seconds": 600, "device": DEVICE}
        token = api.post("/enroll-tokens", asked)["token"]
        url = f"https://localhost:{self.ports.hub}"
        root = self.directory / "hub" / "tuf" / TRUST_ROOT
        run(
            [
                *(program("muster-agent"), "enroll", "--dir", str(self._agent)),
                *("--hub", url, "--token", token, "--root", str(root)),
            ]
        )
        settings.change(
            self._agent / "agent.toml",
            {
                "broker.host": "localhost",
                "broker.port": self.ports.broker,
                "timers.report_seconds": REPORT_SECONDS,
                "timers.metadata_wait_seconds": METADATA_SECONDS,
            },
        )
        with (self._agent / "agent.toml").open("a") as file:
            file.write(f"\n[slots.{SLOT}]\ntcp_port = {self.ports.model}\n")

    def _started(self, name: str, command: list[str]) -> Child | None:
        """The process, started now; None when it runs already."""
        if processes.runs(self.processes, name):
            return None
        return Child(name, command, self.processes)

    @staticmethod
    def _wait(what: str, look: Callable[[], Any], child: Child | None) -> None:
        until = time.monotonic() + ENOUGH_SECONDS
        while not look():
            if child is not None:
                child.check()
            if time.monotonic() >= until:
                words = child.last_words() if child is not None else ""
                raise ConfigError(f"{what} doesn't answer after {ENOUGH_SECONDS:g} s{words}")
            time.sleep(POLL_SECONDS)  # looked for from outside: it answers or it doesn't


def _asked(api: Api, path: str) -> dict[str, Any]:
    with contextlib.suppress(MusterError):
        found: dict[str, Any] = api.get(path)
        return found
    return {}
