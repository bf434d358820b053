"""A choice over a closed set names each member, so that a new one can not be forgotten."""

import ast
from pathlib import Path

import pytest

from support.trees import parsed

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (
    "protocol/muster_protocol", "agent/muster_agent", "hub/muster_hub", "hub/muster_client",
)  # fmt: skip

OPEN = {
    "protocol/muster_protocol/wire/bounds.py": "value",
    "agent/muster_agent/link/connection.py": "error",
    "agent/muster_agent/worker/http_body.py": "coding",
    "hub/muster_hub/access/scope.py": "(asked.operator, wanted.operator)",
    "hub/muster_hub/api/examples.py": "schema.get('type')",
    "hub/muster_client/failures.py": "status",
    "hub/muster_client/packing/contract.py": "word",
    "hub/muster_client/packing/rows.py": "kind.kind",
    "hub/muster_client/packing/running.py": "array.dtype.kind",
    "hub/muster_client/training/table.py": "values.dtype.kind",
    "hub/muster_client/terminal/output.py": "value",
}
"""Choices over sets that others may widen, such as errors or numbers: their default is meant."""


def closed(match: ast.Match) -> bool:
    """Whether its last case takes all that is left, and none is left by mypy's reckoning."""
    last = match.cases[-1]
    takes_all = ast.unparse(last.pattern).split(" as ")[0] == "_"
    return takes_all and last.guard is None and "assert_never(" in ast.unparse(last)


def left_open(source: str) -> list[str]:
    """Subjects of the choices in a file that do not end in ``assert_never``."""
    return [
        ast.unparse(node.subject)
        for node in ast.walk(parsed(source))
        if isinstance(node, ast.Match) and not closed(node)
    ]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_choice_ends_in_assert_never_or_is_over_an_open_set(package: str) -> None:
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        for subject in left_open(path.read_text(encoding="utf-8")):
            found[str(path.relative_to(ROOT))] = subject
    assert found == {path: subject for path, subject in OPEN.items() if path.startswith(package)}


@pytest.mark.parametrize(
    "default",
    ["", "    case _:\n        pass\n", "    case _ if late:\n        assert_never(word)\n"],
)
def test_a_choice_that_lets_others_pass_is_found(default: str) -> None:
    assert left_open(f"match word:\n    case 'a':\n        pass\n{default}") == ["word"]
