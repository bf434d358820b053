"""``muster-hub agent-release``: makes and signs what devices update their agent from.

Works on any machine that has the key: no hub is asked.
"""

import time
from pathlib import Path
from typing import Annotated

import typer

from muster_hub.admin.keys import KeyOption, PasswordFile, PublicOfUri, open_key
from muster_hub.signing import agent_releases
from muster_protocol.wire.agent_release import AgentRelease

release_app = typer.Typer(
    help="Releases of the agent, for devices to update from.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def add_to(app: typer.Typer) -> None:
    """Make these commands the app's own."""
    app.add_typer(release_app, name="agent-release")


@release_app.command("make")
def make(
    wheels: Annotated[list[Path], typer.Argument(help="Wheels of the agent and all it needs.")],
    *,
    out: Annotated[Path, typer.Option(help="The file to write.")],
    key: KeyOption,
    extras: Annotated[str, typer.Option(help="Of the agent, with commas.")] = "agent,onnx",
    public: PublicOfUri = None,
    password_file: PasswordFile = None,
) -> None:
    """Put wheels into a file that devices install from, signed with a key of the role targets."""
    signer = open_key(key, public, password_file)
    wanted = [extra.strip() for extra in extras.split(",") if extra.strip()]
    print(f"{out}: {_words(agent_releases.make(wheels, wanted, signer, out, int(time.time())))}")


@release_app.command("sign")
def sign(
    file: Annotated[Path, typer.Argument(help="A file that `make` has written.")],
    *,
    key: KeyOption,
    public: PublicOfUri = None,
    password_file: PasswordFile = None,
) -> None:
    """Add a second person's signature, where the role targets asks for several."""
    signer = open_key(key, public, password_file)
    print(f"{file}: {_words(agent_releases.add_signature(file, signer))}")


def _words(release: AgentRelease) -> str:
    count = len(release.wheels)
    extras = ",".join(release.extras)
    return f"agent {release.version} [{extras}], {count} wheels, {release.size_bytes} bytes"
