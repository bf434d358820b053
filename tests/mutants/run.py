"""``make mutants``: break the product line by line, and see that tests notice.

python -m mutants.run                   every mutation of the table
python -m mutants.run --list            what they are
python -m mutants.run --only NAME …     those whose names contain one of these words
python -m mutants.run --json            the results as JSON

A mutation is *killed* when its tests pass as the tree is and fail with it; *survived* when they
pass all the same; anything else, such as a test that can't be collected or takes too long, is an
*error*: it proves nothing. Exit code: 0 all killed, 1 not all, 2 the table doesn't fit the tree or
its tests fail without any mutation.
"""

import argparse
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from mutants.mutation import Mutation, stale
from mutants.table import TABLE

ROOT = Path(__file__).resolve().parents[2]
LANES = 2
"""Copies of the tree, each with one mutation at a time."""
MUTATION_SECONDS_MAX = 120.0
"""For the tests of one mutation; a mutation that hangs them proves nothing."""
BASELINE_SECONDS_MAX = 1_200.0
"""For each half of all the tests as the tree is."""
PASSED, FAILED = 0, 1
"""Exit codes of pytest; the others mean that it could not tell."""
_NOT_COPIED = shutil.ignore_patterns(
    ".venv*", ".git", ".*_cache", ".hypothesis", "__pycache__", "build", "dist"
)

Outcome = Literal["killed", "survived", "error"]


@dataclass(frozen=True)
class Result:
    mutation: Mutation
    outcome: Outcome
    seconds: float
    detail: str = ""
    """The last lines of an error."""


