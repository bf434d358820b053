"""`muster login`: keep where the hub is and who asks, so that no command needs to be told."""

import getpass
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from muster_client.failures import WrongUsage
from muster_client.terminal import output

TOKEN_CHARS_MAX = 4096


def login(
    url: Annotated[str, typer.Argument(metavar="URL", help="Of the hub.")],
    *,
    ca: Annotated[
        Path | None,
        typer.Option(help="PEM file of the CA that signs the hub's certificate; it is copied."),
    ] = None,
    to: Annotated[
        Path | None, typer.Option(help="The profile to write; by default your own.")
    ] = None,
    replace: Annotated[bool, typer.Option(help="Write over a profile that is there.")] = False,
) -> None:
    """Check a token with the hub and keep it in a profile. The token is typed, or piped in."""
    from muster_client import profile  # noqa: PLC0415 - a help page needs no profile
    from muster_client.hub import Hub  # noqa: PLC0415 - nor an HTTP client

    path = to or profile.default_path()
    if path.exists() and not replace:
        raise WrongUsage(f"{path} is there already: --replace writes over it, --to FILE elsewhere")
    token = _token()
    with Hub(url, token, ca=ca) as hub:
        who = hub.whoami()
        profile.write(path, profile.Profile(hub.url, token, str(ca) if ca else ""))
    output.show(Text(f"{who['name']} ({who['role']}) at {url}; kept in {path}"))


def _token() -> str:
    """From the terminal, unseen, or from standard input: never from the command line."""
    if sys.stdin.isatty():
        text = getpass.getpass("API token: ")
    else:
        text = sys.stdin.readline(TOKEN_CHARS_MAX)
    if not text.strip():
        raise WrongUsage("no token: type it, or pipe it in (muster token make … | muster login …)")
    return text.strip()
