"""`muster quickstart`: a hub, a broker and one device for one's own model, in one command."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

MODEL_PORT = 8080


def quickstart(
    directory: Annotated[Path, typer.Argument(help="Where all of it is kept; made when missing.")],
    *,
    port: Annotated[
        int, typer.Option(min=1, max=65_535, help="Where the model will answer, on this machine.")
    ] = MODEL_PORT,
    stop: Annotated[bool, typer.Option("--stop", help="End what runs; the folder stays.")] = False,
) -> None:
    """Set up and start a hub, its broker and one local device, to try a model of your own.

    They run on in the background. The same command starts what was stopped; --stop ends it.
    All keys are made here, so it is for trying things out.
    """
    from muster_hub.demo.local import DEVICE, SLOT, Local  # noqa: PLC0415 - needs the hub's extra

    local = Local.at(directory, port)
    if stop:
        typer.echo(f"stopped: {', '.join(local.stop()) or 'nothing ran'}")
        return
    local.start(lambda what: typer.echo(f"… {what}"))
    typer.echo(
        f"\n{DEVICE} is online. Bring it a model:\n\n"
        f"  export MUSTER_PROFILE={shlex.quote(_shown(local.profile))}\n"
        f"  muster model push MODEL --data TABLE --labels COLUMN\n"
        f"  muster rollout start NAME 1 --slot {SLOT} --watch\n"
        f"  curl localhost:{local.ports.model}/v2/models/NAME\n\n"
        f"The console, by a link that signs you in once, within ten minutes:\n\n"
        f"  {local.console_link()}\n\n"
        f"End all of it with: muster quickstart {directory} --stop"
    )


def _shown(path: Path) -> str:
    """The path from here, where that is shorter."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
