"""The demo as a stranger runs it: to the end, interrupted, killed, and again."""

import json
import os
import re
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from muster_hub.demo.processes import Identity
from support.waiting import eventually

pytestmark = [pytest.mark.system, pytest.mark.long]
DEMO = [sys.executable, "-u", "-c", "from muster_client.app import main; main()"]
PATIENCE_SECONDS = 240
PROMISED = {
    "devices", "inferences_fed", "inferences_counted", "failed_requests", "refused_releases",
    "drift_windows_to_alert", "false_alerts", "accuracy_before", "accuracy_after", "bytes_up",
    "bytes_raw", "seconds",
}  # fmt: skip


class Demo:
    """A running `muster demo` whose lines can be waited for."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory
        self.output = directory.parent / f"demo-{time.monotonic_ns()}.txt"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [*DEMO, "demo", "--dir", str(directory), *options],
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def wait_for(self, pattern: str) -> str:
        """Wait for a line; fails when the demo ends without having said it."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            ended = self.process.poll() is not None
            said = self.said()
            if re.search(pattern, said):
                return said
            if ended or time.monotonic() > deadline:
                pytest.fail(f"the demo never said {pattern!r}:\n{said}")
            time.sleep(0.1)  # the demo writes as it goes

    def said(self) -> str:
        return self.output.read_text()

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(PATIENCE_SECONDS)

    def identities(self) -> list[Identity]:
        """Every process of the demo that writes a pid file, and all below them."""
        files = (self.directory / "processes").glob("*.pid")
        pids = {json.loads(file.read_text())["pid"] for file in files}
        found = [Identity.of(pid) for pid in {*pids, *_below(pids)}]
        return [identity for identity in found if identity is not None]


def _below(pids: set[int]) -> set[int]:
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                status = (entry / "stat").read_text()
            except OSError:
                continue
            parents[int(entry.name)] = int(status[status.rindex(")") + 2 :].split()[1])
    below: set[int] = set()
    while more := {pid for pid, parent in parents.items() if parent in pids | below} - below:
        below |= more
    return below


def all_gone(identities: list[Identity]) -> bool:
    """Whether every process has ended, given a moment to."""
    return eventually(
        lambda: not any(Identity.of(identity.pid) == identity for identity in identities)
    )


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    chosen = tmp_path / "demo"
    yield chosen
    for file in (chosen / "processes").glob("*.pid"):
        identity = Identity(**json.loads(file.read_text()))
        if Identity.of(identity.pid) == identity:
            os.killpg(identity.pid, signal.SIGKILL)


def muster(directory: Path, *arguments: str) -> str:
    profile = str(directory / "hub" / "operator.toml")
    ended = subprocess.run(
        [*DEMO, "--profile", profile, *arguments], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def signs_in(directory: Path, link: str) -> bool:
    """Whether a browser that follows the demo's link stands before the fleet."""
    root, _, code = link.partition("/sign-in-link?code=")
    trusted = ssl.create_default_context(cafile=directory / "hub" / "ca.pem")
    with httpx.Client(base_url=root, verify=trusted, timeout=60, headers={"Origin": root}) as http:
        assert http.get(link.removeprefix(root)).status_code == 200
        assert http.post("/sign-in-link", data={"code": code}).status_code == 303
        return "<h1>Fleet" in http.get("/").text


@pytest.mark.timeout(2 * PATIENCE_SECONDS)
def test_the_demo_keeps_its_promises_and_can_be_explored(directory: Path) -> None:
    demo = Demo(directory, "--keep")
    said = demo.wait_for("tail\n")
    assert signs_in(
        directory, re.search(r"^https://\S+/sign-in-link\?code=\S+$", said, re.MULTILINE)[0]
    )
    summary = json.loads((directory / "summary.json").read_text())
    assert set(summary) >= PROMISED
    assert summary["devices"] == 4
    assert summary["inferences_fed"] == summary["inferences_counted"] > 0
    assert summary["failed_requests"] == summary["false_alerts"] == 0
    assert set(summary["refused_releases"].values()) == {
        "chunk_altered", "unsigned_manifest", "golden_mismatch", "worker_died",
    }  # fmt: skip
    assert summary["accuracy_before"] < 0.6 < 0.9 <= summary["accuracy_after"]
    assert 0 < summary["bytes_up"] < summary["bytes_raw"]

    table = muster(directory, "device", "list")
    assert table.count("digits 2") == 4
    assert "image.brightness" in muster(directory, "drift", "show", "cam-3")
    drift = json.loads(muster(directory, "drift", "show", "--selector", "line=a", "--json"))
    assert {view["device"] for view in drift} == {"cam-1", "cam-2"}
    assert "cam-3" in muster(directory, "alert", "list")
    assert "completed" in muster(directory, "rollout", "status", "2")

    running = demo.identities()
    assert len(running) >= 4 + 4 + 2
    assert demo.interrupt() == 0
    assert demo.said().endswith("DEMO OK\n")
    assert all_gone(running)


@pytest.mark.timeout(2 * PATIENCE_SECONDS)
def test_a_demo_that_is_killed_or_interrupted_leaves_nothing_in_the_way_of_the_next(
    directory: Path,
) -> None:
    first = Demo(directory)
    first.wait_for("agents enrolled")
    running = first.identities()
    hub = json.loads((directory / "processes" / "hub.pid").read_text())["pid"]
    os.kill(hub, signal.SIGKILL)
    said = first.wait_for("hub ended with code -9")
    assert first.process.wait(PATIENCE_SECONDS) == 1, said
    assert all_gone(running)

    second = Demo(directory)
    second.wait_for("hub and broker run")
    running = second.identities()
    second.process.kill()
    second.process.wait()

    third = Demo(directory)
    third.wait_for("ended hub, left by an earlier run")
    third.wait_for("hub and broker run")
    assert all_gone(running)
    running = third.identities()
    assert third.interrupt() == 130
    assert all_gone(running)
