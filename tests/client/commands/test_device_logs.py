"""`muster device logs` against a real hub."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from muster_client.app import app
from muster_hub.storage.models import Device
from muster_hub.storage.telemetry import EventRow
from support.console_kit import add_devices, report
from support.hub_kit import Kit, open_kit


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    made = open_kit(tmp_path)
    said = report("1", now=made.clock())
    said["facts"]["understands"] = ["log_watch"]
    add_devices(made, ["press-7"], report=said)
    yield made
    made.close()


def muster(kit: Kit, *arguments: str):
    token = kit.as_("operator")["Authorization"].removeprefix("Bearer ")
    return CliRunner().invoke(app, ["--hub", str(kit.http.base_url), "--token", token, *arguments])


def say(kit: Kit, *lines: str) -> None:
    with kit.hub.store.write() as session:
        for line in lines:
            row = EventRow(device="press-7", kind="log", received=kit.clock(), detail=line)
            row.data = {"happened": kit.clock()}
            session.add(row)


def answer(kit: Kit) -> None:
    """As the device does once it hears that it is asked."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with kit.hub.store.read() as session:
            if session.get_one(Device, "press-7").log_watches:
                break
        time.sleep(0.02)  # nobody has asked yet
    say(kit, "WARNING agent.link: no route", "INFO agent: online")


def test_lines_are_shown_that_came_after_somebody_asked(kit):
    say(kit, "INFO agent: long ago")
    device = threading.Thread(target=answer, args=(kit,))
    device.start()
    shown = muster(kit, "device", "logs", "press-7", "--follow", "--minutes", "1", "-n", "2")
    device.join()
    assert "long ago" not in shown.stdout
    assert "agent.link  no route" in shown.stdout
    assert "online" in shown.stdout
    lines = muster(kit, "device", "logs", "press-7", "--last", "--json").stdout.splitlines()
    assert [json.loads(line)["line"] for line in lines] == ["long ago", "no route", "online"]


def test_where_nothing_comes_it_says_so(kit):
    asked = muster(kit, "device", "logs", "press-7", "--wait-seconds", "0")
    assert asked.exit_code == 1
    assert "has sent no new line" in asked.stdout
