"""`muster tail`: the fleet's events as they happen."""

import time
from itertools import islice
from typing import Annotated

import typer
from rich.text import Text

from muster_client.answers import Event
from muster_client.session import hub
from muster_client.terminal import output
from muster_client.terminal.output import Json

KIND_STYLES = {
    "refused": "bold red",
    "rolled_back": "bold red",
    "worker_died": "bold red",
    "drift": "bold yellow",
    "alert": "bold yellow",
    "fetch_healed": "cyan",
    "update": "green",
}


def tail(
    context: typer.Context,
    *,
    count: Annotated[
        int | None, typer.Option("--count", "-n", min=1, help="Stop after so many events.")
    ] = None,
    selector: Annotated[
        str | None, typer.Option("--selector", "-s", help="Only of devices with these labels.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="Only of this device.")] = None,
    kind: Annotated[
        list[str] | None, typer.Option(help="Only of this kind, e.g. refused; repeat for more.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print events as they happen until interrupted; with --json one object a line."""
    events = hub(context).tail(selector, device=device, kinds=kind or ())
    for event_view in islice(events, count):
        if as_json:
            output.show_json_line(event_view)
        else:
            output.show(line(event_view))


def line(event_view: Event) -> Text:
    """One event in one line: time, device, kind, what it concerns, detail."""
    at = event_view.get("received") or event_view.get("at")
    clock = time.strftime("%H:%M:%S", time.localtime(at if isinstance(at, int | float) else None))
    kind = str(event_view.get("kind", ""))
    what = [event_view.get(name) for name in ("slot", "model", "version", "state", "refusal")]
    return Text.assemble(
        (f"{clock}  ", "dim"),
        (f"{event_view.get('device') or 'hub':<12}  ", "bold"),
        (f"{kind.replace('_', ' '):<12}  ", KIND_STYLES.get(kind, "")),
        " ".join(str(part).replace("_", " ") for part in what if part),
        (f"  {event_view.get('detail') or ''}".rstrip(), "dim"),
    )
