"""`muster alert`: what needs somebody's attention, and what nobody is to be told for now."""

import time
from typing import Annotated, Any, Literal

import typer

from muster_client.answers import Alert, Silence
from muster_client.session import hub
from muster_client.terminal import output
from muster_client.terminal.output import Csv, Json

app = typer.Typer(help="Alerts: list, acknowledge, resolve, silence.", no_args_is_help=True)

AlertId = Annotated[int, typer.Argument(metavar="ID", help="The alert's number.")]


@app.command("list")
def list_alerts(
    context: typer.Context,
    *,
    state: Annotated[
        Literal["open", "acknowledged", "resolved"] | None,
        typer.Option(help="Only alerts in this state."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1)] = 200,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Show alerts, including resolved ones unless --state is given."""
    items = list(hub(context).alerts.list(state, limit))
    if output.shown_as_data(items, as_json=as_json, as_csv=as_csv):
        return
    headings = ("ID", "STATE", "SEVERITY", "DEVICE", "ALERT", "OPENED")
    output.show(output.table(headings, map(_row, items), empty="No alert."))


@app.command("ack")
def acknowledge(context: typer.Context, alert: AlertId, *, as_json: Json = False) -> None:
    """Note that somebody is looking into it. It stays open until its cause is gone."""
    _show_done(hub(context).alerts.ack(alert), "acknowledged", as_json=as_json)


@app.command("resolve")
def resolve(context: typer.Context, alert: AlertId, *, as_json: Json = False) -> None:
    """Close an alert. It opens again if its cause returns."""
    _show_done(hub(context).alerts.resolve(alert), "resolved", as_json=as_json)


@app.command("silence")
def silence(
    context: typer.Context,
    selector: Annotated[str, typer.Argument(help='Devices, as "site=berlin"; "" for all.')],
    *,
    hours: Annotated[float, typer.Option(min=0.01, help="For how many hours.")],
    reason: Annotated[str, typer.Option(help="The reason, shown to others.")] = "",
    as_json: Json = False,
) -> None:
    """Send no alerts of these devices for a while. They are still listed."""
    view = hub(context).alerts.silence(selector, hours=hours, reason=reason)
    if as_json:
        output.show_json(view)
    else:
        output.show(f"silence {view['id']} holds for {hours:g} h")


@app.command("silences")
def silences(context: typer.Context, *, as_json: Json = False, as_csv: Csv = False) -> None:
    """Show the silences that are in force."""
    items = list(hub(context).alerts.silences())
    if output.shown_as_data(items, as_json=as_json, as_csv=as_csv):
        return
    headings = ("ID", "SELECTOR", "ENDS IN", "BY", "REASON")
    output.show(output.table(headings, map(_silence_row, items), empty="No silence."))


@app.command("unsilence")
def unsilence(
    context: typer.Context,
    silence: Annotated[int, typer.Argument(metavar="ID", help="The silence's number.")],
) -> None:
    """End a silence now. Alerts that are still open are sent."""
    hub(context).alerts.unsilence(silence)
    output.show(f"silence {silence}: ended")


def _silence_row(view: Silence) -> tuple[Any, ...]:
    left = max(view["until"] - time.time(), 0.0) / 3600
    chosen = view["selector"] or "all devices"
    return view["id"], chosen, f"{left:.1f} h", view["by"], view["reason"]


def _show_done(view: Alert, done: str, *, as_json: bool) -> None:
    if as_json:
        output.show_json(view)
    else:
        output.show(f"alert {view['id']}: {done}")


def _row(view: Alert) -> tuple[Any, ...]:
    return (
        view["id"],
        output.state(view.get("state")),
        output.state(view.get("severity")),
        view.get("device"),
        view.get("title"),
        output.ago(view.get("opened")),
    )