def _interpreter(root: Path) -> Path:
    """One that imports the packages from ``root``, also in processes without our environment.

    Its libraries are this interpreter's.
    """
    venv.create(root / ".venv", symlinks=True)
    (libraries,) = (root / ".venv" / "lib").glob("python*/site-packages")
    packages = [root / name for name in ("protocol", "agent", "hub")]
    path = [*packages, sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    (libraries / "copy.pth").write_text("".join(f"{entry}\n" for entry in path))
    return root / ".venv" / "bin" / "python"


class Lane:
    """A copy of the tree, in which one mutation is tried after the other."""

    def __init__(self, root: Path) -> None:
        self.root = root
        shutil.copytree(ROOT, root, ignore=_NOT_COPIED, symlinks=True)
        self._python = _interpreter(root)
        self._writes = 0
        self._running: subprocess.Popen[str] | None = None
        self._ended = False

    @contextmanager
    def mutated(self, mutation: Mutation) -> Iterator[None]:
        file = mutation.file(self.root)
        text = file.read_text(encoding="utf-8")
        try:
            self._write(file, mutation.mutated(text))
            yield
        finally:
            self._write(file, text)

    def _write(self, file: Path, text: str) -> None:
        """A time of its own for each write: Python tells stale bytecode by whole seconds."""
        file.write_text(text, encoding="utf-8")
        self._writes += 1
        made = 1_000_000_000 + self._writes
        os.utime(file, (made, made))

    def test(self, tests: Iterable[str], seconds_max: float, *more: str) -> tuple[int | None, str]:
        """pytest's exit code, None when time ran out, and the end of what it printed.

        ``more`` are options of pytest.
        """
        self._running = subprocess.Popen(
            [
                *(self._python, "-m", "pytest", "-q", "--no-header", "--tb=line"),
                *("-p", "no:cacheprovider", "-p", "no:xdist", "--hypothesis-seed=0", *more, *tests),
            ],
            cwd=self.root, env=os.environ | {"PYTHONPATH": "", "PYTEST_ADDOPTS": ""},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
        try:
            printed, _ = self._running.communicate(timeout=seconds_max)
        except subprocess.TimeoutExpired:
            return None, f"no end within {seconds_max:.0f} s"
        finally:
            self._end()
        return self._running.returncode, "\n".join(printed.splitlines()[-12:])

    def _end(self) -> None:
        """End pytest and what its tests have started."""
        running = self._running
        if running is not None and running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()

    def close(self) -> None:
        self._ended = True
        self._end()

    def tried(self, mutation: Mutation) -> Result:
        begun = time.monotonic()
        if self._ended:
            return Result(mutation, "error", 0.0, "interrupted")
        with self.mutated(mutation):
            code, printed = self.test(mutation.tests, MUTATION_SECONDS_MAX, "-x")
        seconds = time.monotonic() - begun
        if code == FAILED:
            return Result(mutation, "killed", seconds)
        if code == PASSED:
            return Result(mutation, "survived", seconds)
        return Result(mutation, "error", seconds, printed)


class Workshop:
    """Copies of the tree, worked in at the same time."""

    def __init__(self, scratch: Path, copies: int) -> None:
        self._lanes = [Lane(scratch / str(number)) for number in range(copies)]
        self._pool = ThreadPoolExecutor(copies)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Interrupted or not: nothing goes on running."""
        for lane in self._lanes:
            lane.close()
        self._pool.shutdown(cancel_futures=True)

    def failing(self, mutations: Sequence[Mutation]) -> list[str]:
        """What fails as the tree is, so that it could say nothing about a mutation."""
        tests = sorted({test for mutation in mutations for test in mutation.tests})
        copies = len(self._lanes)
        shares = [share for number in range(copies) if (share := tests[number::copies])]
        done = self._pool.map(
            lambda lane, share: lane.test(share, BASELINE_SECONDS_MAX), self._lanes, shares
        )
        return [printed for code, printed in done if code != PASSED]

    def tried(self, mutations: Sequence[Mutation]) -> Iterator[Result]:
        """Each mutation's result, in the order of the table."""
        free: queue.SimpleQueue[Lane] = queue.SimpleQueue()
        for lane in self._lanes:
            free.put(lane)

        def attempt(mutation: Mutation) -> Result:
            lane = free.get()
            try:
                return lane.tried(mutation)
            finally:
                free.put(lane)

        return self._pool.map(attempt, mutations)


def row(result: Result, width: int) -> str:
    tests = ", ".join(test.rpartition("/")[2] for test in result.mutation.tests)
    head = f"{result.mutation.name:<{width}} {result.outcome:<8} {result.seconds:6.1f} s  {tests}"
    detail = [f"    {line}" for line in result.detail.splitlines()]
    return "\n".join([head, *detail])


def listed(mutations: Iterable[Mutation]) -> str:
    return "\n".join(
        f"{item.name} ({item.file(ROOT).relative_to(ROOT)})\n    {item.breaks}"
        for item in mutations
    )


def as_json(results: Iterable[Result]) -> str:
    return json.dumps(
        [
            {
                "name": result.mutation.name,
                "breaks": result.mutation.breaks,
                "file": str(result.mutation.file(ROOT).relative_to(ROOT)),
                "tests": result.mutation.tests,
                "outcome": result.outcome,
                "seconds": round(result.seconds, 1),
                "detail": result.detail,
            }
            for result in results
        ],
        indent=1,
    )


def chosen(table: Iterable[Mutation], words: Sequence[str] | None) -> list[Mutation]:
    return [
        mutation
        for mutation in table
        if words is None or any(word in mutation.name for word in words)
    ]


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make mutants", description="Break the product line by line; tests must notice."
    )
    parser.add_argument("--list", action="store_true", help="say what the mutations are")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="those whose names contain one of these words"
    )
    parser.add_argument("--json", action="store_true", help="the results as JSON")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None, table: Sequence[Mutation] = TABLE) -> int:
    asked = parsed(arguments)
    mutations = chosen(table, asked.only)
    if not mutations:
        print(f"no mutation's name contains any of {asked.only}: see --list", file=sys.stderr)
        return 2
    if faults := stale(mutations, ROOT):
        print("the table doesn't fit the tree:", *faults, sep="\n", file=sys.stderr)
        return 2
    if asked.list:
        print(listed(mutations))
        return 0
    copies = min(LANES, len(mutations))
    with (
        tempfile.TemporaryDirectory(prefix="muster-mutants-") as scratch,
        Workshop(Path(scratch), copies) as workshop,
    ):
        if faults := workshop.failing(mutations):
            print("these tests fail without any mutation:", *faults, sep="\n", file=sys.stderr)
            return 2
        width = max(len(mutation.name) for mutation in mutations)
        results = []
        for result in workshop.tried(mutations):
            results.append(result)
            if not asked.json:
                print(row(result, width), flush=True)
    killed = sum(result.outcome == "killed" for result in results)
    if asked.json:
        print(as_json(results))
    else:
        print(f"mutants: {killed} of {len(results)} killed")
    return int(killed < len(results))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(main())
