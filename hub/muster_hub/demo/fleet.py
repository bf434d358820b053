"""The demo's hub and devices: real programs with their own directories, certificates and ports."""

import shutil
import socket
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muster_client.profile import resolve
from muster_client.transport import Api, connect
from muster_hub.demo import settings
from muster_hub.demo.processes import run
from muster_hub.demo.wire import Wire

TRUST_ROOT = "1.root.json"


def program(name: str) -> str:
    """The installed command next to this Python; falls back to the search path."""
    beside = Path(sysconfig.get_path("scripts")) / name
    return str(beside) if beside.exists() else shutil.which(name) or name


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, all different."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [sock.getsockname()[1] for sock in sockets]


def console_link(data: Path, name: str) -> str:
    """A link to the console of the hub in ``data`` that signs its admin in, once and soon."""
    made = run(
        [program("muster-hub"), "console", "link", name, "--role", "admin", "--data", str(data)]
    )
    return made.splitlines()[0]


class DemoHub:
    """`muster-hub serve` on free ports, with its broker as its child."""

    name = "hub"

    def __init__(
        self, data: Path, *, window_seconds: float, keys: Sequence[str] = ("--all-keys-here",)
    ) -> None:
        """``keys``: what `init` is told of those that sign models."""
        self.data = data
        http, self.broker_port = free_ports(2)
        ports = ["--http-port", str(http), "--broker-port", str(self.broker_port)]
        run([program("muster-hub"), "init", "--data", str(data), *keys, *ports])
        settings.change(data / "hub.toml", {"directives.window_seconds": window_seconds})
        self.url = f"https://localhost:{http}"
        self.profile = data / "operator.toml"

    @property
    def command(self) -> list[str]:
        """The command that serves it."""
        return [program("muster-hub"), "serve", "--data", str(self.data)]

    @contextmanager
    def api(self) -> Iterator[Api]:
        """A connection to its API with the operator's token."""
        with connect(resolve({}, {}, self.profile)) as http:
            yield Api(http)


@dataclass(frozen=True)
class DeviceSpec:
    """A device of the demo before it is enrolled."""

    name: str
    labels: Mapping[str, str]
    runtimes: tuple[str, ...] = ()
    """Runtimes the agent may use; empty: all that are installed."""


class DemoDevice:
    """One `muster-agent` with its own directory, certificate and wire to the broker."""

    def __init__(self, spec: DeviceSpec, directory: Path, hub: DemoHub) -> None:
        self.spec = spec
        self.directory = directory
        self.wire = Wire(spec.name, ("127.0.0.1", hub.broker_port))
        self._hub = hub

    @property
    def name(self) -> str:
        """Its device id."""
        return self.spec.name

    def socket(self, slot: str) -> Path:
        """Where a slot's inference API listens."""
        return self.directory / "run" / f"{slot}.sock"

    def enrol(self, token: str, timers: Mapping[str, Any]) -> None:
        """Get a certificate from the hub; the root of trust comes with the installer, as a file."""
        run(
            [
                *(program("muster-agent"), "enroll", "--dir", str(self.directory)),
                *("--hub", self._hub.url, "--token", token),
                *("--root", str(self._hub.data / "tuf" / TRUST_ROOT)),
            ]
        )
        chosen: dict[str, Any] = {
            "broker.host": "localhost",
            "broker.port": self.wire.port,
            **{f"timers.{name}": value for name, value in timers.items()},
        }
        if self.spec.runtimes:
            chosen["runtimes.allow"] = list(self.spec.runtimes)
        settings.change(self.directory / "agent.toml", chosen)

    @property
    def command(self) -> list[str]:
        """The command that runs its agent."""
        return [program("muster-agent"), "run", "--dir", str(self.directory)]


def clear(directory: Path) -> None:
    """Remove a demo's directory, and nothing that only happens to have its name."""
    marker = directory / ".muster-demo"
    if directory.exists():
        if not marker.exists() and any(directory.iterdir()):
            raise FileExistsError(
                f"{directory} is not empty and no earlier demo's: name another with --dir"
            )
        shutil.rmtree(directory)
    directory.mkdir(parents=True)
    marker.touch()
