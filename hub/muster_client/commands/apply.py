"""`muster apply`: make the fleet's assignments and rollouts as a file says."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from muster_client.client import Api
from muster_client.commands import fleet_file
from muster_client.commands.fleet_file import Change
from muster_client.commands.rollouts import parse_canary
from muster_client.failures import Exit, OperatorError
from muster_client.session import api
from muster_client.terminal import asking, output
from muster_client.terminal.asking import Yes
from muster_client.terminal.output import Json

_MARKS = {"add": ("+", "green"), "start": ("+", "green"), "change": ("~", "yellow"),
          "remove": ("-", "red"), "keep": ("=", "dim")}  # fmt: skip


def apply(
    context: typer.Context,
    *,
    file: Annotated[Path, typer.Option("--file", "-f", help="YAML: assignments and rollouts.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show it, do nothing.")] = False,
    prune: Annotated[
        bool,
        typer.Option(help="Also withdraw what was assigned by hand in a slot the file names."),
    ] = False,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="With --dry-run: fail when something is to do.")
    ] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Show how the hub differs from the file, and after a yes make it the same.

    A rollout that was stopped is never started again by this.
    """
    fleet = fleet_file.parse(_text(file), str(file))
    hub = api(context)
    changes = fleet_file.compare(
        fleet, list(hub.pages("/assignments")), list(hub.pages("/rollouts")), prune=prune
    )
    changes = [_readable(change) for change in changes]
    due = [change for change in changes if change.kind != "keep"]
    for change in due:
        if change.kind == "start":  # The hub refuses here what it would refuse later.
            hub.post("/rollouts/plan", change.body)
    if not as_json:
        output.show(*(_line(change) for change in changes), _sum(due))
    if due and not dry_run:
        asking.confirm(f"{len(due)} changes, each of them at once", yes=yes)
        for change in due:
            _do(hub, change)
    if as_json:
        changed = [
            {
                "kind": change.kind,
                "what": change.what,
                "was": change.was,
                "now": change.now,
                "why": change.why,
            }
            for change in changes
        ]
        output.show_json({"changes": changed, "applied": bool(due) and not dry_run})
    if dry_run and exit_code and due:
        raise typer.Exit(Exit.REFUSED)


def _text(file: Path) -> str:
    try:
        data = file.read_bytes()
        if len(data) > fleet_file.FILE_BYTES_MAX:
            raise OperatorError(
                f"{file}: {len(data)} bytes, the limit is {fleet_file.FILE_BYTES_MAX}", Exit.USAGE
            )
        return data.decode()
    except OSError as error:
        raise OperatorError(f"{file}: {error.strerror}", Exit.USAGE) from None
    except UnicodeDecodeError:
        raise OperatorError(f"{file}: not a text in UTF-8", Exit.USAGE) from None


def _readable(change: Change) -> Change:
    """A canary as people write it (``10%``) becomes the API's number."""
    body = change.body
    if change.kind != "start" or body is None or not isinstance(body.get("canary"), str):
        return change
    canary = parse_canary(body["canary"])
    return Change(change.kind, change.what, now=change.now, body={**body, "canary": canary})


def _line(change: Change) -> Text:
    mark, style = _MARKS[change.kind]
    words = {
        "change": f"{change.was} → {change.now}",
        "keep": change.why,
        "remove": f"{change.was} is withdrawn",
    }.get(change.kind, change.now)
    return Text.assemble((f"{mark} {change.what}: ", style), words)


def _sum(due: list[Change]) -> Text:
    return Text(f"\n{len(due)} to do." if due else "\nNothing to do.")


def _do(hub: Api, change: Change) -> Any:
    if change.kind == "start":
        return hub.post("/rollouts", change.body)
    if change.kind == "remove":
        return hub.delete(f"/assignments/{change.number}")
    assert change.body is not None
    return hub.put("/assignments", change.body)
