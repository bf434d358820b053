"""Adding a runtime, a gate metric with a new count and a channel takes the files that docs name.

Each is done in a copy of the packages, and used there.
"""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("protocol/muster_protocol", "agent/muster_agent", "hub/muster_hub")
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
SECTION = PAGE.split("## Where do I add …")[1].split("\n## ")[0]
KINDS_MIN = 9
TIMEOUT_SECONDS = 100.0


def files_named(kind: str) -> list[str]:
    """Files that the page names for a kind of change, in its words."""
    found = re.search(rf"### {re.escape(kind)}\n(.*?)(?=\n### |\Z)", SECTION, re.DOTALL)
    assert found is not None, f"docs/architecture.md says nothing of {kind!r}"
    return re.findall(r"^- `([^`]+)`", found[1], re.MULTILINE)


@dataclass(frozen=True)
class Addition:
    """Something new: the kinds of change it takes, and what it does to each file."""

    kinds: tuple[str, ...]
    name: str
    made: dict[str, str]
    """New files and their text."""
    changed: dict[str, tuple[tuple[str, str], ...]]
    """Files that are there, and in each of them what is put in place of what."""
    used: str
    """A program that ends well only where the new thing works."""
    untouched: frozenset[str] = field(default_factory=frozenset)
    """Files that the page names, but that this one needs no change of."""


TOY_RUNTIME = Addition(
    kinds=("A runtime",),
    name="toy",
    made={
        "agent/muster_agent/runtimes/toy.py": '''
"""Adds a number."""
from muster_agent.runtimes.base import Package
from muster_protocol.wire.manifest import Tensor

class ToyModel:
    inputs = outputs = (Tensor("x", "FP32", (-1,)),)
    providers = ("CPU",)

    def __init__(self, more):
        self.more = more

    def keep(self, names):
        pass

    def run(self, inputs):
        return {"x": inputs["x"] + self.more}

class ToyBackend:
    packages = (Package("json", "python"),)
    platform = "toy_v1"

    def providers(self, module):
        return ("CPU",)

    def needs(self, providers):
        return "nothing"

    def prepare(self, module):
        pass

    def load(self, source, *, module, threads, side_files, providers):
        return ToyModel(int(source))

BACKEND = ToyBackend()
''',
    },
    changed={
        "protocol/muster_protocol/wire/manifest.py": (
            ('Runtime = Literal["onnx", "tflite"]', 'Runtime = Literal["onnx", "tflite", "toy"]'),
        ),
        "agent/muster_agent/runtimes/registry.py": (
            ("import onnx, tflite", "import onnx, tflite, toy"),
            (
                "        case _:",
                '        case "toy":\n            return toy.BACKEND\n        case _:',
            ),
        ),
    },
    used="""
import numpy as np
from muster_agent import runtimes
assert "toy" in runtimes.available()
model = runtimes.load("toy", b"2")
assert model.run({"x": np.ones(1)})["x"] == 3
""",
)

TOY_METRIC = Addition(
    kinds=("A gate metric", "A count"),
    name="sneezes",
    made={
        "hub/muster_hub/rollouts/gates/metrics/sneezes.py": '''
"""Sneezes of inferences."""
from muster_hub.rollouts.gates.metric import Metric

class Sneezes:
    counts = ("sneezes", "inferences")

    def rule(self, plan):
        return Metric(name="sneezes", scale=0.5, margin=0.4, false_stop=plan.false_stop)

    def read(self, look, plan):
        return look.share("sneezes", "inferences")

METRIC = Sneezes()
''',
    },
    changed={
        "hub/muster_hub/rollouts/gates/metrics/registry.py": (
            ("    p95_latency,\n", "    p95_latency,\n    sneezes,\n"),
            ('"wrong labels", "drift"]', '"wrong labels", "drift", "sneezes"]'),
            (
                "        case _:",
                '        case "sneezes":\n            return sneezes.METRIC\n        case _:',
            ),
        ),
        "protocol/muster_protocol/signals/summary.py": (
            (
                "    compared_champion_right: int = 0\n",
                "    compared_champion_right: int = 0\n    sneezes: int = 0\n",
            ),
        ),
    },
    untouched=frozenset({"agent/muster_agent/observe/fold.py"}),
    used="""
from pathlib import Path
from muster_hub.mqtt.commit import commit
from muster_hub.mqtt.inbound import read
from muster_hub.rollouts.gates import sums
from muster_hub.rollouts.gates.look import Look
from muster_hub.rollouts.gates.metrics.registry import METRICS
from muster_hub.rollouts.plan import read_plan
from muster_protocol.signals import summary_wire
from muster_protocol.signals.summary import Summary, Tally
from muster_protocol.wire import topics
from support.hub_store import batch, open_store, stamp

plan = read_plan({"gate": {"metrics": ["sneezes"]}}).gate
store = open_store(Path(sys.argv[1]), "a", "b", "c")
for device, sneezes in (("a", 9), ("b", 1), ("c", 2)):
    tally = Tally(inferences=100, sneezes=sneezes)
    window = Summary("digits", "2", "ab" * 32, stamp(), stamp(), counts=tally)
    payload = batch({1: summary_wire.encode(window)})
    with store.write() as session:
        commit(session, [read(topics.up(device, "telemetry"), payload, 1e6)], 1e6)
metric = METRICS.find("sneezes")
with store.read() as session:
    found = sums.read(
        session, ["a", "b", "c"], model="digits", since=0, until=2e6, counts=metric.counts
    )

class Device:
    labels = {}
    def __init__(self, device):
        self.device = device

look = Look(
    canaries=[Device("a")], controls=[Device("b"), Device("c")], strata=(), now=found, past={},
    expected={}, past_expected=0, window_seconds=1, source=None,
)
rates = metric.read(look, plan)
assert rates.canary.events.tolist() == [9] and rates.control.events.tolist() == [1, 2]
assert rates.control.exposure.tolist() == [100, 100]
assert plan.gate().metrics[0].name == "sneezes"
""",
)

