"""`muster alert`: what needs somebody's attention."""

from typing import Annotated, Any, Literal

import typer

from muster_hub.operator import output
from muster_hub.operator.output import Json
from muster_hub.operator.session import api

app = typer.Typer(help="Alerts: list, acknowledge, resolve.", no_args_is_help=True)

AlertId = Annotated[int, typer.Argument(metavar="ID", help="The alert's number.")]


@app.command("list")
def list_alerts(
    context: typer.Context,
    *,
    state: Annotated[
        Literal["open", "acknowledged", "resolved"] | None, typer.Option(help="Only these.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1)] = 200,
    as_json: Json = False,
) -> None:
    """Show alerts, resolved ones too unless --state says otherwise."""
    items = list(api(context).pages("/alerts", limit=limit, state=state))
    if as_json:
        output.show_json(items)
        return
    headings = ("ID", "STATE", "SEVERITY", "DEVICE", "ALERT", "OPENED")
    output.show(output.table(headings, map(_row, items), empty="No alert."))


@app.command("ack")
def acknowledge(context: typer.Context, alert: AlertId, *, as_json: Json = False) -> None:
    """Say that somebody is looking at it. It stays until it clears."""
    _act(context, alert, "acknowledge", as_json=as_json)


@app.command("resolve")
def resolve(context: typer.Context, alert: AlertId, *, as_json: Json = False) -> None:
    """Close it. It opens anew when its cause returns."""
    _act(context, alert, "resolve", as_json=as_json)


def _act(context: typer.Context, alert: int, action: str, *, as_json: bool) -> None:
    item = api(context).post(f"/alerts/{alert}/{action}")
    if as_json:
        output.show_json(item)
    else:
        output.show(f"alert {alert}: {action}d")


def _row(item: dict[str, Any]) -> tuple[Any, ...]:
    return (
        item["id"],
        output.state(item.get("state")),
        output.state(item.get("severity")),
        item.get("device"),
        item.get("title"),
        output.ago(item.get("opened")),
    )
