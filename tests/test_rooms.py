"""The rooms of each package, drawn from the imports: no arrow up, no cycle, few files at a root."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from support.trees import parsed

ROOT = Path(__file__).resolve().parents[1]
ROOT_MODULES_MAX = 8

ROOMS = {
    "protocol/muster_protocol": ("images", "signals", "wire"),
    "agent/muster_agent": (
        "app", "feeds", "challenger", "selfupdate", "update", "fetch", "observe", "worker",
        "runtimes", "isolation", "link", "identity", "trust", "base", "storage",
    ),
    "hub/muster_hub": (
        "demo", "admin", "app", "mqtt", "reconcile", "console", "api", "metrics", "loop",
        "sampling", "alerts", "monitoring", "rollouts", "fleet", "registry", "signing", "identity",
        "audit", "access", "storage", "settings",
    ),
    "hub/muster_client": (
        "commands", "terminal", "resources", "importers", "packing", "training",
    ),
}  # fmt: skip
"""Rooms from the top down: each may import only those behind it, and the package's root."""


def room_of(package: Path, module: str) -> str:
    """The room a module lies in; empty for the package's root."""
    part = module.split(".")[1:2]
    return part[0] if part and (package / part[0]).is_dir() else ""


@cache
def imported(package: Path) -> set[tuple[str, str, str, str]]:
    """(room, module, room it imports, module it imports) within the package."""
    found = set()
    for path in sorted(package.rglob("*.py")):
        module = ".".join(path.relative_to(package.parent).with_suffix("").parts)
        for node in ast.walk(parsed(path.read_text(encoding="utf-8"))):
            for target in targets(node, package.name):
                found.add((room_of(package, module), module, room_of(package, target), target))
    return found


def targets(node: ast.AST, package: str) -> list[str]:
    """Modules of the package that an import statement names."""
    names: list[str] = []
    if isinstance(node, ast.ImportFrom) and node.module:
        names = [f"{node.module}.{alias.name}" for alias in node.names]
    elif isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    return [name for name in names if name.split(".")[0] == package]


def arrows_up(order: tuple[str, ...], found: set[tuple[str, str, str, str]]) -> list[str]:
    """Imports of a room that stands above, in words."""
    level = {room: number for number, room in enumerate(order)}
    return sorted(
        f"{module} imports {target}"
        for room, module, other, target in found
        if room and other and level[other] < level[room]
    )


@pytest.mark.parametrize("folder", ROOMS)
def test_no_room_imports_a_room_above_it(folder):
    assert arrows_up(ROOMS[folder], imported(ROOT / folder)) == []


@pytest.mark.parametrize("folder", [folder for folder in ROOMS if folder != "hub/muster_client"])
def test_the_picture_shows_every_room(folder):
    words = set(re.findall(r"\w+", (ROOT / "docs" / "architecture.svg").read_text("utf-8")))
    assert set(ROOMS[folder]) - words == set()


@pytest.mark.parametrize("folder", ROOMS)
def test_every_room_has_its_place(folder):
    rooms = {path.parent.name for path in (ROOT / folder).glob("*/*.py")}
    assert rooms == set(ROOMS[folder])


@pytest.mark.parametrize("folder", ROOMS)
def test_a_packages_root_holds_few_modules(folder):
    modules = [path for path in (ROOT / folder).glob("*.py") if path.stem != "__init__"]
    assert len(modules) <= ROOT_MODULES_MAX


def test_an_arrow_up_is_found():
    found = {("storage", "muster_hub.storage.models", "rollouts", "muster_hub.rollouts.plan")}
    assert arrows_up(ROOMS["hub/muster_hub"], found) == [
        "muster_hub.storage.models imports muster_hub.rollouts.plan"
    ]


HUB = ROOT / "hub" / "muster_hub"


def reads_of_a_step(found: set[tuple[str, str, str, str]]) -> list[str]:
    """Imports by which what is shown would depend on what acts."""
    return sorted(
        f"{module} imports {target}"
        for _, module, _, target in found
        if module.rpartition(".")[2].endswith("reading")
        and any(part.endswith("step") or part == "reconcile" for part in target.split("."))
    )


def test_what_is_shown_depends_on_nothing_that_acts():
    assert (HUB / "rollouts" / "reading.py").exists()
    assert reads_of_a_step(imported(HUB)) == []


def test_a_read_model_that_imports_a_step_is_found():
    found = {("fleet", "muster_hub.fleet.reading", "fleet", "muster_hub.fleet.set_step.act")}
    assert reads_of_a_step(found) == [
        "muster_hub.fleet.reading imports muster_hub.fleet.set_step.act"
    ]
