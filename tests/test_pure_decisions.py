"""Decisions do no input or output: what says ``Pure.`` imports nothing that does, at any depth."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from support.trees import parsed

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (
    "protocol/muster_protocol", "agent/muster_agent", "hub/muster_hub", "hub/muster_client",
)  # fmt: skip

IO = frozenset({
    "alembic", "asyncio", "fastapi", "fcntl", "http", "httpx", "multiprocessing", "onnxruntime",
    "paho", "queue", "select", "signal", "smtplib", "socket", "sqlalchemy", "sqlite3", "sqlmodel",
    "ssl", "starlette", "subprocess", "tempfile", "threading", "time", "urllib.request", "uvicorn",
})  # fmt: skip
"""Modules that reach the disk, the link, other processes or the clock."""

DECIDING = {
    "muster_agent.base": {
        "feed_rules", "feed_settings", "picture_settings", "tag_settings", "toml_lines",
    },
    "muster_agent.feeds": {
        "answers", "assembly", "control", "json_paths", "samples", "status", "windows",
    },
    "muster_agent.feeds.images": {"assembly"},
    "muster_agent.feeds.modbus": {"blocks"},
    "muster_agent.feeds.sparkplug": {"codec", "host", "node"},

    "muster_agent.fetch": {"meter", "window"},
    "muster_agent.isolation": {"bpf", "landlock", "policy"},
    "muster_agent.observe": {"fold", "health", "merging", "outputs", "pair_fold", "signs"},
    "muster_agent.trust": {"mirror", "time", "trusted"},
    "muster_agent.update": {
        "demotion", "journal", "memory", "permit", "preflight", "probation", "table",
    },
    "muster_agent.worker": {"http1", "oip", "rows", "tensors"},
    "muster_hub.access": {"capability"},
    "muster_hub.alerts": {"messages", "notices", "rules"},
    "muster_hub.fleet": {"assignments"},
    "muster_hub.identity": {"proof"},
    "muster_hub.monitoring": {"peers"},
    "muster_hub.mqtt": {"broker_config", "inbound", "wants"},
    "muster_hub.rollouts": {
        "budgets", "decide", "evidence", "experiments", "forecast", "maintenance", "members",
        "permits", "plan", "shadows", "targets", "words",
    },
    "muster_hub.rollouts.gates": {
        "custom", "installs", "judge", "look", "metric", "placebo", "plan", "rare", "statistics",
        "words",
    },
    "muster_hub.rollouts.gates.metrics": {
        "disagreement", "drift", "errors", "missing_windows", "p95_latency", "registry",
        "wrong_labels",
    },
    "muster_hub.signing": {"ceremonies", "directives", "model_signature"},
}  # fmt: skip
"""Rooms that decide something, and where they do. These must say ``Pure.``; others may."""

BESIDE_FILES = {
    "muster_hub.reconcile.sampled": {"muster_hub.fleet.known"},
    "muster_hub.metrics.exposition": {
        "muster_hub.metrics.delivery",
        "muster_hub.metrics.looping",
        "muster_hub.metrics.reading",
        "muster_hub.storage.models",
    },
    "muster_hub.signing.ceremonies": {"muster_hub.signing.roles", "muster_hub.signing.keys"},
}
"""Types that stand in a module which also reads or keeps them: the types alone are used."""


@cache
def modules() -> dict[str, ast.Module]:
    found = {}
    for package in PACKAGES:
        folder = ROOT / package
        for path in sorted(folder.rglob("*.py")):
            name = ".".join(path.relative_to(folder.parent).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = parsed(path.read_text(encoding="utf-8"))
    return found


def says_pure(name: str) -> bool:
    return re.search(r"\bPure\b", ast.get_docstring(modules()[name]) or "") is not None


def imported(tree: ast.Module) -> set[str]:
    """What a module imports when it runs, in whole names as far as they are modules."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if name in modules() else node.module for name in whole}
            names |= whole if node.module == "urllib" else set()
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


@cache
def imports_of(name: str) -> tuple[str, ...]:
    return tuple(sorted(imported(modules()[name]) - BESIDE_FILES.get(name, set())))


def reaches(name: str) -> list[str]:
    """A shortest way from a module to input or output, as names in order; empty: there is none."""
    ways = {name: [name]}
    waiting = [name]
    for module in waiting:
        for target in imports_of(module):
            if target in IO or target.split(".")[0] in IO:
                return [*ways[module], target]
            if target in modules() and target not in ways:
                ways[target] = [*ways[module], target]
                waiting.append(target)
    return []


PURE = sorted(name for name in modules() if says_pure(name))


@pytest.mark.parametrize("name", PURE)
def test_what_says_it_is_pure_reaches_no_input_or_output(name: str) -> None:
    assert " → ".join(reaches(name)) == ""


@pytest.mark.parametrize("room", DECIDING)
def test_a_rooms_decisions_say_that_they_are_pure(room: str) -> None:
    assert {f"{room}.{name}" for name in DECIDING[room]} <= set(PURE)


def test_a_way_to_input_or_output_is_found() -> None:
    assert reaches("muster_hub.rollouts.step")[-1] in IO | {"sqlalchemy", "sqlmodel"}
    assert reaches("muster_agent.app.supervisor") != []


def test_gates_stand_below_the_rollouts_they_judge() -> None:
    arrows = {
        f"{name} imports {target}"
        for name, tree in modules().items()
        if name.startswith("muster_hub.rollouts.gates")
        for target in imported(tree)
        if target.startswith("muster_hub.rollouts")
        and not target.startswith("muster_hub.rollouts.gates")
    }
    assert arrows == set()


def test_migrations_import_nothing_live() -> None:
    """They must say the same for ever, whatever becomes of the code that wrote them."""
    arrows = {
        f"{name} imports {target}"
        for name, tree in modules().items()
        if name.startswith("muster_hub.storage.migrations.versions.")
        for target in imported(tree)
        if target.split(".")[0].startswith("muster_")
    }
    assert arrows == set()
