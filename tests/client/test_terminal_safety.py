"""No text of a device or a hub steers the operator's terminal."""

import io
import json

import pytest
from rich.text import Text

from muster_client.terminal import output
from support.schema import DIRTY

STEERING = "\0\x07\x1b\x9b\x7f\u202e\u2066\u2069\u2028"


def drawn(*parts) -> str:
    screen = output.CleanConsole(file=io.StringIO(), width=120, color_system=None)
    for part in parts:
        screen.print(part)
    return screen.file.getvalue()  # type: ignore[attr-defined]  # a StringIO


@pytest.mark.parametrize("dirty", DIRTY)
def test_tables_facts_and_lines_are_cleaned_as_they_are_drawn(dirty):
    text = f"cam-1 {dirty} is fine"
    shown = drawn(
        output.table(("A", "B"), [(text, Text(text, style="bold"))], empty=""),
        output.facts([("name", text), ("labels", {text: text})]),
        Text.assemble((text, "red"), text),
        text,
    )
    assert not set(STEERING) & set(shown)
    assert "is fine" in shown


def test_colours_stay():
    screen = output.CleanConsole(file=io.StringIO(), force_terminal=True, color_system="standard")
    screen.print(output.state("failed"))
    assert "\x1b[1;31m" in screen.file.getvalue()


@pytest.mark.parametrize("dirty", DIRTY)
def test_json_says_the_same_without_a_character_that_steers(dirty, capsys):
    value = {"detail": f"a{dirty}b", dirty: [dirty]}
    output.show_json_line(value)
    output.show_json(value)
    line, _, rest = capsys.readouterr().out.partition("\n")
    assert json.loads(line) == json.loads(rest) == value
    assert not set(STEERING) & set(line + rest)
