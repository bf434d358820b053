"""`muster source`: places outside that are looked at for new versions."""

from typing import Annotated, Any

import typer
from rich.text import Text

from muster_client.failures import WrongUsage
from muster_client.packing import options as chosen
from muster_client.resources.sources import seconds_of
from muster_client.session import hub
from muster_client.terminal import output
from muster_client.terminal.output import Csv, Json

app = typer.Typer(help="Registries that are looked at for new versions.", no_args_is_help=True)


def packing_options(texts: list[str]) -> dict[str, Any]:
    """Options of packing as they are kept; checked here so that a wrong one is said at once."""
    said: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        key = name.replace("-", "_")
        if not (equals and key in chosen.fields()):
            raise WrongUsage(f"--option {text}: write NAME=VALUE, NAME one of `model pack`'s")
        many = chosen.fields()[key].kind is tuple
        said[key] = [*said.get(key, []), value] if many else value
    chosen.of(said, "--option")
    return said


@app.command("list")
def list_sources(context: typer.Context, *, as_json: Json = False, as_csv: Csv = False) -> None:
    """Show sources, and what the last look at each found."""
    items = hub(context).sources.list()
    if output.shown_as_data(items, as_json=as_json, as_csv=as_csv):
        return
    rows = (
        (
            item["id"], item["uri"], item["model"], f"{item['every_seconds']:g} s",
            output.ago(item["looked"]), item["version"], item["fault"],
        )
        for item in items
    )  # fmt: skip
    headings = ("SOURCE", "PLACE", "MODEL", "EVERY", "LOOKED", "VERSION", "FAULT")
    output.show(output.table(headings, rows, empty="There is no source."))


@app.command("add")
def add(
    context: typer.Context,
    uri: Annotated[str, typer.Argument(metavar="SCHEME:PLACE", help="As for `model import`.")],
    model: Annotated[str, typer.Option(help="The model here that its versions belong to.")],
    *,
    alias: Annotated[str, typer.Option(help="Of MLflow, in place of @ALIAS.")] = "",
    every: Annotated[str, typer.Option(help="How often to look: 60s, 5min, 1h.")] = "60s",
    option: Annotated[
        list[str] | None, typer.Option(help="Of packing, as NAME=VALUE; repeat for more.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Have a place looked at. `muster source run` does so, where its credentials are."""
    place = f"{uri}@{alias}" if alias else uri
    said = packing_options(option or [])
    made = hub(context).sources.add(place, model, every_seconds=seconds_of(every), options=said)
    if as_json:
        output.show_json(made)
    else:
        output.show(Text(f"source {made['id']}: {made['uri']}, every {made['every_seconds']:g} s"))


@app.command("remove")
def remove(
    context: typer.Context,
    source: Annotated[int, typer.Argument(metavar="SOURCE")],
    *,
    as_json: Json = False,
) -> None:
    """Look there no more. What was pushed stays."""
    hub(context).sources.remove(source)
    if as_json:
        output.show_json({"source": source, "removed": True})
    else:
        output.show(Text(f"source {source} is removed."))


@app.command("run")
def run(
    context: typer.Context,
    *,
    once: Annotated[bool, typer.Option("--once", help="Look at each once, then end.")] = False,
    as_json: Json = False,
) -> None:
    """Look at all sources when they are due, until interrupted; what is new is pushed."""
    for look in hub(context).sources.run(once=once):
        if as_json:
            output.show_json_line({**look.source, "news": look.news})
        elif look.source["fault"]:
            output.show(Text(f"{look.source['uri']}: {look.source['fault']}", style="yellow"))
        elif look.news:
            output.show(Text(f"{look.source['uri']}: {look.source['model']} "
                             f"{look.source['version']} is a candidate"))  # fmt: skip
