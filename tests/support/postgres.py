"""A PostgreSQL server of our own for tests: on a private port and socket, in a temporary folder."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from muster_hub.storage import migrate
from muster_hub.storage.store import Store
from support.ports import free_port

FOUND = shutil.which("initdb")
DEBIAN = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
BIN = Path(FOUND).parent if FOUND else next(iter(DEBIAN), None)
TEMPLATE = "muster_template"
NOT_DURABLE = "-F -c full_page_writes=off -c shared_buffers=16MB -c max_connections=40"


class Postgres:
    """``fresh()`` gives the URL of a new database that has the hub's tables."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._made = 0
        self._create(TEMPLATE, "template1")
        template = Store(self._url(TEMPLATE))
        migrate.upgrade(template)
        template.close()

    def fresh(self) -> str:
        self._made += 1
        name = f"test_{self._made}"
        self._create(name, TEMPLATE)
        return self._url(name)

    def empty(self) -> str:
        """A database without tables."""
        self._made += 1
        name = f"test_{self._made}"
        self._create(name, "template1")
        return self._url(name)

    def _url(self, name: str) -> str:
        return f"postgresql://muster@127.0.0.1:{self.port}/{name}"

    def _create(self, name: str, template: str) -> None:
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                    sql.Identifier(name), sql.Identifier(template)
                )
            )


@contextmanager
def running(settings: str = NOT_DURABLE) -> Iterator[Postgres]:
    """A server that ends with the block; skips the test where PostgreSQL isn't installed."""
    if BIN is None:
        pytest.skip("PostgreSQL's server isn't installed: deploy/need postgresql")
    # Root may not run it, and nobody may not enter pytest's own folders.
    directory = Path(tempfile.mkdtemp(prefix="muster-pg-"))
    as_user: list[str] = []
    if os.geteuid() == 0:
        as_user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
        shutil.chown(directory, "nobody", "nogroup")
    data, port = directory / "data", free_port()

    def run(*command: str | Path) -> None:
        done = subprocess.run(
            [*as_user, *command], cwd=directory, check=False, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    try:
        run(
            BIN / "initdb", "-D", data, "-U", "muster", "-A", "trust", "-N", "-E", "UTF8",
            "--no-instructions",
        )  # fmt: skip
        options = f"-p {port} -h 127.0.0.1 -k {directory} {settings}"
        log = directory / "log"
        run(BIN / "pg_ctl", "-D", data, "-w", "-t", "60", "-o", options, "-l", log, "start")
        try:
            yield Postgres(port)
        finally:
            run(BIN / "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(directory, ignore_errors=True)
