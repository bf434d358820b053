"""What pages, docstrings and comments call a module, a file or a class is where they say."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from support.trees import parsed
from test_rooms import ROOMS

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {
    "muster_protocol": "protocol",
    "muster_agent": "agent",
    "muster_hub": "hub",
    "muster_client": "hub",
}
PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "bench" / "README.md",
        *(ROOT / "docs").rglob("*.md"),
    ]
)
SOURCES = sorted(
    path for name, folder in FOLDERS.items() for path in (ROOT / folder / name).rglob("*.py")
)
DOTTED = re.compile(r"\bmuster_(?:protocol|agent|hub|client)(?:\.\w+)+")
FILE = re.compile(
    r"(?<![\w./<-])((?:(?:protocol|agent|hub)/)?muster_(?:protocol|agent|hub|client)/[\w/.-]*"
    r"|(?:tests|bench|deploy)/[\w/.-]+)(?![\w<*{])"
)
PART = re.compile(r"``((?!msgspec)(?:[a-z_]+\.)+[A-Z]\w*)``")
"""A class as docstrings call it: ``permit.SwapPermits``."""
MADE = {"bench/results"}


@cache
def names_in(path: Path) -> dict[str, set[str]]:
    """Names at the top of a module, and of each class the names in it."""
    found: dict[str, set[str]] = {}
    for node in top(parsed(path.read_text(encoding="utf-8"))):
        for name in bound(node):
            inner = node.body if isinstance(node, ast.ClassDef) else []
            found[name] = {each for part in inner for each in bound(part)}
    return found


def top(module: ast.Module) -> list[ast.stmt]:
    """The module's statements, with those under ``if TYPE_CHECKING``."""
    return [
        inner
        for node in module.body
        for inner in ([node, *node.body] if isinstance(node, ast.If) else [node])
    ]


def bound(node: ast.stmt) -> list[str]:
    match node:
        case ast.ClassDef(name) | ast.FunctionDef(name) | ast.AsyncFunctionDef(name):
            return [name]
        case ast.Assign(targets):
            return [target.id for target in targets if isinstance(target, ast.Name)]
        case ast.AnnAssign(ast.Name(name)):
            return [name]
        case ast.Import(aliases) | ast.ImportFrom(_, aliases):
            return [alias.asname or alias.name for alias in aliases]
        case _:
            return []


def stands(dotted: str) -> bool:
    """Whether a dotted name from a package's root leads to a module, or to something in one."""
    parts = dotted.split(".")
    place = ROOT / FOLDERS[parts[0]]
    for number, part in enumerate(parts):
        if (place / part).is_dir():
            place /= part
            continue
        module, rest = place / f"{part}.py", parts[number + 1 :]
        if not module.exists():
            module, rest = place / "__init__.py", parts[number:]
        if not rest:
            return True
        inner = names_in(module).get(rest[0])
        return inner is not None and (len(rest) == 1 or not inner or rest[1] in inner)
    return True


def lost_names(text: str) -> set[str]:
    return {name for name in DOTTED.findall(text) if not stands(name)}


def lost_files(text: str) -> set[str]:
    named = {name.rstrip("./") for name in FILE.findall(text)}
    return {
        name
        for name in named - MADE
        if not any((ROOT / folder / name).exists() for folder in ("", *FOLDERS.values()))
    }


@cache
def classes() -> frozenset[str]:
    """Each class and constant as ``package.room.module.Name``."""
    return frozenset(
        ".".join((*path.relative_to(ROOT).with_suffix("").parts, name))
        for path in SOURCES
        for name in names_in(path)
    )


def lost_parts(text: str) -> set[str]:
    """Classes that a docstring names by the end of their path, and that no module has."""
    return {
        part
        for part in PART.findall(text)
        if not any(f".{name}".endswith(f".{part}") for name in classes())
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_names_only_modules_and_files_that_exist(page):
    text = page.read_text(encoding="utf-8")
    assert lost_names(text) | lost_files(text) == set()


def test_code_names_only_modules_and_classes_that_exist():
    found = {
        str(path.relative_to(ROOT)): lost
        for path in SOURCES
        if (lost := lost_names(text := path.read_text(encoding="utf-8")) | lost_parts(text))
    }
    assert found == {}


def test_a_name_that_leads_nowhere_is_found():
    assert lost_names("see `muster_agent.update.gate.Gate`") == {"muster_agent.update.gate.Gate"}
    assert lost_files("see `agent/muster_agent/fetch.py`") == {"agent/muster_agent/fetch.py"}
    assert lost_parts("implements ``leave.Inputs``") == {"leave.Inputs"}
    assert not lost_names("`muster_agent.update.hold.Hold.clear`")


@pytest.mark.parametrize("package", ROOMS)
def test_the_architecture_page_says_what_each_room_holds(package):
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert [room for room in ROOMS[package] if f"| `{room}` |" not in page] == []
