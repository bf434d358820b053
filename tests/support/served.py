"""``muster-hub serve`` as a process on free ports, and what its API says."""

import json
import os
import ssl
import subprocess
import sys
import tomllib
import urllib.request
from pathlib import Path
from typing import Any

import psutil

from muster_hub.app import initialise
from muster_hub.settings.config import BrokerSettings, Http
from support.ports import HOST, free_port

ENROLMENTS_MAX = 10


class Served:
    """A hub's directory and the processes run on it."""

    def __init__(
        self, data: Path, *, database: str = "", broker_url: str = "", python: Path | None = None
    ) -> None:
        """``python`` is one that has another version of the hub; None: the one tested here."""
        self.data = data
        self.http, self.broker = free_port(), free_port()
        self.program: list[str | Path] = [Path(sys.executable).parent / "muster-hub"]
        self.processes: list[subprocess.Popen[str]] = []
        if python is not None:
            self.program = [python, "-c", "from muster_hub.entry import hub; hub()"]
            made = ["--http-port", str(self.http), "--broker-port", str(self.broker)]
            names = ["--name", "localhost", "--name", HOST, "--host", HOST, "--all-keys-here"]
            command = [*self.program, "init", "--data", data, *names, *made]
            subprocess.run(command, check=True, capture_output=True, timeout=120)
            return
        self.config = initialise.initialise(
            data,
            initialise.NewHub(
                names=("localhost", HOST),
                http=Http(host=HOST, port=self.http),
                broker=BrokerSettings(host=HOST, port=self.broker, url=broker_url),
                database=database,
                offline_public=None,
            ),
        )

    def start(self, *options: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*self.program, "serve", "--data", self.data, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self.processes.append(process)
        return process

    def ready(self) -> subprocess.Popen[str]:
        process = self.start()
        self.await_ready(process)
        return process

    def await_ready(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        said = ""
        for line in process.stdout:  # warnings may come first
            said += line
            if line.startswith("hub ready: "):
                return
        raise AssertionError(said)

    @property
    def ca(self) -> Path:
        return self.data / "keys" / "ca" / "ca.pem"

    def health(self, port: int | None = None) -> dict[str, Any]:
        return self.ask("/health", port=port)

    def ask(self, path: str, body: Any = None, *, port: int | None = None) -> Any:
        """GET a path of the API, or POST a body to it, as the first administrator."""
        profile = tomllib.loads((self.data / "operator.toml").read_text())
        request = urllib.request.Request(
            f"https://localhost:{port or self.http}/api/v1{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {profile['token']}", "Content-Type": "application/json",
            },
        )  # fmt: skip
        context = ssl.create_default_context(cafile=self.ca)
        with urllib.request.urlopen(request, context=context, timeout=60) as answer:
            return json.loads(answer.read())

    def brokers(self) -> list[int]:
        config = str(self.data / "broker" / "mosquitto.conf")
        return [
            process.pid
            for process in psutil.process_iter(["cmdline"])
            if config in (process.info["cmdline"] or [])
        ]


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=60)
    return process.returncode, output


def enrol(*command: str | Path) -> None:
    """Run an agent's ``enroll``, again where a machine with much to do answered too late."""
    for _ in range(ENROLMENTS_MAX):
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=300
        )  # fmt: skip
        if not done.returncode:
            return
    raise AssertionError(done.stdout + done.stderr)
