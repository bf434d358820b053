"""`muster release`: waiting for what people and devices do with a version."""

from typing import Annotated

import typer
from rich.text import Text

from muster_client.resources.releases import WAIT_SECONDS
from muster_client.session import hub
from muster_client.terminal import output
from muster_client.terminal.completing import ModelName
from muster_client.terminal.output import Json

app = typer.Typer(help="Wait for a version to be signed or rolled out.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Wait for a version to be signed or rolled out."""


@app.command("wait")
def wait(
    context: typer.Context,
    model: ModelName,
    version: str,
    *,
    goal: Annotated[str, typer.Option("--for", help="signed or rolled-out.")] = "signed",
    seconds: Annotated[float, typer.Option(min=1, help="How long at most.")] = WAIT_SECONDS,
    as_json: Json = False,
) -> None:
    """Block until a version is signed, or rolled out; exit code 1 when it won't be."""
    found = hub(context).releases.wait(model, version, goal=goal, seconds=seconds)
    if as_json:
        output.show_json(found)
    else:
        output.show(Text(f"{model} {version} is {goal.replace('-', ' ')}."))
