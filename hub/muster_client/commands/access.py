"""`muster token` and `muster audit`: who may do what, and what was done."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from muster_client.answers import ApiToken
from muster_client.failures import WrongUsage
from muster_client.session import hub
from muster_client.terminal import asking, output
from muster_client.terminal.asking import Yes
from muster_client.terminal.completing import DeviceId
from muster_client.terminal.output import Csv, Json
from muster_protocol.wire.audit import checked_in_words

tokens = typer.Typer(help="API tokens: make, show, revoke.", no_args_is_help=True)
audit = typer.Typer(help="Who did what, and whether the log is complete.",
                    no_args_is_help=True)  # fmt: skip


Day = Annotated[
    datetime | None,
    typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M"], help="From, or until before, this (UTC)."),
]


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.replace(tzinfo=UTC).timestamp()


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
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long the token is valid.")] = 90,
    owner: Annotated[str, typer.Option(help="The person who will hold it; by default you.")] = "",
    as_json: Json = False,
) -> None:
    """Make a token. It is shown once."""
    made = hub(context).tokens.make(
        name, role, models=model or (), selector=selector, days=days, owner=owner
    )
    if as_json:
        output.show_json(made)
    else:
        output.show(Text(made["token"]))


@tokens.command("list")
def list_tokens(context: typer.Context, *, as_json: Json = False, as_csv: Csv = False) -> None:
    """Show tokens, including ended ones. The secret itself is never shown."""
    items = list(hub(context).tokens.list())
    if output.shown_as_data(items, as_json=as_json, as_csv=as_csv):
        return
    headings = ("ID", "NAME", "ROLE", "MODELS", "DEVICES", "MADE", "BY", "OWNER", "REVOKED")
    rows = (
        (
            row["id"], row["name"], row["role"], row["models"] or "all",
            row["selector"] or "all",
            output.ago(row["created"]), row["created_by"], row["owner"],
            row["revoked"] is not None,
        )
        for row in items
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
    if not yes:
        asking.confirm(_ended(hub(context).tokens.list(), token), yes=yes)
    made = hub(context).tokens.revoke(token)
    output.show(Text(f"{made['name']} ({made['id']}) is revoked."))


def _ended(tokens: Iterable[ApiToken], token: str) -> str:
    """What the revocation of a token does, in words."""
    found = next((row for row in tokens if row["id"] == token), None)
    if found is None:
        raise WrongUsage(f"there is no API token {token!r}: `muster token list` shows them")
    whose = f"{found['role']}, of {found['owner']}, made {output.ago(found['created'])}"
    return f"{found['name']} ({whose}) ends for good: whoever uses it is refused from now on"


@audit.command("list")
def list_rows(
    context: typer.Context,
    *,
    who: Annotated[str | None, typer.Option(help="Only theirs, e.g. token:ci.")] = None,
    did: Annotated[
        str | None, typer.Option(help="Only this, or what begins so, e.g. 'device.'.")
    ] = None,
    to: Annotated[str | None, typer.Option(help="Only what was done to this.")] = None,
    since: Day = None,
    until: Day = None,
    limit: int = 1000,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Show who did what, the oldest first."""
    items = list(
        hub(context).audit.list(
            limit, actor=who, action=did, subject=to, since=_seconds(since), until=_seconds(until)
        )
    )
    if output.shown_as_data(items, as_json=as_json, as_csv=as_csv):
        return
    headings = ("ID", "WHEN", "WHO", "DID", "TO")
    rows = (
        (row["id"], output.ago(row["at"]), row["actor"], row["action"], row["subject"])
        for row in items
    )
    output.show(output.table(headings, rows, empty="Nothing was done yet."))


@audit.command("export")
def export(
    context: typer.Context,
    device: DeviceId,
    *,
    since: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="The first day, UTC.")],
    until: Annotated[
        datetime, typer.Option(formats=["%Y-%m-%d"], help="The day after the last, UTC.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="A folder; it is made.")],
    as_json: Json = False,
) -> None:
    """Write a device's record for an auditor: signed JSON Lines, and a page that shows them."""
    from muster_client.resources.record_page import page  # noqa: PLC0415 - for this alone

    first, last = (moment.replace(tzinfo=UTC).timestamp() for moment in (since, until))
    data = hub(context).audit.export(device, first, last)
    lines = [json.loads(line) for line in data.splitlines()]
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "record.jsonl").write_bytes(data)
        (out / "record.html").write_text(page(lines), encoding="utf-8")
    except OSError as error:
        raise WrongUsage(f"{out}: {error.strerror}") from None
    if as_json:
        output.show_json({"folder": str(out), "lines": len(lines) - 1})
    else:
        output.show(Text(f"{out}: record.jsonl ({len(lines) - 1} lines, signed), record.html"))


@audit.command("verify")
def verify(
    context: typer.Context,
    *,
    archive: Annotated[
        list[Path] | None,
        typer.Option(help="A file made by `muster-hub audit-archive`; repeat for each one."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check the seal of every row. Finds any edited or missing row."""
    found = hub(context).audit.verify(archive or ())
    if as_json:
        output.show_json(found)
    else:
        words = checked_in_words(
            found["rows"], found["archived"], found["unchecked"], found["keyed_from"]
        )
        output.show(Text(words))
        output.show(Text(f"Latest: {found['latest']}"))
