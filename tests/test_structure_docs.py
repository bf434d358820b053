"""The guides name only commands and options that exist."""

import io
import os
import re
import shlex
import sys
from contextlib import redirect_stdout
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = ("muster", "muster-hub", "muster-agent")


def commands(text: str) -> list[str]:
    """Lines of code blocks that start with one of our commands."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.split(" ")[0] in COMMANDS]


SHOWN = sorted({line for page in PAGES for line in commands(page.read_text(encoding="utf-8"))})


@cache
def help_of(*words: str) -> str:
    """What the command of that entry point prints, run in this process: there are many lines."""
    (script,) = entry_points(group="console_scripts", name=words[0])
    said = io.StringIO()
    argv, columns = sys.argv, os.environ.get("COLUMNS")
    sys.argv, os.environ["COLUMNS"] = [*words, "--help"], "400"
    try:
        with redirect_stdout(said), pytest.raises(SystemExit) as ended:
            script.load()()
    finally:
        sys.argv = argv
        os.environ.pop("COLUMNS")
        if columns is not None:
            os.environ["COLUMNS"] = columns
    assert not ended.value.code, f"{' '.join(words)} --help: {said.getvalue()}"
    return re.sub(r"\x1b\[[0-9;]*m", "", said.getvalue())


@pytest.mark.parametrize("line", SHOWN)
def test_a_command_in_the_guides_exists_with_its_options(line):
    words = shlex.split(line)
    path = [words[0]]
    for word in words[1:]:
        if not re.fullmatch(r"[a-z][a-z-]*", word):
            break
        path.append(word)
    shown = help_of(*path)
    options = {word.split("=")[0] for word in words if re.fullmatch(r"--[a-z-]+(=.*)?", word)}
    assert {option for option in options if option not in shown} == set()


def test_the_guides_show_commands():
    assert {line.split(" ")[0] for line in SHOWN} == set(COMMANDS)


def test_every_make_target_that_is_shown_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z0-9-]+):", makefile, re.MULTILINE))
    pages = [*PAGES, ROOT / "CONTRIBUTING.md", *(ROOT / "bench").glob("*.md")]
    shown = {
        target
        for page in pages
        for target in re.findall(r"\bmake ([a-z0-9-]+)", "\n".join(code(page.read_text())))
    }
    assert {"demo", "test", "lint"} <= shown
    assert shown <= targets


def code(text: str) -> list[str]:
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return blocks + re.findall(r"`([^`\n]+)`", text)


def lost_tests(text: str) -> set[str]:
    """Tests that a page names as ``path::name`` and that aren't there."""
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", text)
    return {
        name
        for path, name in named
        if not (ROOT / path).exists() or f"\ndef {name}(" not in (ROOT / path).read_text()
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_only_tests_that_exist(page):
    assert lost_tests(page.read_text(encoding="utf-8")) == set()


def test_every_part_of_the_page_of_faults_names_its_tests():
    page = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
    parts = page.split("\n## ")[1:]
    assert len(parts) == 8
    rows = re.findall(r"^\| (?!\|Shown by)(.+) \| (.+) \|$", page, re.MULTILINE)
    assert {what for what, shown in rows if "::test_" not in shown} == set()
    assert {part.partition("\n")[0] for part in parts if "::test_" not in part} == set()


def test_a_test_that_is_gone_is_found():
    gone = "`tests/test_structure_docs.py::test_no_longer`, `tests/no/test_x.py::test_a`"
    assert lost_tests(gone) == {"test_no_longer", "test_a"}


PICTURE_BYTES_MAX = 150_000


def test_pictures_that_the_docs_show_are_those_that_are_there_small_and_in_both_schemes():
    shown = {
        found
        for page in PAGES
        for found in re.findall(r"pictures/([\w-]+\.png)", page.read_text(encoding="utf-8"))
    }
    there = {path.name: path.stat().st_size for path in (ROOT / "docs/pictures").iterdir()}
    assert shown == set(there)
    assert {name: size for name, size in there.items() if size > PICTURE_BYTES_MAX} == {}
    kinds = [{name for name in shown if scheme in name} for scheme in ("-light", "-dark")]
    assert {name.replace("-dark", "-light") for name in kinds[1]} == kinds[0]


def test_every_picture_is_made_by_a_browser_s_story():
    stories = "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "tests/browser").glob("test_*.py")
    )
    made = set(re.findall(r"\.picture\(\"(\w+)\"\)", stories))
    there = {path.stem.rpartition("-")[0] for path in (ROOT / "docs/pictures").iterdir()}
    assert there == made
