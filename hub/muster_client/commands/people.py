"""`muster user`: people, what each may do, and links that sign them in."""

from typing import Annotated

import typer
from rich.text import Text

from muster_client.session import hub
from muster_client.terminal import output
from muster_client.terminal.output import Csv, Json

app = typer.Typer(help="People and their roles; links that sign in.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="As the identity provider knows them.")]
RoleName = Annotated[str, typer.Option(help="viewer, operator, releaser or admin.")]
Models = Annotated[
    list[str] | None,
    typer.Option("--model", help="Only this model; repeat for more; pump-* for many."),
]
Selector = Annotated[str, typer.Option("--selector", "-s", help="Only devices with these labels.")]


@app.command("list")
def list_people(context: typer.Context, *, as_json: Json = False, as_csv: Csv = False) -> None:
    """Show who has a role of their own. Members of groups need none."""
    items = list(hub(context).users.list())
    if output.shown_as_data(items, as_json=as_json, as_csv=as_csv):
        return
    rows = (
        (
            row["name"], row["role"], row["models"] or "all", row["selector"] or "all",
            output.ago(row["created"]), row["created_by"],
        )
        for row in items
    )  # fmt: skip
    headings = ("NAME", "ROLE", "MODELS", "DEVICES", "SINCE", "BY")
    output.show(output.table(headings, rows, empty="Nobody has a role of their own."))


@app.command("add")
def add(
    context: typer.Context,
    name: Name,
    *,
    role: RoleName = "viewer",
    model: Models = None,
    selector: Selector = "",
    as_json: Json = False,
) -> None:
    """Give somebody new a role."""
    made = hub(context).users.add(name, role, models=model or (), selector=selector)
    if as_json:
        output.show_json(made)
    else:
        output.show(Text(f"{name} is {made['role']} from now on."))


@app.command("role")
def change(
    context: typer.Context,
    name: Name,
    role: Annotated[str, typer.Argument(help="viewer, operator, releaser or admin.")],
    *,
    model: Models = None,
    selector: Selector = "",
    as_json: Json = False,
) -> None:
    """Change what somebody may do; it holds from their next request on."""
    made = hub(context).users.role(name, role, models=model or (), selector=selector)
    if as_json:
        output.show_json(made)
    else:
        output.show(Text(f"{name} is {made['role']} from now on."))


@app.command("remove")
def remove(context: typer.Context, name: Name) -> None:
    """Take somebody's role away; a group of theirs may still give one."""
    hub(context).users.remove(name)
    output.show(Text(f"{name} has no role of their own any more."))


@app.command("link")
def link(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Who it is for; shown in the audit log.")],
    *,
    role: RoleName = "viewer",
    owner: Annotated[str, typer.Option(help="The person, as they log in; by default NAME.")] = "",
    as_json: Json = False,
) -> None:
    """Make a link that signs somebody in to the console, once, within minutes. Shown once."""
    made = hub(context).users.link(name, role, owner=owner)
    if as_json:
        output.show_json(made)
    else:
        output.show(Text(made["url"]))
