"""``muster-agent status``: what this device runs and waits for, read beside the running agent."""

import http.client
import socket
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from muster_agent.app import outages
from muster_agent.base.config import Config
from muster_agent.selfupdate import record
from muster_agent.storage.lock import holder
from muster_agent.storage.rows import JournalRow, Pointer
from muster_agent.storage.state import read_state
from muster_agent.update.interlocks import DeviceConditions
from muster_protocol.wire.errors import MusterError

ANSWER_SECONDS = 2.0


class StatusError(MusterError):
    """There is nothing to tell."""


def read(config: Config) -> dict[str, Any]:
    """JSON-able. Raises StatusError when the agent has never run here."""
    try:
        state = read_state(config.directory)
        adopted, pointers, journal = state.adopted(), state.pointers(), state.journal()
        (waiting,) = state.connection.execute("SELECT count(*) FROM outbox_row").fetchone()
        state.close()
    except sqlite3.Error as error:
        raise StatusError(
            f"{config.directory}: no readable database ({error}): has muster-agent run here?"
        ) from None
    pid = holder(config.directory)
    offline = outages.read(config.directory) if pid is not None else None
    names = sorted({*pointers, *journal})
    return {
        "device": config.device,
        "pid": pid,
        "offline": {"since": offline.since, "reason": offline.reason} if offline else None,
        "epoch": adopted.epoch if adopted else 0,
        "generation": adopted.generation if adopted else 0,
        "outbox_rows": waiting,
        "agent_update": record.words(record.load(config.directory) or record.Record()),
        "slots": {
            slot: _slot(config, slot, pointers.get(slot), journal.get(slot)) for slot in names
        },
    }


def _slot(
    config: Config, slot: str, pointer: Pointer | None, row: JournalRow | None
) -> dict[str, Any]:
    path = config.socket_path(slot)
    inputs = DeviceConditions(config.directory, config.interlocks)
    return {
        "committed": f"{pointer.goal.model} {pointer.goal.version}" if pointer else None,
        "manifest": pointer.goal.manifest if pointer else None,
        "state": row.state if row else "idle",
        "goal": f"{row.goal.model} {row.goal.version}" if row and row.goal else None,
        "refusal": row.refusal if row else None,
        "detail": row.detail if row else "",
        "socket": str(path),
        "ready": answers(path),
        "swap_waits_for": inputs.hold(slot) or inputs.interlock(slot),
    }


def answers(path: Path) -> bool:
    """Whether a worker behind this socket says it is ready."""
    connection = http.client.HTTPConnection("localhost", timeout=ANSWER_SECONDS)
    try:
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.settimeout(ANSWER_SECONDS)
        connection.sock.connect(str(path))
        connection.request("GET", "/v2/health/ready")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def render(status: dict[str, Any]) -> str:
    """For people."""
    running = f"running, pid {status['pid']}" if status["pid"] is not None else "not running"
    directive = f"directive {status['epoch']}.{status['generation']}"
    waiting = f"{status['outbox_rows']} rows wait for the hub"
    lines = [f"{status['device']}: {running}; {directive}; {waiting}"]
    if offline := status["offline"]:
        since = datetime.fromtimestamp(offline["since"], UTC)
        lines.append(f"  offline since {since:%Y-%m-%d %H:%M:%S} UTC: {offline['reason']}")
    if update := status["agent_update"]:
        lines.append(f"  {update}")
    if not status["slots"]:
        lines.append("  no slot has a model yet")
    for name, slot in status["slots"].items():
        serves = "serving" if slot["ready"] else "not answering"
        lines.append(f"  {name}: {slot['committed'] or 'no model'}, {serves} on {slot['socket']}")
        if slot["swap_waits_for"]:
            lines.append(f"    a swap waits for {slot['swap_waits_for']}")
        if slot["state"] not in ("idle", "committed"):
            reason = f": {slot['refusal']}: {slot['detail']}" if slot["refusal"] else ""
            lines.append(f"    update to {slot['goal']} is {slot['state']}{reason}")
    return "\n".join(lines)
