"""`muster loop`: from drift over a training to a better model."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.text import Text

from muster_client.answers import Loop
from muster_client.session import hub
from muster_client.terminal import asking, output
from muster_client.terminal.asking import Yes
from muster_client.terminal.completing import ModelName
from muster_client.terminal.output import Csv, Json

app = typer.Typer(help="Retraining: list, show, start, approve, abandon.", no_args_is_help=True)
Number = Annotated[int, typer.Argument(metavar="LOOP", min=1)]


@app.command("list")
def list_loops(
    context: typer.Context,
    *,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 50,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Show loops, the newest first."""
    items = list(hub(context).loops.list(limit))
    if output.shown_as_data(items, as_json=as_json, as_csv=as_csv):
        return
    rows = (
        (
            item["id"], item["model"], output.state(item["state"]), output.ago(item["opened"]),
            item["cause"], item["version"], item["reason"],
        )
        for item in items
    )  # fmt: skip
    headings = ("LOOP", "MODEL", "STATE", "OPENED", "CAUSE", "CANDIDATE", "WHY")
    output.show(output.table(headings, rows, empty="There was no loop."))


@app.command("show")
def show(context: typer.Context, loop: Number, *, as_json: Json = False) -> None:
    """Show one loop: what it waits for, and each state it entered."""
    _show(hub(context).loops.show(loop), as_json=as_json)


@app.command("start")
def start(
    context: typer.Context,
    model: ModelName,
    *,
    reason: Annotated[str, typer.Option(help="Why; it is kept.")] = "",
    as_json: Json = False,
) -> None:
    """Open a loop by hand. Budget, cool-down and approval count all the same."""
    _show(hub(context).loops.start(model, reason=reason), as_json=as_json)


@app.command("approve")
def approve(context: typer.Context, loop: Number, *, as_json: Json = False) -> None:
    """Let the training start."""
    _show(hub(context).loops.approve(loop), as_json=as_json)


@app.command("candidate")
def candidate(context: typer.Context, loop: Number, version: str, *, as_json: Json = False) -> None:
    """Say which version the training made: a pipeline's last step, after its push."""
    _show(hub(context).loops.candidate(loop, version), as_json=as_json)


@app.command("abandon")
def abandon(
    context: typer.Context,
    loop: Number,
    *,
    reason: Annotated[str, typer.Option(help="Why; it is kept.")] = "",
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """End a loop. What the orchestrator runs is not stopped."""
    if not yes:
        found = hub(context).loops.show(loop)
        asking.confirm(
            f"loop {loop} of {found['model']} ({found['state']}) ends and can't go on; the next "
            "one opens after its cool-down",
            yes=yes,
        )
    _show(hub(context).loops.abandon(loop, reason=reason), as_json=as_json)


def _show(found: Loop, *, as_json: bool) -> None:
    if as_json:
        output.show_json(found)
        return
    output.show(*_lines(found))


def _lines(found: Loop) -> Iterator[Any]:
    waits = "approval: `muster loop approve`" if not found["approved_by"] else ""
    yield output.facts(
        [
            ("loop", Text(f"{found['id']} of {found['model']}", style="bold")),
            ("state", output.state(found["state"])),
            ("because", found["reason"] or found["cause"]),
            ("waits for", waits if found["state"] == "wanted" else ""),
            ("opened", f"{output.ago(found['opened'])} by {found['opened_by']}"),
            ("approved by", found["approved_by"]),
            ("training", f"{found['run']} {found['run_state']}".strip()),
            ("log", found["run_url"]),
            ("fault", found["run_fault"]),
            ("candidate", found["version"]),
            ("rollout", found["rollout"]),
        ]
    )
    yield ""
    rows = (
        (output.ago(step["at"]), output.state(step["state"]), step["reason"], step["by"])
        for step in found["history"]
    )
    yield output.table(("WHEN", "STATE", "WHY", "BY"), rows, empty="")
