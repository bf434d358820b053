"""The guides for a new user, line by line: each command is run as it stands, on one machine."""

import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from support import counterparts
from support import models as fixtures
from support.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
CLASSES = ("ok", "worn", "dry")
CLIENTS = {
    "tritonclient": ["tritonclient[http]==2.73.0", "numpy==2.4.6"],
    "kserve": ["kserve==0.21.0"],
}
"""Clients of other makers that a page uses, and what is installed for them."""
NODE_RED = "4.1.15"
NODE_RED_SECONDS = 120.0
NOT_RUN = {"csharp"}
"""Languages that there is nothing to run with here; the page says so."""
COMMANDS_MAX = 4
"""From a model file and a table to a running model that is watched."""

pytestmark = [pytest.mark.doors, pytest.mark.timeout(1800)]


def blocks(page: str) -> list[tuple[str, str]]:
    """(Language, text) of each block; a shell's has no language."""
    return BLOCK.findall((ROOT / "docs" / page).read_text(encoding="utf-8"))


class Visitor:
    """A folder with a model and a table, and somebody who types what a page says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(folder),
        }
        w, b = fixtures.weights()
        rows = np.random.default_rng(1).normal(size=(3000, 4)).astype(np.float32)
        truth = fixtures.softmax(rows, w, b).argmax(axis=1)
        (folder / "pump.onnx").write_bytes(fixtures.dense_onnx(w, b))
        lines = (
            f"2026-01-01T00:{i // 60 % 60:02}:{i % 60:02}.{i // 3600},"
            f"{','.join(map(str, row))},{CLASSES[label]}"
            for i, (row, label) in enumerate(zip(rows.tolist(), truth, strict=True))
        )
        (folder / "train.csv").write_text("at,flow,temp,p1,p2,state\n" + "\n".join(lines) + "\n")

    def types(self, text: str, interpreter: str = "bash") -> str:
        """What a block prints; its port is the one that is free here."""
        text = text.replace("localhost:8080", f"localhost:{self.port}")
        text = text.replace("quickstart fleet\n", f"quickstart fleet --port {self.port}\n")
        command = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}
        done = subprocess.run(
            [*command[interpreter], text], cwd=self.folder, env=self._environment,
            capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"
        for name, value in re.findall(r"^export (\w+)=(.*)$", text, re.MULTILINE):
            self._environment[name] = value
        return done.stdout


@pytest.fixture(scope="module")
def visitor(tmp_path_factory):
    made = Visitor(tmp_path_factory.mktemp("visitor"))
    yield made
    made.types("muster quickstart fleet --stop\n")


@pytest.fixture(scope="module")
def shown(visitor):
    """What each block of the five minutes printed, up to the clean-up."""
    *lines, last = [text for language, text in blocks("five-minutes.md") if not language]
    assert last == "muster quickstart fleet --stop\n"
    return [(text, visitor.types(text)) for text in lines]


def test_a_table_and_a_model_file_become_a_watched_model_in_four_commands(shown):
    typed = [line for text, _ in shown[:4] for line in text.splitlines()]
    commands = [line for line in typed if not line.startswith("export ")]
    assert len(commands) == COMMANDS_MAX
    answers = [printed for _, printed in shown[:4]]
    assert "device-1 is online" in answers[0]
    assert "published" in answers[1]
    assert "completed" in answers[2]
    assert json.loads(answers[3])["parameters"] == {"quality": "good"}


def test_labels_are_counted_and_drift_is_named_by_its_column(shown):
    after = "\n".join(printed for _, printed in shown[4:])
    assert '{"accepted":1}' in after
    assert re.search(r"labels of pump/1\s+1 labels, (100|0).0% right", after)
    assert re.search(r"^ *flow +drift", after, re.MULTILINE), after


@pytest.mark.usefixtures("shown")
@pytest.mark.parametrize(
    ("language", "text"),
    [each for each in blocks("ask.md") if each[0] not in NOT_RUN],
    ids=lambda value: value.split("\n")[0][:40],
)
def test_each_way_to_ask_works_as_it_stands(visitor, language, text, tmp_path):
    here = text.replace("localhost:8080", f"localhost:{visitor.port}")
    client = next((name for name in CLIENTS if name in text and language == "python"), None)
    if language == "json":
        printed = node_red(here, tmp_path)
    elif client is not None:
        printed = with_packages(CLIENTS[client], here, tmp_path)
    else:
        printed = visitor.types(text, language or "bash")
    assert printed.strip()


def test_what_no_test_runs_says_so():
    page = (ROOT / "docs" / "ask.md").read_text(encoding="utf-8")
    for language in NOT_RUN:
        assert language in {each for each, _ in blocks("ask.md")}
    assert "the one example here that no test runs" in page


def with_packages(wanted: list[str], text: str, folder: Path) -> str:
    """What Python prints that has these packages, in an environment of its own."""
    python = counterparts.environment("client", *wanted) / "python"
    done = subprocess.run(
        [python, "-c", text], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout


def node_red(flow: str, folder: Path) -> str:
    """What a flow shows first. Node-RED is installed once into `build/node-red`."""
    home, environment = ROOT / "build" / "node-red" / NODE_RED, counterparts.with_node()
    if not (home / "ready").exists():
        home.mkdir(parents=True, exist_ok=True)
        npm = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", home]
        counterparts.install([*npm, f"node-red@{NODE_RED}"], env=environment)
        (home / "ready").touch()
    (folder / "flows.json").write_text(flow)
    program = [home / "node_modules" / ".bin" / "node-red", "--userDir", folder]
    with subprocess.Popen(
        [*program, "--port", str(free_port()), "flows.json"], cwd=folder, env=environment,
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        limit = threading.Timer(NODE_RED_SECONDS, process.kill)
        limit.start()
        try:
            lines = iter(process.stdout.readline, "")
            shown = next((line for line in lines if "[debug:shown]" in line), None)
            assert shown is not None, "the flow showed nothing"
            scores = next(lines)
        finally:
            limit.cancel()
            process.kill()
    assert len(json.loads(scores)) == len(CLASSES)
    return scores
