"""What ``deploy/cluster`` says, as plain data, and its services as processes of this machine."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from support.light_agents import Fleet
from support.ports import HOST, free_port
from support.postgres import Postgres

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
CLUSTER = DEPLOY / "cluster"
VOLUME = "/var/lib/muster-hub"
ROLES = ("api", "ingest", "engine")
"""Services of compose, deployments of Kubernetes: each runs one role or two."""
HEALTH = "/api/v1/health"


def compose() -> dict[str, Any]:
    """Services by name."""
    services: dict[str, Any] = yaml.safe_load((CLUSTER / "compose.yaml").read_text())["services"]
    return services


def manifests() -> dict[tuple[str, str], dict[str, Any]]:
    """Kubernetes' resources by kind and name."""
    found = {}
    for path in sorted((CLUSTER / "kubernetes").glob("*.yaml")):
        for resource in yaml.safe_load_all(path.read_text()):
            if resource["kind"] != "Kustomization":
                found[resource["kind"], resource["metadata"]["name"]] = resource
    return found


def pods() -> dict[str, dict[str, Any]]:
    """The pods' specifications by the name of what makes them."""
    return {
        name: resource["spec"]["template"]["spec"]
        for (kind, name), resource in manifests().items()
        if kind in ("Deployment", "StatefulSet", "Job")
    }


class Cluster:
    """Compose's services as processes of this machine, on ports of its own."""

    def __init__(self, directory: Path, postgres: Postgres, aws: Mapping[str, str]) -> None:
        """``aws``: variables that lead to an S3 with the bucket of the settings."""
        self.volume = directory / "volume"
        self.volume.mkdir()
        self.broker_port, self.api_ports = free_port(), (free_port(), free_port())
        self.database = postgres.empty()
        programs = Path(sys.executable).parent
        self._others = {
            VOLUME: str(self.volume), "postgresql://muster@postgres/muster": self.database,
            "mqtts://broker:8883": f"mqtts://{HOST}:{self.broker_port}", "broker.example": HOST,
            "https://hub.example:8443": f"https://localhost:{self.api_ports[0]}",
            "# [storage]": "[storage]", "# url = ": "url = ",
            "hub.example": "localhost", "port = 8443": f"port = {self.api_ports[0]}",
            '"muster-hub"': f'"{programs / "muster-hub"}"',
        }  # fmt: skip
        settings = self._here(CLUSTER / "hub.toml", directory)
        self._environment = os.environ | {
            "PATH": f"{programs}:{os.environ['PATH']}:/usr/sbin", "PYTHONUNBUFFERED": "1",
            "MUSTER_DATA": str(self.volume / "hub"), "MUSTER_SETTINGS": str(settings),
            **aws, "MUSTER_BROKER_FILES": str(self.volume / "broker"), "MUSTER_LOOK_SECONDS": "0.2",
        }  # fmt: skip
        acl = DEPLOY / "mosquitto" / "muster.acl"
        (directory / "mosquitto").mkdir()
        self._others |= {
            "/etc/mosquitto/muster.acl": str(acl),
            "/etc/mosquitto/muster/": f"{self.volume}/broker/",
            "/var/lib/mosquitto/": f"{self.volume}/broker-data/",
            "listener 8883": f"listener {self.broker_port} {HOST}",
        }  # fmt: skip
        self.broker_settings = self._here(DEPLOY / "mosquitto" / "mosquitto.conf", directory)
        if os.geteuid() == 0:
            self.broker_settings.write_text(self.broker_settings.read_text() + "\nuser root\n")
        self.processes: list[subprocess.Popen[str]] = []
        self.agents = Fleet()

    def _put(self, text: str) -> str:
        for there, here in self._others.items():
            text = text.replace(there, here)
        return text

    def _here(self, file: Path, directory: Path) -> Path:
        copy = directory / file.name
        copy.write_text(self._put(file.read_text()))
        return copy

    def setup(self) -> str:
        """The one-shot service, to its end; what it said."""
        asked = [self._put(word) for word in compose()["setup"]["command"]]
        done = subprocess.run(
            [CLUSTER / "setup", *asked], env=self._environment, capture_output=True, text=True,
            check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, *command: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [str(word) for word in command], env=self._environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.processes.append(process)
        return process

    def serve(self, name: str, port: int) -> subprocess.Popen[str]:
        """One replica of a service, on a port of its own."""
        words = [self._put(word) for word in compose()[name]["command"]]
        if "--http-port" in words:
            words[words.index("--http-port") + 1] = str(port)
        else:
            words += ["--http-port", str(port)]
        return self.start("muster-hub", *words)

    def close(self) -> None:
        self.agents.close()
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            process.communicate(timeout=60)
