"""The `muster` command: global options, the commands' tree, and how failures end it.

A command's module is imported when the command runs: a page of help needs none of them.
"""

import json
import os
import sys
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from muster_client.failures import Exit, Lacking, OperatorError, Refused
from muster_client.session import Session
from muster_protocol.wire import bounds
from muster_protocol.wire.errors import MusterError

EPILOG = (
    "Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 the hub can't be reached. "
    "Connection: flags, then MUSTER_HUB, MUSTER_TOKEN, MUSTER_CA, then a profile file."
)
ADDED = "muster.commands"
"""Entry points by which an installed package adds a command of its own, such as the demo."""


@dataclass(frozen=True)
class Entry:
    """A command or a group of commands: where it is, and its line of help."""

    module: str
    attribute: str
    help: str
    extra: str = "cli"
    """That brings what its module imports."""


COMMANDS = {
    "status": Entry(
        "status",
        "status",
        "Show the fleet on a page: online, failing, drifting, versions, alerts, what waits.",
    ),
    "device": Entry("devices", "app", "Devices and enrolment."),
    "feed": Entry("feeds", "app", "Settings of feeds, by selector: list, set, remove."),
    "model": Entry("models", "app", "Models and their versions."),
    "alias": Entry("aliases", "app", "Aliases of versions: list, set, remove."),
    "policy": Entry("policies", "app", "Gates before release, by model: show, set, remove."),
    "release": Entry("releases", "app", "Wait for a version to be signed or rolled out."),
    "source": Entry("sources", "app", "Registries that are looked at for new versions."),
    "loop": Entry("loops", "app", "Retraining: list, show, start, approve, abandon."),
    "sampling": Entry(
        "sampling", "app", "Rows of raw data from devices, within what release keys signed."
    ),
    "baseline": Entry(
        "baselines", "app", "What training data looked like, to compare with.", "baseline"
    ),
    "assignment": Entry("assignments", "app", "What devices have in a slot: list, show, remove."),
    "agent": Entry("agents", "app", "Releases of the agent itself: push, list, show."),
    "rollout": Entry("rollouts", "app", "Bring a version to devices, in waves."),
    "drift": Entry("drift", "app", "Drift of inputs and outputs, feature by feature."),
    "alert": Entry("alerts", "app", "Alerts: list, acknowledge, resolve, silence."),
    "token": Entry("access", "tokens", "API tokens: make, show, revoke."),
    "user": Entry("people", "app", "People and their roles; links that sign in."),
    "login": Entry(
        "login",
        "login",
        "Check a token with the hub and keep it in a profile. The token is typed, or piped in.",
    ),
    "whoami": Entry("status", "whoami", "Show whom the hub takes you for, and what you may do."),
    "audit": Entry("access", "audit", "Who did what, and whether the log is complete."),
    "webhook": Entry("webhooks", "app", "Webhooks: list, add, test, remove."),
    "trust": Entry("trust", "app", "Signatures and expiry, of the hub and the fleet."),
    "apply": Entry(
        "apply",
        "apply",
        "Show how the hub differs from the file, and after a yes make it the same.",
    ),
    "tail": Entry(
        "tail",
        "tail",
        "Print events as they happen until interrupted; with --json one object a line.",
    ),
}
"""In the order in which the help names them."""


class Later(TyperCommand):
    """Stands for a command until it runs."""

    def __init__(self, name: str, entry: Entry) -> None:
        super().__init__(name, help=entry.help)
        self._entry = entry

    def load(self) -> Any:
        """The command itself; raises Lacking when its extra isn't installed."""
        entry = self._entry
        try:
            found = getattr(
                import_module(f"muster_client.commands.{entry.module}"), entry.attribute
            )
        except ModuleNotFoundError as error:
            missing = (error.name or "").partition(".")[0]
            if missing.startswith("muster_"):
                raise
            raise Lacking(f"muster {self.name}", missing, entry.extra) from None
        if isinstance(found, typer.Typer):
            return typer.main.get_group(found)
        alone = typer.Typer(add_completion=False)
        alone.command(self.name)(found)
        return typer.main.get_command(alone)

    def make_context(self, *arguments: Any, **more: Any) -> Any:
        """The context of the command itself, which then runs in its place."""
        return self.load().make_context(*arguments, **more)


class Commands(TyperGroup):
    """The commands of ``COMMANDS``, then those that other packages added."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in the order of the help."""
        return [*COMMANDS, *super().list_commands(ctx)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command, or what stands for it until it runs."""
        if cmd_name in COMMANDS:
            return Later(cmd_name, COMMANDS[cmd_name])
        return super().get_command(ctx, cmd_name)


app = typer.Typer(
    name="muster",
    cls=Commands,
    help="Operate a fleet: devices, models, rollouts, drift and alerts, over the hub's API.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def add_commands() -> None:
    """Add what other installed packages bring, by name; what can't be imported is left out."""
    for found in sorted(entry_points(group=ADDED), key=lambda entry: entry.name):
        try:
            command = found.load()
        except ModuleNotFoundError:
            continue  # its extra isn't installed
        app.command(found.name)(command)


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - an option's callback
    if wanted:
        sys.stdout.write(f"muster {version_of('muster-edge')}\n")
        raise typer.Exit


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
        Path | None,
        typer.Option(
            envvar="MUSTER_PROFILE",
            help="File with hub, token and ca, e.g. the hub's operator.toml.",
        ),
    ] = None,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Note which hub to use; no connection is made yet."""
    del version  # it has ended the command where it was given
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
        _end(error, error.code)
    except MusterError as error:
        _end(error, Exit.REFUSED)
    except BrokenPipeError:
        # Whoever read our output has closed it; a second error at exit would say nothing more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _end(error: MusterError, code: int) -> None:
    """One line for people; for programs, that asked for JSON, one line of it."""
    if "--json" in sys.argv[1:]:
        document = {"error": str(error), "exit_code": int(code)}
        if isinstance(error, Refused):
            document |= {"status": error.status, "problem": dict(error.problem)}
        text = json.dumps(document)
    else:
        text = f"muster: {bounds.clean(str(error))}"
    sys.stderr.write(f"{text}\n")
    sys.exit(code)
