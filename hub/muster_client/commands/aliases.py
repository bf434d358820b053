"""`muster alias`: names such as champion that stand for a version of a model."""

from typing import Annotated

import typer
from rich.text import Text

from muster_client.session import hub
from muster_client.terminal import output
from muster_client.terminal.completing import ModelName
from muster_client.terminal.output import Csv, Json

app = typer.Typer(help="Aliases of versions: list, set, remove.", no_args_is_help=True)
Alias = Annotated[str, typer.Argument(help="Such as champion, staging, candidate.")]


@app.command("list")
def list_aliases(
    context: typer.Context, model: ModelName, *, as_json: Json = False, as_csv: Csv = False
) -> None:
    """Show what a model's aliases stand for, and stood for."""
    found = hub(context).aliases.list(model)
    if as_json:
        output.show_json(found)
        return
    if as_csv:
        output.show_csv(found["aliases"])
        return
    now = ((a["alias"], a["version"], output.ago(a["since"]), a["by"]) for a in found["aliases"])
    headings = ("ALIAS", "VERSION", "SINCE", "BY")
    output.show(output.table(headings, now, empty=f"{model} has no alias."))
    past = (
        (output.ago(c["at"]), c["alias"], c["version"] or "taken away", c["by"], c["reason"])
        for c in found["history"]
    )
    output.show("", output.table(("WHEN", "ALIAS", "VERSION", "BY", "WHY"), past, empty=""))


@app.command("set")
def set_alias(
    context: typer.Context,
    model: ModelName,
    alias: Alias,
    version: str,
    *,
    reason: Annotated[str, typer.Option(help="Why; it is kept.")] = "",
    as_json: Json = False,
) -> None:
    """Let an alias stand for a version. New versions are compared with the champion."""
    found = hub(context).aliases.set(model, alias, version, reason=reason)
    if as_json:
        output.show_json(found)
    else:
        output.show(Text(f"{model}@{alias} is version {found['version']}."))


@app.command("remove")
def remove(
    context: typer.Context, model: ModelName, alias: Alias, *, as_json: Json = False
) -> None:
    """Take an alias away. Its history stays."""
    hub(context).aliases.remove(model, alias)
    if as_json:
        output.show_json({"model": model, "alias": alias, "removed": True})
    else:
        output.show(Text(f"{model} has no alias {alias} any more."))
