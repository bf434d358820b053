"""What the operator sees: tables for people, JSON for programs."""

import csv
import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from muster_protocol.wire import bounds

Json = Annotated[
    bool, typer.Option("--json", help="Print JSON instead of a table.", rich_help_panel="Output")
]

Csv = Annotated[
    bool,
    typer.Option("--csv", help="Print a table for spreadsheets.", rich_help_panel="Output"),
]
FORMULAS = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for a formula begins with one of these."""

STYLES = {
    "ok": "green",
    "quiet": "green",
    "stable": "green",
    "online": "green",
    "committed": "green",
    "completed": "green",
    "published": "green",
    "signed": "green",
    "resolved": "green",
    "running": "cyan",
    "probation": "cyan",
    "in_progress": "cyan",
    "calibrating": "cyan",
    "check_function": "cyan",
    "paused": "yellow",
    "warning": "yellow",
    "acknowledged": "yellow",
    "maintenance_required": "yellow",
    "off_spec": "yellow",
    "withdrawn": "yellow",
    "offline": "dim",
    "revoked": "red",
    "drift": "bold red",
    "drifting": "bold red",
    "open": "bold red",
    "critical": "bold red",
    "failed": "bold red",
    "failure": "bold red",
    "rejected": "bold red",
    "stopped": "bold red",
    "aborted": "bold red",
}
"""Colour of a state, wherever it is shown. Colour only repeats what the word says."""


class CleanConsole(Console):
    """A console on which no text steers the terminal, whoever wrote it: a device, a hub, a file.

    Colours and lines are rich's own; every text in between is cleaned as it is drawn.
    """

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Rich's hook: text from devices is cleaned before it reaches the terminal."""
        for segment in super().render(renderable, options):
            if segment.control or bounds.is_clean(segment.text):
                yield segment
            else:
                yield Segment(bounds.clean(segment.text), segment.style)


def console() -> Console:
    """A console on the standard output of this moment; wide when it isn't a terminal."""
    screen = CleanConsole(highlight=False)
    if not screen.is_terminal:
        screen = CleanConsole(highlight=False, width=200)
    return screen


def show(*parts: RenderableType) -> None:
    """Print tables and texts, one below the other."""
    screen = console()
    for part in parts:
        screen.print(part)


def show_json(value: Any) -> None:
    """One JSON document; keys in the hub's order."""
    sys.stdout.write(_json(value, indent=2) + "\n")


def shown_as_data(items: Sequence[Mapping[str, Any]], *, as_json: bool, as_csv: bool) -> bool:
    """Print a list as JSON or CSV where either was asked for; whether it was."""
    if as_json:
        show_json(items)
    elif as_csv:
        show_csv(items)
    return as_json or as_csv


def show_csv(items: Sequence[Mapping[str, Any]]) -> None:
    """A row for each item, with the fields of all as columns; what has parts is JSON in its cell,
    and what a spreadsheet would take for a formula begins with an apostrophe."""
    columns = list(dict.fromkeys(name for item in items for name in item))
    table_of = csv.writer(sys.stdout, lineterminator="\n")
    if columns:
        table_of.writerow(columns)
    table_of.writerows([_csv_cell(item.get(name)) for name in columns] for item in items)


def _csv_cell(value: Any) -> Any:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int() | float():
            return value
        case dict() | list() | tuple():
            return _json(value)
    text = bounds.clean(str(value))
    return f"'{text}" if text.startswith(FORMULAS) else text


def show_json_line(value: Any) -> None:
    """Print one line of JSON at once, for streams."""
    sys.stdout.write(_json(value) + "\n")
    sys.stdout.flush()


def _json(value: Any, indent: int | None = None) -> str:
    """The same value, with what could steer a terminal spelled as JSON's own escapes."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    if bounds.is_clean(text):
        return text
    return "".join(c if bounds.is_clean(c) else f"\\u{ord(c):04x}" for c in text)


def table(headings: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str) -> RenderableType:
    """A table without lines; ``empty`` is said when there are no rows."""
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for heading in headings:
        grid.add_column(heading, overflow="fold")
    count = 0
    for row in rows:
        grid.add_row(*(cell(value) for value in row))
        count += 1
    return grid if count else Text(empty, style="dim")


def facts(pairs: Iterable[tuple[str, Any]]) -> RenderableType:
    """Names and values below each other; absent values are left out."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column(overflow="fold")
    for name, value in pairs:
        if value not in (None, "", {}, []):
            grid.add_row(name, cell(value))
    return grid


def cell(value: Any) -> RenderableType:
    """A value as it stands in a table."""
    match value:
        case Text() | Table():
            return value
        case None | "":
            return Text("–", style="dim")
        case bool():
            text = "yes" if value else "no"
        case float():
            text = f"{value:.4g}"
        case dict():
            text = labels(value)
        case list() | tuple():
            text = ", ".join(str(item) for item in value)
        case _:
            text = str(value)
    return Text(text)


def state(word: Any) -> Text:
    """A state in the colour that all commands give it."""
    text = str(word or "–")
    return Text(text.replace("_", " "), style=STYLES.get(text, ""))


def labels(pairs: dict[str, Any]) -> str:
    """``name=value`` for each label, sorted."""
    return " ".join(f"{name}={value}" for name, value in sorted(pairs.items()))


def ago(at: float | None) -> str:
    """How long ago a time in seconds since 1970 was, in the largest fitting unit."""
    if not at:
        return "never"
    seconds = max(time.time() - at, 0.0)
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def size(count: float | None) -> str:
    """Bytes with a binary prefix."""
    if count is None:
        return ""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError
