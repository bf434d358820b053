"""`muster webhook`: who is told of alerts, beside the receivers in the hub's settings."""

from typing import Annotated

import typer
from rich.text import Text

from muster_client.failures import OperatorError
from muster_client.session import hub
from muster_client.terminal import asking, output
from muster_client.terminal.asking import Yes
from muster_client.terminal.output import Csv, Json

app = typer.Typer(help="Webhooks: list, add, test, remove.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="NAME")]


@app.command("list")
def list_webhooks(context: typer.Context, *, as_json: Json = False, as_csv: Csv = False) -> None:
    """Show webhooks and how their latest delivery went; never their secrets."""
    items = list(hub(context).webhooks.list())
    if output.shown_as_data(items, as_json=as_json, as_csv=as_csv):
        return
    headings = ("NAME", "URL", "ON", "CAUSES", "TRIED", "FAULT")
    rows = (
        (
            webhook["name"], webhook["url"], webhook["on"], webhook["causes"] or "all",
            output.ago(webhook["tried"]), webhook["fault"],
        )
        for webhook in items
    )  # fmt: skip
    output.show(output.table(headings, rows, empty="There is no webhook."))


@app.command("add")
def add(
    context: typer.Context,
    name: Name,
    url: Annotated[str, typer.Argument(metavar="URL", help="http:// or https://")],
    *,
    on: Annotated[
        list[str] | None,
        typer.Option(
            help="opened, escalated, resolved, digest or retrain; repeat for more. "
            "When not given: the first three."
        ),
    ] = None,
    cause: Annotated[
        list[str] | None, typer.Option(help="Only alerts of this kind; repeat for more.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Send alerts to an address. The secret that signs deliveries is shown once."""
    made = hub(context).webhooks.add(name, url, on=on or (), causes=cause or ())
    if as_json:
        output.show_json(made)
    else:
        output.show(Text(made["secret"]))


@app.command("test")
def try_out(context: typer.Context, name: Name, *, as_json: Json = False) -> None:
    """Send a test delivery now; exit code 1 when it fails."""
    answer = hub(context).webhooks.test(name)
    if as_json:
        output.show_json(answer)
    if not answer["taken"]:
        raise OperatorError(f"{name} did not take it: {answer['fault']}")
    if not as_json:
        output.show(Text(f"{name} took delivery {answer['delivery']}."))


@app.command("renew")
def renew(context: typer.Context, name: Name, *, yes: Yes = False, as_json: Json = False) -> None:
    """Make a new secret, which is shown once. The old one is no longer used."""
    if not yes:
        webhook = hub(context).webhooks.show(name)
        asking.confirm(
            f"the old secret of {name} stops working at once: {webhook['url']} refuses deliveries "
            "until it knows the new one",
            yes=yes,
        )
    made = hub(context).webhooks.renew(name)
    if as_json:
        output.show_json(made)
    else:
        output.show(Text(made["secret"]))


@app.command("remove")
def remove(context: typer.Context, name: Name, *, yes: Yes = False, as_json: Json = False) -> None:
    """Remove a webhook. Deliveries that wait for it are dropped."""
    if not yes:
        webhook = hub(context).webhooks.show(name)
        asking.confirm(
            f"{webhook['url']} no longer receives alerts ({', '.join(webhook['on'])}); what "
            f"waits for it is dropped, and the secret of {name} is gone",
            yes=yes,
        )
    hub(context).webhooks.remove(name)
    if as_json:
        output.show_json({"name": name, "removed": True})
    else:
        output.show(Text(f"{name} is removed."))
