"""Every public function, class and enum member has a sentence that says more than its name."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from muster_agent.update.table import HOLDS, State
from support.trees import parsed

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (
    "protocol/muster_protocol",
    "agent/muster_agent",
    "hub/muster_hub",
    "hub/muster_client",
)
DESCRIBED_ELSEWHERE = {
    "hub/muster_hub/api/schemas": "field by field in docs/api.md, which is made of them",
    "hub/muster_client/answers.py": "the same, as a script gets them",
    "hub/muster_hub/storage/migrations": "by the file's own docstring; Alembic asks for two names",
}
ELSEWHERE = {"State": "by ``HOLDS``, which pages quote"}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def is_enum(node: ast.ClassDef) -> bool:
    return any(re.search(r"Enum$|^_Described$", ast.unparse(base)) for base in node.bases)


def follows_sentence(body: list[ast.stmt], place: int) -> bool:
    """Whether a string stands under a member, or a tuple brings its meaning along."""
    member, after = body[place], body[place + 1 : place + 2]
    if isinstance(member, ast.Assign) and isinstance(member.value, ast.Tuple):
        return True
    return (
        bool(after) and isinstance(after[0], ast.Expr) and isinstance(after[0].value, ast.Constant)
    )


def promised(trees: dict[str, ast.Module]) -> set[str]:
    """Methods that a class or port of the package describes: what implements them inherits it."""
    return {
        method.name
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for method in node.body
        if isinstance(method, Function) and ast.get_docstring(method)
    }


def silent(node: ast.Module | ast.ClassDef, known: set[str], path: str = "") -> Iterator[str]:
    for item in node.body:
        if not isinstance(item, Function | ast.ClassDef) or item.name.startswith("_"):
            continue
        name = f"{path}{item.name}"
        inherits = isinstance(node, ast.ClassDef) and item.name in known
        if not ast.get_docstring(item) and not inherits:
            yield name
        if isinstance(item, ast.ClassDef):
            if is_enum(item) and item.name not in ELSEWHERE:
                yield from (
                    f"{name}.{member.targets[0].id}"
                    for place, member in enumerate(item.body)
                    if isinstance(member, ast.Assign)
                    and isinstance(member.targets[0], ast.Name)
                    and not follows_sentence(item.body, place)
                )
            yield from silent(item, known, f"{name}.")


def trees_of(package: str) -> dict[str, ast.Module]:
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        place = str(path.relative_to(ROOT))
        if not place.startswith(tuple(DESCRIBED_ELSEWHERE)):
            found[place] = parsed(path.read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_everything_public_says_what_it_is_for(package):
    trees = trees_of(package)
    known = promised(trees)
    found = [f"{place}: {name}" for place, tree in trees.items() for name in silent(tree, known)]
    assert found == []


def test_every_state_of_an_update_has_its_sentence():
    assert set(HOLDS) == set(State)


@pytest.mark.parametrize(
    "code",
    [
        "def act(): ...",
        "class Thing: ...",
        'class Kind(Enum):\n    """K."""\n    A = 1\n    """First."""\n    B = 2',
        'class Thing:\n    """T."""\n    def act(self): ...',
    ],
)
def test_what_says_nothing_is_found(code):
    assert len([*silent(parsed(code), set())]) == 1
