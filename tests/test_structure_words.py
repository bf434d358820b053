"""Names say one thing each: no catch-all words, no class name that means two things."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import pytest

from support.trees import parsed

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (
    "protocol/muster_protocol",
    "agent/muster_agent",
    "hub/muster_hub",
    "hub/muster_client",
)
CATCH_ALL = {"one", "told", "tell", "tells", "telling", "_told", "_tell"}
"""Words that once stood for anything at all."""
KEPT = {("hub/muster_hub/storage/telemetry.py", "told")}
"""The column ``alert.told`` of databases that are in use."""


def bound(tree: ast.AST) -> Iterator[str]:
    """Names that a module gives to variables, parameters, functions and classes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name


def catch_alls(path: Path, text: str) -> set[tuple[str, str]]:
    place = str(path.relative_to(ROOT))
    return {(place, name) for name in bound(parsed(text)) if name in CATCH_ALL} - KEPT


@pytest.mark.parametrize("folder", [*PACKAGES, "bench", "tests"])
def test_names_say_what_they_hold(folder):
    found = set[tuple[str, str]]()
    for path in (ROOT / folder).rglob("*.py"):
        found |= catch_alls(path, path.read_text(encoding="utf-8"))
    assert found == set()


@pytest.mark.parametrize("code", ["one = 1", "def told(): ...", "def f(tell): ..."])
def test_a_catch_all_name_is_found(code):
    assert catch_alls(ROOT / "x.py", code)


def twins(sources: dict[str, str]) -> list[str]:
    """Public classes of a package that share a name, unless one is the port of the other."""
    places = defaultdict[str, list[tuple[str, bool]]](list)
    for place, text in sources.items():
        for node in ast.walk(parsed(text)):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                port = any(ast.unparse(base) == "Protocol" for base in node.bases)
                places[node.name].append((place, port))
    return sorted(
        f"{name}: {first} and {second}"
        for name, found in places.items()
        for (first, port), (second, other) in combinations(found, 2)
        if not (port or other)
    )


@pytest.mark.parametrize("package", PACKAGES)
def test_no_class_name_stands_for_two_things(package):
    paths = (ROOT / package).rglob("*.py")
    assert twins({str(path): path.read_text(encoding="utf-8") for path in paths}) == []


def test_a_class_name_given_twice_is_found_and_a_port_may_be_named_like_what_implements_it():
    port, real = "class Store(Protocol): ...", "class Store: ..."
    assert twins({"a.py": real, "b.py": real}) == ["Store: a.py and b.py"]
    assert twins({"a.py": port, "b.py": real}) == []


RIDDLES = (
    "gone on with", "next to nothing", "no news any more", "what one asks", "leave to swap",
    "nobody's leave", "in other hands", "as of every", "is told of", "are told of", "told apart by",
)  # fmt: skip
"""Turns of phrase that readers had to read twice; say it in common words."""
PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "CHANGELOG.md",
        ROOT / "bench" / "README.md",
        *(ROOT / "docs").rglob("*.md"),
    ]
)


def riddles(text: str) -> set[str]:
    flat = " ".join(text.split()).lower()
    return {phrase for phrase in RIDDLES if phrase in flat}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_is_in_plain_words(page):
    assert riddles(page.read_text(encoding="utf-8")) == set()


def test_a_riddle_is_found_across_lines():
    assert riddles("The update was never gone\non with.") == {"gone on with"}
