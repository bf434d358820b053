"""A factory's rollouts as a story: real broker, real hub, 24 light agents on real links."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from muster_client.app import app
from muster_hub.access.governance import make_token
from muster_hub.api.hub import Hub
from muster_hub.app.initialise import NewHub, initialise
from muster_hub.app.services import FleetServices as Service
from muster_hub.rollouts import commands, reading
from muster_hub.settings.config import BrokerSettings, Http
from muster_hub.storage import models
from muster_protocol.wire import manifest
from support.hub_kit import serve
from support.light_agents import SLOT, Fleet
from support.ports import HOST, free_port
from support.waiting import until
from wire_samples import MANIFEST

pytestmark = pytest.mark.system

DEVICES = tuple(f"press-{n:02}" for n in range(24))
AWAY = DEVICES[-3:]
BUDGET = [{"group_by": ["line"], "max_unavailable": 2}]


class Factory:
    """Three lines of eight presses; three presses are switched off."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        config = initialise(
            directory / "hub",
            NewHub(("localhost", HOST), Http(host=HOST, port=free_port()),
                   BrokerSettings(host=HOST, port=self.port)),
        )  # fmt: skip
        self.hub = Hub.open(config, time.time)
        self.files = directory / "devices"
        self.files.mkdir()
        self.ca = self.files / "ca.pem"
        self.ca.write_bytes(self.hub.pki.ca_pem)
        with self.hub.store.write() as session:
            session.add(models.Model(name="digits", created=time.time()))
            for number, name in enumerate(DEVICES):
                pair = self.hub.pki.issue_client(name, time.time())
                (self.files / f"{name}.pem").write_bytes(pair.certificate_pem)
                (self.files / f"{name}.key").write_bytes(pair.key_pem)
                labels = {"line": str(number % 3 + 1), "site": "berlin"}
                session.add(models.Device(id=name, created=time.time(), labels=labels))
        for version in ("1", "2", "3"):
            self.publish(version)
        self.agents = Fleet()

    def publish(self, version: str) -> None:
        """Register a version as checked, signed and published."""
        data = manifest.encode(msgspec.structs.replace(MANIFEST, model="digits", version=version))
        sha256 = self.hub.blobs.put(data)
        with self.hub.store.write() as session:
            session.add(
                models.Version(
                    model="digits", version=version, manifest_sha256=sha256, manifest=data,
                    status="published", size_bytes=1, created=time.time(), created_by="test",
                )
            )  # fmt: skip

    def join(self, *names: str) -> None:
        for name in names:
            bad = ("3",)
            self.agents.join(name, self.port, self.files, self.ca, bad=bad)

    def start(self, version: str, **plan: Any) -> int:
        with self.hub.store.write() as session:
            number = commands.start_rollout(
                session, model="digits", version=version, slot=SLOT, selector="site=berlin",
                by="anna", now=time.time(), **plan,
            )  # fmt: skip
        self.hub.changed()
        return number

    def view(self, number: int) -> dict[str, Any]:
        with self.hub.store.read() as session:
            found = reading.rollout(session, number, time.time())
        assert found is not None
        return found

    def explained(self, number: int) -> str:
        """What ``muster rollout explain`` prints, by the hub's real API; lines run together."""
        server, thread, url = serve(self.hub)
        try:
            with self.hub.store.write() as session:
                token = make_token(session, "reader", "viewer", time.time())
            command = ["--hub", url, "--token", token, "rollout", "explain", str(number)]
            ended = CliRunner().invoke(app, command)
        finally:
            server.should_exit = True
            thread.join()
        assert ended.exit_code == 0, ended.output or ended.exception
        return " ".join(ended.stdout.split())

    def until(self, number: int, fact: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        return until(lambda: self.view(number), fact)


@pytest.fixture
def factory(tmp_path: Path) -> Iterator[Factory]:
    factory = Factory(tmp_path)
    with Service(factory.hub).running():
        factory.join(*DEVICES[:-3])
        yield factory
        factory.agents.close()
    factory.hub.store.close()


def test_a_good_release_completes_and_a_bad_one_goes_back_by_itself(factory: Factory):
    agents = factory.agents
    number = factory.start(
        "1", canary=3, strata=["line"], min_soak_seconds=1, budgets=BUDGET,
        waves=[{"share": 0.5, "soak_seconds": 0.5, "name": "half"}],
    )  # fmt: skip
    view = factory.until(number, lambda view: view["state"] != "running")
    assert view["state"] == "completed", view["reason"]
    assert "21 committed; 3 not yet (press-21, press-22, press-23)" in view["reason"]
    assert agents.running() == dict.fromkeys(DEVICES[:-3], "1")
    assert agents.most_down <= 6
    assert {wave["name"]: len(wave["devices"]) for wave in view["waves"]}["canary"] == 3
    away = [
        device for wave in view["waves"] for device in wave["devices"] if device["device"] in AWAY
    ]
    assert {item["detail"] for item in away} <= {"waiting until it is back"}
    explained = factory.explained(number)
    for words in (
        "Started by anna", "Wave 1 of 3 (canary)", "soaking", "(half)",
        "Completed: 21 committed; 3 not yet (press-21, press-22, press-23)",
    ):  # fmt: skip
        assert words in explained

    factory.join(*AWAY)
    view = factory.until(number, lambda view: "Completed: 24 committed." in view["reason"])
    assert agents.running() == dict.fromkeys(DEVICES, "1")
    assert "Completed: 24 committed." in factory.explained(number)

    before = len(agents.swaps)
    number = factory.start("3", canary=3, strata=["line"], min_soak_seconds=1, budgets=BUDGET)
    view = factory.until(number, lambda view: view["state"] != "running")
    assert view["state"] == "stopped"
    assert "golden_mismatch: case 3" in view["reason"]
    tried = {name for _, name, version in agents.swaps[before:] if version == "3"}
    assert 1 <= len(tried) <= 3, "no more than the canary was touched"
    assert view["history"][-1]["reason"] == view["reason"]
    explained = factory.explained(number)
    assert explained.index("Started by anna") < explained.rindex("golden_mismatch: case 3")

    def all_back(_: dict[str, Any]) -> bool:
        held = {name: agent.goal() for name, agent in agents.agents.items()}
        return all(goal is not None and goal.version == "1" for goal in held.values())

    factory.until(number, all_back)
    assert agents.running() == dict.fromkeys(DEVICES, "1")
