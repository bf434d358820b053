"""`muster apply`: make the fleet's assignments, rollouts and feeds as a file says."""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from muster_client.failures import Exit
from muster_client.resources import fleet_file
from muster_client.resources.fleet import Change
from muster_client.session import hub
from muster_client.terminal import asking, output
from muster_client.terminal.asking import Yes
from muster_client.terminal.output import Json

_MARKS = {"add": ("+", "green"), "start": ("+", "green"), "change": ("~", "yellow"),
          "remove": ("-", "red"), "keep": ("=", "dim")}  # fmt: skip


def apply(
    context: typer.Context,
    *,
    file: Annotated[
        Path,
        typer.Option(
            "--file", "-f", help="YAML: assignments, rollouts, feeds; - is standard input."
        ),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the difference.")] = False,
    prune: Annotated[
        bool,
        typer.Option(
            help="Also remove what is not in the file: assignments made by hand in slots, and "
            "settings of feeds, that it names."
        ),
    ] = False,
    exit_code: Annotated[
        bool,
        typer.Option("--exit-code", help="With --dry-run: exit with 1 when there is a difference."),
    ] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Show how the hub differs from the file, and after a yes make it the same.

    A rollout that was stopped is never started again by this.
    """
    changes = hub(context).compare(fleet_file.read(file), prune=prune)
    due = [change for change in changes if change.kind != "keep"]
    if not as_json:
        output.show(*(_line(change) for change in changes), _sum(due))
    if due and not dry_run:
        asking.confirm(f"{len(due)} changes, each of them at once", yes=yes)
        hub(context).apply(due)
    if as_json:
        changed = [
            {
                "kind": change.kind,
                "what": change.what,
                "was": change.was,
                "now": change.now,
                "why": change.why,
                "devices": change.devices,
            }
            for change in changes
        ]
        output.show_json({"changes": changed, "applied": bool(due) and not dry_run})
    if dry_run and exit_code and due:
        raise typer.Exit(Exit.REFUSED)


def _line(change: Change) -> Text:
    mark, style = _MARKS[change.kind]
    words = {
        "change": f"{change.was} → {change.now}",
        "keep": change.why,
        "remove": f"{change.was} is withdrawn",
    }.get(change.kind, change.now)
    if change.devices is not None:
        words += f" ({change.devices} devices)"
    return Text.assemble((f"{mark} {change.what}: ", style), words)


def _sum(due: list[Change]) -> Text:
    return Text(f"\n{len(due)} to do." if due else "\nNothing to do.")
