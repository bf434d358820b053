"""`muster trust`: who may sign, who has signed what waits, and what ends soon in the fleet."""

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from muster_client.answers import Ending, Key, Role, Waiting
from muster_client.session import hub
from muster_client.terminal import output
from muster_client.terminal.output import Json

app = typer.Typer(help="Signatures and expiry, of the hub and the fleet.", no_args_is_help=True)

DAY_SECONDS = 86_400.0
_KINDS = {"device_metadata": "metadata on a device", "authority": "certificate"}


@app.command("show")
def show(context: typer.Context, *, as_json: Json = False) -> None:
    """Show who may sign each role, when it expires, and who has signed what is waiting."""
    found = hub(context).trust.show()
    if as_json:
        output.show_json(found)
        return
    roles = (
        (role, view["version"], f"{view['threshold']} of {_names(view['keys'])}", _left(view))
        for role, view in found["roles"].items()
    )
    waiting = (
        (role, f"{len(group['signed'])} of {group['threshold']}", _names(group["signed"]),
         _names(group["may_sign"]))
        for role, groups in found["waiting"].items()
        for group in groups
    )  # fmt: skip
    held = ("ROLE", "VERSION", "SIGNED BY", "GOOD FOR")
    headings = ("WAITS", "SIGNATURES", "SIGNED BY", "MAY SIGN")
    output.show(
        output.table(held, roles, empty="Nothing is signed."),
        "",
        output.table(headings, waiting, empty="Nothing waits for signatures."),
    )


@app.command("expiring")
def expiring(
    context: typer.Context,
    *,
    days: Annotated[float, typer.Option(min=0, help="Within this many days.")] = 90.0,
    as_json: Json = False,
) -> None:
    """Show certificates and metadata that expire soon or have expired, the soonest first."""
    found = hub(context).trust.expiring(days)
    if as_json:
        output.show_json(found)
        return
    rows = (
        (_KINDS.get(view["kind"], view["kind"]), view["name"], view["role"], _left(view))
        for view in found["items"]
    )
    output.show(
        output.table(("WHAT", "OF", "ROLE", "GOOD FOR"), rows, empty="Nothing ends that soon."),
        *([f"and {found['more']} more"] if found["more"] else []),
    )


@app.command("request")
def request(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="Folder for the files to sign; it is made.")],
    *,
    as_json: Json = False,
) -> None:
    """Fetch what waits for signatures as files, to be carried to where the keys are."""
    files = hub(context).trust.request(folder)
    if as_json:
        output.show_json({"files": [str(file) for file in files]})
        return
    lines = [Text(f"{file}: muster-hub sign --key KEY {file}") for file in files]
    output.show(*(lines or [Text("Nothing waits for signatures.")]))


@app.command("submit")
def submit(
    context: typer.Context,
    files: Annotated[list[Path], typer.Argument(help="Signed files of a signing request.")],
    *,
    as_json: Json = False,
) -> None:
    """Bring signed files back. The hub publishes within seconds what is complete."""
    waiting = hub(context).trust.submit(files)
    if as_json:
        output.show_json({"waiting": waiting})
    elif waiting:
        output.show(Text(f"Still waiting for signatures: {', '.join(waiting)}"))
    else:
        output.show(Text("Everything is signed."))


def waiting_for(found: Mapping[str, Sequence[Waiting]], model: str) -> list[tuple[str, str]]:
    """Who has signed, and who may, of what a model's new version waits for: role and words."""
    groups = [
        (role, view) for role in (f"model-{model}", "targets") for view in found.get(role, [])
    ]
    return [(f"signatures of {role}", _words(group)) for role, group in groups]


def _words(group: Waiting) -> str:
    signed = _names(group["signed"]) or "nobody"
    count = f"{len(group['signed'])} of {group['threshold']}"
    return f"{count}; signed by {signed}; may sign: {_names(group['may_sign'])}"


def _names(keys: Iterable[Key]) -> str:
    return ", ".join(key["name"] or key["id"][:8] for key in keys)


def _left(view: Role | Ending) -> Text:
    days = (view["expires"] - time.time()) / DAY_SECONDS
    if days < 0:
        return Text(f"ended {-days:.0f} days ago", style="red")
    return Text(f"{days:.0f} days")
