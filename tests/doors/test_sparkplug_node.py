"""Sparkplug B with the packages of the specification's makers on the other side, in Node."""

import asyncio
import json
import queue
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import msgspec
import pytest

from muster_agent.base.feed_settings import SparkplugSink, SparkplugSource
from muster_agent.feeds.answers import FeedAnswer
from muster_agent.feeds.samples import Lost
from muster_agent.feeds.sources.base import FeedPlace
from muster_agent.feeds.sparkplug.answers import SparkplugAnswers
from muster_agent.feeds.sparkplug.tags import SparkplugTags
from support.counterparts import install, with_node
from support.fed import PlantBroker
from support.plant_servers import Heard, running

HERE = Path(__file__).parent / "sparkplug"
PACKAGES = ("sparkplug-client@3.2.4", "sparkplug-payload@1.0.3", "mqtt@4.3.8")
WAIT_SECONDS = 60.0
PLACE = FeedPlace("dev", "press", "part", "slot", Path())

pytestmark = [pytest.mark.doors, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """Node and the packages, in a folder of their own; starts a script there."""
    folder, environment = tmp_path_factory.mktemp("node"), with_node()
    npm = ["npm", "install", "--no-audit", "--no-fund", "--loglevel=error", *PACKAGES]
    install(npm, cwd=folder, env=environment)

    def start(script: str, *arguments: str) -> "Script":
        return Script(["node", str(HERE / script), *arguments], folder, environment)

    return start


class Script:
    """A running script: what it prints, line by line, and a way to speak to it."""

    def __init__(self, command: list[str], folder: Path, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            command, cwd=folder, env=environment | {"NODE_PATH": str(folder / "node_modules")},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._lines = queue.Queue[str]()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.strip())

    def says(self, holds: Callable[[str], bool]) -> str:
        ends = time.monotonic() + WAIT_SECONDS
        while not holds(line := self._lines.get(timeout=max(ends - time.monotonic(), 0.01))):
            pass
        return line

    def message(self, kind: str) -> dict[str, Any]:
        """The next message of a kind, decoded, its metrics by name or else by alias."""
        found = json.loads(self.says(lambda line: f"/{kind}/" in line))["payload"]
        found["metrics"] = {
            metric.get("name") or metric["alias"]: metric for metric in found["metrics"]
        }
        return found

    def hear(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(WAIT_SECONDS)


def answer(risk: float, at: float, **fields: Any) -> FeedAnswer:
    given = {
        "outputs": {"risk": [risk]}, "grade": "good", "reason": "", "basis": "model",
        "model": "m", "version": "1", "at": at,
    }  # fmt: skip
    return FeedAnswer(**given | fields)


def settings(kind: type, broker: PlantBroker, node_name: str, **fields: Any) -> Any:
    given = {"host": "127.0.0.1", "port": broker.port, "group": "plant", "edge_node": node_name}
    return msgspec.convert(given | {"kind": "sparkplug"} | fields, kind)


def test_births_data_rebirth_history_and_death_are_decoded_by_theirs(node, tmp_path):
    async def story(host: Script, broker: PlantBroker) -> None:
        place = FeedPlace("dev", "press", "out", "slot", tmp_path)
        made = SparkplugAnswers(settings(SparkplugSink, broker, "ours"), place)
        now = time.time()
        await made.open()
        born = await asyncio.to_thread(host.message, "NBIRTH")
        assert born["seq"] == 0
        assert born["metrics"]["bdSeq"]["value"] == 0
        assert born["metrics"]["Node Control/Rebirth"]["value"] is False
        await made.write(answer(0.25, now))
        born = await asyncio.to_thread(host.message, "NBIRTH")
        risk = born["metrics"]["outputs/risk"]
        assert (risk["value"], risk["type"]) == (0.25, "Double")
        assert risk["properties"]["Quality"] == {"value": 192, "type": "Int32"}
        made.miss(answer(0.5, now - 60))
        await made.write(answer(0.75, now, grade="uncertain"))
        data = await asyncio.to_thread(host.message, "NDATA")
        assert data["seq"] == 1
        assert data["metrics"][risk["alias"]]["value"] == 0.75
        late = await asyncio.to_thread(host.message, "NDATA")
        assert late["metrics"][risk["alias"]]["value"] == 0.5
        assert late["metrics"][risk["alias"]]["isHistorical"] is True
        host.hear("ours")
        again = await asyncio.to_thread(host.message, "NBIRTH")
        assert again["metrics"]["outputs/risk"]["value"] == 0.75
        await made.close()
        dead = await asyncio.to_thread(host.message, "NDEATH")
        assert dead["metrics"]["bdSeq"]["value"] == 0

    with PlantBroker(tmp_path) as broker:
        url = f"mqtt://127.0.0.1:{broker.port}"
        with node("host.js", url, "plant") as host:
            host.says(lambda line: "ready" in line)
            asyncio.run(story(host, broker))


def test_their_node_and_the_device_behind_it_are_read_through_birth_data_and_death(node, tmp_path):
    tags = {"flow": {"metric": "Flow"}, "level": {"metric": "Level", "device": "pump"}}

    async def story(broker: PlantBroker) -> None:
        heard = Heard()
        given = settings(SparkplugSource, broker, "theirs", tags=tags)
        made = SparkplugTags(given, heard.inlet.of(given.tags), PLACE)
        url = f"tcp://127.0.0.1:{broker.port}"
        with node("edge.js", url, "plant", "theirs") as edge:
            await asyncio.to_thread(edge.says, lambda line: line == "born")
            async with running(made):
                # It was born before: it is asked to be born again, with its device.
                assert (await heard.sample("flow")).value == 1.25
                assert (await heard.sample("level")).value == -2.0
                edge.hear("node 2.5")
                assert (await heard.sample("flow", lambda each: each.value != 1.25)).value == 2.5
                edge.hear("device -3")
                assert (await heard.sample("level", lambda each: each.value != -2.0)).value == -3.0
                edge.hear("death")
                lost = await heard.until(lambda each: isinstance(each, Lost))
                assert lost == Lost(("level",))
                edge.hear("stop")
                lost = await heard.until(lambda each: isinstance(each, Lost))
                assert lost == Lost(("flow", "level"))

    with PlantBroker(tmp_path) as broker:
        asyncio.run(story(broker))
