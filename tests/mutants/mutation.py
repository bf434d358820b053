"""One mutation: a line of the product changed on purpose, and the tests that must notice."""

import ast
import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PACKAGES = (
    "protocol/muster_protocol", "agent/muster_agent", "hub/muster_client", "hub/muster_hub",
)  # fmt: skip


class Stale(Exception):
    """A mutation that no longer fits the tree; the text says what to repair."""


@dataclass(frozen=True, kw_only=True)
class Mutation:
    name: str
    """A few words, unique in the table."""
    breaks: str
    """What goes wrong in the field when the line is as ``new`` has it."""
    where: str
    """A room of a package, or a file: ``old`` occurs in it exactly once, wherever it moves."""
    old: str
    new: str
    tests: tuple[str, ...]
    """Node ids of tests that fail with the mutation, and pass without."""

    def file(self, root: Path) -> Path:
        """The file that holds ``old``; raises Stale unless it is there exactly once."""
        place = root / self.where
        if not place.exists():
            raise Stale(f"{self.name}: {self.where} is not there any more")
        files = [place] if place.is_file() else sorted(place.rglob("*.py"))
        counts = {path: _text(path).count(self.old) for path in files}
        holding = [path for path, count in counts.items() if count]
        if sum(counts.values()) == 1:
            return holding[0]
        if holding:
            names = ", ".join(path.relative_to(root).as_posix() for path in holding)
            raise Stale(
                f"{self.name}: {sum(counts.values())} places in {names} read {self.old!r}: "
                "make it longer"
            )
        raise Stale(
            f"{self.name}: nothing in {self.where} reads {self.old!r}{self._hint(files, root)}"
        )

    def _hint(self, files: list[Path], root: Path) -> str:
        """Where the line may have gone, or what it may have become."""
        moved = [
            path.relative_to(root).as_posix()
            for package in PACKAGES
            for path in sorted((root / package).rglob("*.py"))
            if self.old in _text(path)
        ]
        if moved:
            return f": it stands in {', '.join(moved)}"
        lines = {line.strip() for path in files for line in _text(path).splitlines()}
        like = difflib.get_close_matches(self.old.splitlines()[0].strip(), lines, 1)
        return f": the line most like it is {like[0]!r}" if like else ""

    def mutated(self, text: str) -> str:
        return text.replace(self.old, self.new, 1)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def stale(mutations: Iterable[Mutation], root: Path) -> list[str]:
    """What must be repaired before these mutations mean anything, in words."""
    found: list[str] = []
    names: set[str] = set()
    for mutation in mutations:
        if mutation.name in names:
            found.append(f"{mutation.name}: two mutations have this name")
        names.add(mutation.name)
        try:
            file = mutation.file(root)
            ast.parse(mutation.mutated(_text(file)))
        except Stale as error:
            found.append(str(error))
        except SyntaxError as error:
            found.append(f"{mutation.name}: the mutated file is not Python: {error.msg}")
        if mutation.old == mutation.new:
            found.append(f"{mutation.name}: changes nothing")
        if not mutation.tests:
            found.append(f"{mutation.name}: names no test")
        found += [
            f"{mutation.name}: there is no test {test}"
            for test in mutation.tests
            if not exists(test, root)
        ]
    return found


def exists(test: str, root: Path) -> bool:
    """Whether a node id, apart from its parameters, names a test function."""
    path, _, function = test.partition("::")
    if not function:
        return (root / path).is_file()
    return function.partition("[")[0] in _tests(root / path)


@cache
def _tests(path: Path) -> frozenset[str]:
    if not path.is_file():
        return frozenset()
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return frozenset(item.name for item in body if isinstance(item, ast.FunctionDef))
