"""A hub replaces its authority and then moves; real agents follow without anybody near them."""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509

from muster_agent.identity.contact import FILE
from muster_hub.admin import main
from muster_hub.demo import settings
from muster_hub.demo.fleet import program
from support.ports import free_port
from support.served import Served, finish
from support.waiting import eventually

pytestmark = [pytest.mark.system, pytest.mark.long, pytest.mark.timeout(400)]
WAIT_SECONDS = 120.0


def wait(what: str, done: Callable[[], bool]) -> None:
    assert eventually(done, WAIT_SECONDS), f"not within {WAIT_SECONDS:.0f} s: {what}"


class Fleet:
    """A hub, and agents that know nothing but the address they were enrolled at."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.hub = Served(directory / "hub")
        self.serving = self.hub.ready()
        self.agents: dict[str, subprocess.Popen[bytes]] = {}

    def enrol(self, name: str) -> None:
        body = {"labels": {}, "uses": 1, "expires_seconds": 600, "device": name}
        subprocess.run(
            [
                program("muster-agent"), "enroll", "--dir", self.directory / name,
                "--hub", f"https://localhost:{self.hub.http}",
                "--token", self.hub.ask("/enroll-tokens", body)["token"],
                "--root", self.hub.data / "tuf" / "1.root.json",
            ],
            check=True, capture_output=True, timeout=60,
        )  # fmt: skip
        settings.change(self.directory / name / "agent.toml", {"timers.report_seconds": 2.0})

    def run(self, name: str) -> None:
        with (self.directory / f"{name}.log").open("wb") as log:
            self.agents[name] = subprocess.Popen(
                [program("muster-agent"), "run", "--dir", self.directory / name],
                stdout=log, stderr=log,
            )  # fmt: skip

    def stop_hub(self) -> None:
        self.serving.terminate()
        assert finish(self.serving)[0] == 0

    def restart_hub(self) -> None:
        self.stop_hub()
        self.serving = self.hub.ready()

    def come_back(self) -> None:
        """Every running agent is heard of after now."""
        since = time.time()
        for name in self.agents:
            wait(f"{name} is heard of", lambda name=name: (  # type: ignore[misc]  # bound now
                self.hub.ask(f"/devices/{name}")["last_seen"] or 0.0) > since)  # fmt: skip

    def issued_by(self, name: str, authority: Path) -> bool:
        held = x509.load_pem_x509_certificate(
            (self.directory / name / "identity" / "cert.pem").read_bytes()
        )
        return held.issuer == x509.load_pem_x509_certificate(authority.read_bytes()).subject

    def close(self) -> None:
        for process in self.agents.values():
            process.terminate()
        for process in self.agents.values():
            process.wait(60)
        if self.serving.poll() is None:
            self.stop_hub()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def run(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run_it(*arguments: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main.main([*arguments, "--data", str(fleet.hub.data)])
        said = capsys.readouterr()
        assert not ended.value.code, said.err
        return said.out

    return run_it


def test_devices_follow_an_authority_that_is_replaced_and_a_hub_that_moves(
    fleet: Fleet, run: Callable[..., str]
) -> None:
    for name in ("cam-0", "cam-1", "drawer"):
        fleet.enrol(name)
    for name in ("cam-0", "cam-1"):
        fleet.run(name)
    fleet.come_back()

    run("keys", "rotate-ca", "--yes")
    fleet.restart_hub()
    second = fleet.hub.data / "keys" / "ca" / "next" / "ca.pem"
    for name in fleet.agents:
        wait(f"{name} is renewed", lambda name=name: fleet.issued_by(name, second))  # type: ignore[misc]  # bound now
    wait("both have heard", lambda: "\n1 devices have not" in run("keys", "rotate-ca"))
    assert "drawer: it has never reported" in run("keys", "rotate-ca", "--finish", "--yes")
    fleet.restart_hub()
    fleet.come_back()

    http, broker = free_port(), free_port()
    run("move", "--to", f"https://localhost:{http}", "--broker", f"localhost:{broker}", "--yes")
    wait("both have heard", lambda: "\n1 devices have not" in run("move"))
    fleet.stop_hub()
    shutil.move(fleet.hub.data, fleet.directory / "elsewhere")
    fleet.hub.data, fleet.hub.http = fleet.directory / "elsewhere", http
    settings.change(fleet.hub.data / "hub.toml", {"http.port": http, "broker.port": broker})
    fleet.serving = fleet.hub.ready()
    fleet.come_back()
    for name in fleet.agents:
        assert (fleet.directory / name / "identity" / FILE).exists()
        assert str(broker) not in (fleet.directory / name / "agent.toml").read_text()
