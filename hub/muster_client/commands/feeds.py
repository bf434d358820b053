"""`muster feed`: what devices are told of their feeds beside their own configuration."""

import json
from typing import Annotated, Any

import typer
from rich.text import Text

from muster_client.failures import WrongUsage
from muster_client.session import hub
from muster_client.terminal import output
from muster_client.terminal.output import Csv, Json

app = typer.Typer(help="Settings of feeds, by selector: list, set, remove.", no_args_is_help=True)


@app.command("list")
def list_settings(context: typer.Context, *, as_json: Json = False, as_csv: Csv = False) -> None:
    """Show what is set, and on how many devices."""
    found = hub(context).feed_settings.list()
    if output.shown_as_data(found, as_json=as_json, as_csv=as_csv):
        return
    rows = (
        (
            each["name"], each["selector"] or "all", each["feed"], each["settings"],
            each["devices"], len(each["lacking"]) + each["lacking_more"] or None,
        )
        for each in found
    )  # fmt: skip
    headings = ("NAME", "DEVICES", "FEED", "SETTINGS", "REACHED", "LACK A LABEL")
    output.show(output.table(headings, rows, empty="Nothing is set."))


@app.command("set")
def set_values(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Of this setting; one of the same name is replaced.")],
    feed: Annotated[str, typer.Argument(help="As agent.toml names it.")],
    values: Annotated[
        list[str],
        typer.Argument(help="As sources.plc.host={label.plc_address}; the value as JSON or text."),
    ],
    *,
    selector: Annotated[str, typer.Option(help="Which devices; empty: all.")] = "",
    as_json: Json = False,
) -> None:
    """Set values of a feed on many devices, by their signed directives."""
    settings = dict(_value(each) for each in values)
    found = hub(context).feed_settings.set(name, feed, settings, selector)
    if as_json:
        output.show_json(found)
        return
    output.show(Text(f"{name} is set on {found['devices']} devices."))
    for device, label in found["lacking"].items():
        output.show(Text(f"{device} has no label {label}: it is told nothing of it."))
    if found["lacking_more"]:
        output.show(Text(f"{found['lacking_more']} more devices lack a label."))


@app.command("remove")
def remove(context: typer.Context, name: str, *, as_json: Json = False) -> None:
    """Let the devices' own configuration count again."""
    hub(context).feed_settings.remove(name)
    if as_json:
        output.show_json({"name": name, "removed": True})
    else:
        output.show(Text(f"{name} is removed: what agent.toml says counts again."))


def _value(text: str) -> tuple[str, Any]:
    path, equals, value = text.partition("=")
    if not equals or not path:
        raise WrongUsage(f"{text!r}: write a path and a value, as sources.plc.host=10.0.0.5")
    try:
        found = json.loads(value)
    except ValueError:
        return path, value
    return path, found if isinstance(found, (str, float, int, bool)) else value
