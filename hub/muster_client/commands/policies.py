"""`muster policy`: what a model's versions must show before they may be signed."""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from muster_client.session import hub
from muster_client.terminal import output
from muster_client.terminal.completing import ModelName
from muster_client.terminal.output import Json

app = typer.Typer(help="Gates before release, by model: show, set, remove.", no_args_is_help=True)


@app.command("show")
def show(context: typer.Context, model: ModelName, *, as_json: Json = False) -> None:
    """Show a model's gates."""
    found = hub(context).policies.show(model)
    if as_json:
        output.show_json(found)
        return
    rows = (
        (gate["gate"], {name: value for name, value in gate.items() if name != "gate"})
        for gate in found["gates"]
    )
    output.show(output.table(("GATE", "TERMS"), rows, empty=""))


@app.command("set")
def set_policy(
    context: typer.Context,
    model: ModelName,
    file: Annotated[Path, typer.Argument(help="TOML with [[gates]] entries.")],
    *,
    as_json: Json = False,
) -> None:
    """Declare a model's gates. They count for versions that are checked from now on."""
    found = hub(context).policies.set(model, file)
    if as_json:
        output.show_json(found)
    else:
        output.show(Text(f"versions of {model} must pass {len(found['gates'])} gates."))


@app.command("remove")
def remove(context: typer.Context, model: ModelName, *, as_json: Json = False) -> None:
    """Ask for no gates any more."""
    hub(context).policies.remove(model)
    if as_json:
        output.show_json({"model": model, "removed": True})
    else:
        output.show(Text(f"versions of {model} pass no gates any more."))