TOY_CHANNEL = Addition(
    kinds=("An alert channel",),
    name="pigeon",
    made={
        "hub/muster_hub/alerts/channels/pigeon.py": '''
"""Carries a delivery home."""
HOME = []

class PigeonChannel:
    def lacks(self, receiver):
        return "" if receiver.url else "needs a `url`"

    def secret_file(self, receiver):
        return ""

    def send(self, receiver, secret, delivery):
        HOME.append(delivery.body)

CHANNEL = PigeonChannel()
''',
    },
    changed={
        "hub/muster_hub/settings/alerts.py": (
            ('"pagerduty", "ntfy"]', '"pagerduty", "ntfy", "pigeon"]'),
        ),
        "hub/muster_hub/alerts/channels/registry.py": (
            ("import alertmanager, email, ntfy,", "import alertmanager, email, pigeon, ntfy,"),
            (
                "        case _:",
                '        case "pigeon":\n            return pigeon.CHANNEL\n        case _:',
            ),
        ),
    },
    used="""
import msgspec
from muster_hub.alerts.channels.base import Outgoing
from muster_hub.alerts.channels.pigeon import HOME
from muster_hub.alerts.channels.registry import CHANNELS
from muster_hub.settings.config import HubConfig
loft = {"name": "loft", "kind": "pigeon", "url": "https://loft.example"}
config = msgspec.convert({"alerts": {"receivers": [loft]}}, HubConfig)
(receiver,) = config.alerts.receivers
CHANNELS[receiver.kind].send(receiver, b"", Outgoing("id", b"coo", 0.0))
assert HOME == [b"coo"]
""",
)

ADDITIONS = {item.name: item for item in (TOY_RUNTIME, TOY_METRIC, TOY_CHANNEL)}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    return tmp_path


def add(copy: Path, addition: Addition, *, leave_out: frozenset[str] = frozenset()) -> None:
    for name, text in addition.made.items():
        if name not in leave_out:
            (copy / name).write_text(text.lstrip(), encoding="utf-8")
    for name, edits in addition.changed.items():
        if name in leave_out:
            continue
        text = (copy / name).read_text(encoding="utf-8")
        for before, after in edits:
            assert text.count(before) == 1, f"{name}: {before!r}"
            text = text.replace(before, after)
        (copy / name).write_text(text, encoding="utf-8")


def use(copy: Path, addition: Addition) -> subprocess.CompletedProcess[str]:
    program = "import sys\n" + addition.used
    folders = [*(copy / package for package in PACKAGES), ROOT / "tests" / "support"]
    path = os.pathsep.join(str(folder.parent) for folder in folders)
    return subprocess.run(
        [sys.executable, "-c", program, str(copy)], cwd=copy, env=os.environ | {"PYTHONPATH": path},
        capture_output=True, text=True, check=False, timeout=TIMEOUT_SECONDS,
    )  # fmt: skip


@pytest.mark.parametrize("name", ADDITIONS)
def test_the_files_that_the_page_names_are_all_it_takes(copy: Path, name: str) -> None:
    addition = ADDITIONS[name]
    named = {
        file.replace("<name>", addition.name)
        for kind in addition.kinds
        for file in files_named(kind)
    }
    assert {*addition.made, *addition.changed} == named - addition.untouched
    add(copy, addition)
    done = use(copy, addition)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ADDITIONS)
def test_a_word_without_its_case_is_refused_before_anything_runs(copy: Path, name: str) -> None:
    addition = ADDITIONS[name]
    (registry,) = (file for file in addition.changed if file.endswith("registry.py"))
    words = addition.changed[registry] if name == "sneezes" else ()
    add(copy, addition, leave_out=frozenset({registry}))
    if words:  # The word stands in the registry's file: only its case is missing.
        text = (copy / registry).read_text(encoding="utf-8")
        (copy / registry).write_text(text.replace(*words[1]), encoding="utf-8")
    done = use(copy, addition)
    assert done.returncode != 0
    assert f"unreachable, but got: '{addition.name}'" in done.stderr


def test_the_page_answers_for_many_kinds_with_files_that_are_there() -> None:
    kinds = re.findall(r"^### (.+)$", SECTION, re.MULTILINE)
    assert len(kinds) >= KINDS_MIN
    for kind in kinds:
        files = files_named(kind)
        assert files, kind
        for file in files:
            assert (ROOT / file.partition("<")[0].rstrip("/")).exists(), file
