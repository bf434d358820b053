"""`muster assignment`: which version devices have in a slot."""

from typing import Annotated

import typer
from rich.text import Text

from muster_client.answers import Assignment
from muster_client.session import hub
from muster_client.terminal import asking, output
from muster_client.terminal.asking import Yes
from muster_client.terminal.output import Csv, Json

app = typer.Typer(help="What devices have in a slot: list, show, remove.", no_args_is_help=True)

Number = Annotated[int, typer.Argument(metavar="ID", help="The assignment's number.")]


@app.command("list")
def list_assignments(
    context: typer.Context,
    *,
    limit: Annotated[int, typer.Option(min=1, help="Show at most this many.")] = 1000,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Show assignments; of those that match, a device takes the one of highest precedence."""
    items = list(hub(context).assignments.list(limit))
    if output.shown_as_data(items, as_json=as_json, as_csv=as_csv):
        return
    headings = ("ID", "SLOT", "DEVICES", "MODEL", "VERSION", "PRECEDENCE", "ROLLOUT", "MADE")
    rows = (
        (
            row["id"], row["slot"], row["selector"] or "all", row["model"], row["version"],
            row["precedence"], row["rollout"], output.ago(row["created"]),
        )
        for row in items
    )  # fmt: skip
    output.show(output.table(headings, rows, empty="Nothing is assigned."))


@app.command("show")
def show(context: typer.Context, assignment: Number, *, as_json: Json = False) -> None:
    """Show an assignment."""
    found = hub(context).assignments.show(assignment)
    if as_json:
        output.show_json(found)
    else:
        output.show(output.facts((name, value) for name, value in found.items()))


@app.command("remove")
def remove(context: typer.Context, assignment: Number, *, yes: Yes = False) -> None:
    """Withdraw an assignment: its devices follow the next one that matches."""
    if not yes:
        asking.confirm(_withdrawn(hub(context).assignments.show(assignment)), yes=yes)
    hub(context).assignments.remove(assignment)
    output.show(Text(f"assignment {assignment} is withdrawn."))


def _withdrawn(found: Assignment) -> str:
    """What becomes of whom, in words."""
    whom = found["selector"] or "all devices"
    return (
        f"{found['model']} {found['version']} is no longer what {whom} should run in "
        f"{found['slot']}: they follow the next assignment that matches, and run on without any"
    )
