"""The agent's own ``/metrics`` for a Prometheus on the device: off, or on the loopback alone.

Each scrape reads the agent's directory as ``muster-agent status`` does, on a thread that has
nothing to do with the supervisor's: whoever scrapes, however often, holds no update up.
"""

import logging
import os
import resource
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, get_args

from muster_agent.app import facts, status
from muster_agent.app.exposition import Family, text
from muster_agent.base.config import Config
from muster_agent.identity.identity import CERT_FILE, read_certificate
from muster_agent.storage.state import read_state
from muster_protocol.wire.errors import MusterError
from muster_protocol.wire.messages import UpdateState

log = logging.getLogger(__name__)
HOST = "127.0.0.1"
PATH = "/metrics"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
REQUEST_SECONDS = 5.0
"""A client that says nothing for this long is left; others wait meanwhile."""
NAMES = frozenset({"127.0.0.1", "localhost"})
"""What a request may call this machine: a web page that resolves to it may not read."""


@contextmanager
def serving(config: Config, request_seconds: float = REQUEST_SECONDS) -> Iterator[None]:
    """Answer scrapes while the agent runs, if ``metrics.port`` is set. A port that is taken is
    logged: a device runs its models with or without being watched.
    """
    port = config.settings.metrics.port
    if not port:
        yield
        return
    try:
        server = _Server(config, port, request_seconds)
    except OSError as error:
        log.warning("no metrics: port %d of %s: %s", port, HOST, error.strerror or error)
        yield
        return
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def read(config: Config) -> bytes:
    """One scrape. Raises MusterError, OSError or sqlite3.Error when something can't be read."""
    certificate = config.directory / "identity" / CERT_FILE
    found = read_certificate(certificate.read_bytes(), str(certificate))
    expires = int(found.not_valid_after_utc.timestamp())
    return text(families(status.read(config), _outbox(config.directory), _process(), expires))


def families(
    seen: Mapping[str, Any],
    outbox: Mapping[str, Mapping[str, int]],
    process: Mapping[str, float],
    expires: int,
) -> Iterator[Family]:
    """``status.read`` and what else was looked up, as metrics. Pure.

    ``outbox``: stream → rows and bytes that wait, rows merged and dropped since it was made.
    ``expires``: of the device's certificate, in seconds since 1970.
    """
    yield Family(
        "muster_agent_info", "gauge", "What runs here.",
        [({"device": seen["device"], "version": facts.agent_version()}, 1.0)],
    )  # fmt: skip
    yield _plain(
        "muster_agent_connected", "gauge", "1 while there is a link to the hub's broker.",
        float(seen["offline"] is None),
    )  # fmt: skip
    yield _plain(
        "muster_agent_certificate_expiry_timestamp_seconds", "gauge",
        "When the device's certificate ends, in seconds since 1970.", float(expires),
    )  # fmt: skip
    yield _plain(
        "muster_agent_directive_generation", "gauge",
        "Generation of the directive in force, in its epoch.", float(seen["generation"]),
    )  # fmt: skip
    for name, kind, says in _OUTBOX:
        yield Family(
            f"muster_agent_outbox_{name}", kind, says,
            [
                ({"stream": stream}, float(totals[name.removesuffix("_total")]))
                for stream, totals in outbox.items()
            ],
        )  # fmt: skip
    yield from _slots(seen["slots"])
    yield _plain(
        "process_resident_memory_bytes", "gauge", "Of the supervisor, without models' processes.",
        process["memory_bytes"],
    )  # fmt: skip
    yield _plain(
        "process_cpu_seconds_total", "counter", "Used by the supervisor.", process["cpu_seconds"]
    )


_OUTBOX = (
    ("rows", "gauge", "Rows that the hub has not acknowledged."),
    ("bytes", "gauge", "Bytes of those rows."),
    ("merged_total", "counter", "Windows merged into others because the outbox was full."),
    ("dropped_total", "counter", "Rows dropped because the outbox was full."),
)


def _slots(slots: Mapping[str, Mapping[str, Any]]) -> Iterator[Family]:
    yield Family(
        "muster_agent_slot_ready", "gauge", "1 while a worker answers in a slot.",
        [({"slot": name}, float(slot["ready"])) for name, slot in slots.items()],
    )  # fmt: skip
    yield Family(
        "muster_agent_slot_info", "gauge", "Which model is committed in a slot.",
        [
            ({"slot": name, "model": model, "version": version}, 1.0)
            for name, slot in slots.items()
            if slot["committed"]
            for model, _, version in (slot["committed"].partition(" "),)
        ],
    )  # fmt: skip
    yield Family(
        "muster_agent_slot_update_state", "gauge", "1 for the state that a slot's update is in.",
        [
            ({"slot": name, "state": state}, float(slot["state"] == state))
            for name, slot in slots.items()
            for state in get_args(UpdateState)
        ],
    )  # fmt: skip
    yield Family(
        "muster_agent_slot_held", "gauge", "1 while something here forbids a swap in a slot.",
        [({"slot": name}, float(bool(slot["swap_waits_for"]))) for name, slot in slots.items()],
    )  # fmt: skip


def _plain(name: str, kind: str, says: str, value: float) -> Family:
    return Family(name, kind, says, [({}, value)])


def _outbox(directory: Path) -> dict[str, dict[str, int]]:
    state = read_state(directory)
    try:
        rows = state.connection.execute(
            "SELECT stream, rows, bytes, merged, dropped FROM outbox_stream"
        ).fetchall()
    finally:
        state.close()
    return {
        stream: {"rows": count, "bytes": size, "merged": merged, "dropped": dropped}
        for stream, count, size, merged, dropped in rows
    }


def _process() -> dict[str, float]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return {
        "memory_bytes": float(pages * os.sysconf("SC_PAGE_SIZE")),
        "cpu_seconds": used.ru_utime + used.ru_stime,
    }


class _Server(HTTPServer):
    """Answers one request at a time: there is one Prometheus to a device."""

    def __init__(self, config: Config, port: int, request_seconds: float) -> None:
        self.config = config
        self.request_seconds = request_seconds
        super().__init__((HOST, port), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version, sys_version = "muster-agent", ""

    def setup(self) -> None:
        """Before a request is read."""
        self.request.settimeout(self.server.request_seconds)
        super().setup()

    def do_GET(self) -> None:
        """Answer a scrape."""
        name = (self.headers.get("Host") or HOST).rpartition(":")[0] or HOST
        if name not in NAMES:
            self._answer(HTTPStatus.FORBIDDEN, b"this is for programs on this device\n")
        elif self.path != PATH:
            self._answer(HTTPStatus.NOT_FOUND, b"see /metrics\n")
        else:
            try:
                body = read(self.server.config)
            except (MusterError, sqlite3.Error, OSError) as error:
                self._answer(HTTPStatus.SERVICE_UNAVAILABLE, f"{error}\n".encode())
            else:
                self._answer(HTTPStatus.OK, body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        log.debug(format, *args)

    def _answer(self, code: HTTPStatus, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
