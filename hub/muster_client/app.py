"""The `muster` command: global options, the commands' tree, and how failures end it."""

import os
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import typer

from muster_client.commands import (
    access,
    alerts,
    apply,
    baselines,
    devices,
    drift,
    models,
    rollouts,
    tail,
    trust,
    webhooks,
)
from muster_client.failures import OperatorError
from muster_client.session import Session
from muster_protocol.wire.errors import MusterError

EPILOG = (
    "Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 the hub can't be reached. "
    "Connection: flags, then MUSTER_HUB, MUSTER_TOKEN, MUSTER_CA, then a profile file."
)

app = typer.Typer(
    name="muster",
    help="Operate a fleet: devices, models, rollouts, drift and alerts, over the hub's API.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(devices.app, name="device")
app.add_typer(models.app, name="model")
app.add_typer(baselines.app, name="baseline")
app.add_typer(rollouts.app, name="rollout")
app.add_typer(drift.app, name="drift")
app.add_typer(alerts.app, name="alert")
app.add_typer(access.tokens, name="token")
app.add_typer(access.audit, name="audit")
app.add_typer(webhooks.app, name="webhook")
app.add_typer(trust.app, name="trust")
app.command("apply")(apply.apply)
app.command("tail")(tail.tail)

ADDED = "muster.commands"
"""Entry points by which an installed package adds a command of its own, such as the demo."""


def add_commands() -> None:
    """Add what other installed packages bring, by name; what can't be imported is left out."""
    for found in sorted(entry_points(group=ADDED), key=lambda entry: entry.name):
        try:
            command = found.load()
        except ModuleNotFoundError:
            continue  # its extra isn't installed
        app.command(found.name)(command)


@app.callback()
def settings(
    context: typer.Context,
    *,
    hub: Annotated[str | None, typer.Option(help="URL of the hub.", metavar="URL")] = None,
    token: Annotated[str | None, typer.Option(help="API token.", metavar="TOKEN")] = None,
    ca: Annotated[
        str | None, typer.Option(help="PEM file of the CA that signs the hub's certificate.")
    ] = None,
    profile: Annotated[
        Path | None, typer.Option(help="File with hub, token and ca, e.g. the hub's operator.toml.")
    ] = None,
) -> None:
    """Remember where the hub is; nothing is asked of it yet."""
    given = context.obj if isinstance(context.obj, Session) else Session()
    given.flags = {"hub": hub, "token": token, "ca": ca}
    given.profile = profile
    context.obj = given
    context.call_on_close(given.close)


def main() -> None:
    """Entry point: one line on standard error and an exit code for everything that is refused."""
    try:
        add_commands()
        app()
    except OperatorError as error:
        _end(str(error), error.code)
    except MusterError as error:
        _end(str(error), 1)
    except BrokenPipeError:
        # Whoever read our output has closed it; a second error at exit would say nothing more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _end(message: str, code: int) -> None:
    sys.stderr.write(f"muster: {message}\n")
    sys.exit(code)
