"""A standalone Airflow 3 of its own for a test, with the DAGs it is given."""

import json
import os
import secrets
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from support import integration_pages
from support.counterparts import environment, until
from support.ports import free_port

PACKAGES = ("apache-airflow==3.3.2", *integration_pages.CLIENT)
USER = "admin"
START_SECONDS = 300.0


@dataclass(frozen=True)
class Address:
    """Where a server listens and how to sign in: hubs want to know before it runs."""

    url: str
    password: str

    @classmethod
    def new(cls) -> "Address":
        return cls(f"http://127.0.0.1:{free_port()}", secrets.token_urlsafe(12))


@dataclass(frozen=True)
class Airflow:
    """A server under way: it takes half a minute, in which others can do theirs."""

    at: Address
    dag: str
    home: Path

    def wait(self) -> None:
        """Until it knows its DAG."""
        until(self._knows, START_SECONDS)

    def said(self) -> str:
        """The ends of the tasks' logs."""
        logs = sorted((self.home / "logs").rglob("attempt*.log"))
        return "\n".join(path.read_text()[-3000:] for path in logs)

    def _knows(self) -> bool:
        try:
            asked = {"username": USER, "password": self.at.password}
            made = httpx.post(f"{self.at.url}/auth/token", json=asked, timeout=60).json()
            headers = {"Authorization": f"Bearer {made['access_token']}"}
            dag = f"{self.at.url}/api/v2/dags/{self.dag}"
            return httpx.get(dag, headers=headers, timeout=60).is_success
        except (httpx.HTTPError, ValueError, KeyError):
            return False


@contextmanager
def starting(
    folder: Path, at: Address, dag: str, program: str, variables: Mapping[str, str]
) -> Iterator[Airflow]:
    """A server with the DAG ``dag`` of ``program``; tasks have ``variables``."""
    programs = environment("airflow", *PACKAGES)
    home, dags = folder / "airflow", folder / "dags"
    for made in (home, dags):
        made.mkdir()
    (dags / f"{dag}.py").write_text(program)
    (home / "simple_auth_manager_passwords.json.generated").write_text(
        json.dumps({USER: at.password})
    )
    given = os.environ | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{at.url}/execution/",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": at.url.rpartition(":")[2],
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__TRIGGERER__DEFAULT_CAPACITY": "4",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
        "PATH": f"{programs}:{os.environ['PATH']}",
        **variables,
    }
    command = f"'{programs}/airflow' db migrate && exec '{programs}/airflow' standalone"
    with (folder / "airflow.log").open("wb") as log:
        running = subprocess.Popen(["/bin/sh", "-c", command], env=given, stdout=log, stderr=log,
                                   start_new_session=True)  # fmt: skip
        try:
            yield Airflow(at, dag, home)
        finally:
            os.killpg(running.pid, signal.SIGTERM)
            try:
                running.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(running.pid, signal.SIGKILL)
                running.wait(60)
