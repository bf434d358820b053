"""`muster token` and `muster audit`: who may do what, and what was done."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from muster_client.client import Api
from muster_client.failures import OperatorError
from muster_client.session import api
from muster_client.terminal import asking, output
from muster_client.terminal.asking import Yes
from muster_client.terminal.output import Json
from muster_hub.audit import chain

tokens = typer.Typer(help="API tokens: make, show, revoke.", no_args_is_help=True)
audit = typer.Typer(help="What was done, by whom, and whether the log is whole.",
                    no_args_is_help=True)  # fmt: skip
DAY_SECONDS = 86_400


@tokens.command("make")
def make(
    context: typer.Context,
    name: str,
    *,
    role: Annotated[str, typer.Option(help="viewer, operator, releaser or admin.")] = "viewer",
    model: Annotated[
        list[str] | None, typer.Option(help="Only this model; repeat for more; pump-* for many.")
    ] = None,
    selector: Annotated[
        str, typer.Option("--selector", "-s", help="Only devices with these labels.")
    ] = "",
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long it is good.")] = 90,
    as_json: Json = False,
) -> None:
    """Make a token. It is shown once."""
    body: dict[str, Any] = {
        "name": name, "role": role, "models": model or [], "selector": selector,
        "expires_seconds": days * DAY_SECONDS,
    }  # fmt: skip
    made = api(context).post("/tokens", body)
    if as_json:
        output.show_json(made)
    else:
        output.show(Text(made["token"]))


@tokens.command("list")
def list_tokens(context: typer.Context, *, as_json: Json = False) -> None:
    """Show tokens, those that ended included; never their text."""
    items = list(api(context).pages("/tokens"))
    if as_json:
        output.show_json(items)
        return
    headings = ("ID", "NAME", "ROLE", "MODELS", "DEVICES", "MADE", "BY", "REVOKED")
    rows = (
        (
            item["id"], item["name"], item["role"], item["models"] or "all",
            item["selector"] or "all",
            output.ago(item["created"]), item["created_by"], item["revoked"] is not None,
        )
        for item in items
    )  # fmt: skip
    output.show(output.table(headings, rows, empty="There is no token."))


@tokens.command("revoke")
def revoke(
    context: typer.Context,
    token: Annotated[str, typer.Argument(metavar="ID")],
    *,
    yes: Yes = False,
) -> None:
    """End a token at once and for good."""
    hub = api(context)
    if not yes:
        asking.confirm(_ended(hub, token), yes=yes)
    made = hub.post(f"/tokens/{token}/revoke")
    output.show(Text(f"{made['name']} ({made['id']}) is revoked."))


def _ended(hub: Api, token: str) -> str:
    """What the revocation of a token does, in words."""
    found = next((item for item in hub.pages("/tokens") if item["id"] == token), None)
    if found is None:
        raise OperatorError(f"there is no API token {token!r}: `muster token list` shows them")
    owner = found.get("owner") or found["created_by"]
    whose = f"{found['role']}, of {owner}, made {output.ago(found['created'])}"
    return f"{found['name']} ({whose}) ends for good: whoever uses it is refused from now on"


@audit.command("list")
def list_rows(context: typer.Context, *, limit: int = 1000, as_json: Json = False) -> None:
    """Show who did what, the oldest first."""
    items = list(api(context).pages("/audit", limit=limit))
    if as_json:
        output.show_json(items)
        return
    headings = ("ID", "WHEN", "WHO", "DID", "TO")
    rows = (
        (item["id"], output.ago(item["at"]), item["actor"], item["action"], item["subject"])
        for item in items
    )
    output.show(output.table(headings, rows, empty="Nothing was done yet."))


@audit.command("verify")
def verify(
    context: typer.Context,
    *,
    archive: Annotated[
        list[Path] | None,
        typer.Option(help="A file of `muster-hub audit-archive`; repeat for all of them."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check every row's seal: finds any edit and any gap."""
    found = api(context).get("/audit/verify")
    if not found["ok"]:
        raise OperatorError(f"the audit log is broken after {found['rows']} rows: {found['fault']}")
    missing = found["archived"]
    if archive:
        missing = chain.join(archive, found["archived"], found["archived_latest"])
    if as_json:
        output.show_json(found | {"unchecked": missing})
    else:
        words = chain.checked_in_words(
            found["rows"], found["archived"], missing, found.get("keyed_from")
        )
        output.show(Text(words))
        output.show(Text(f"Latest: {found['latest']}"))
