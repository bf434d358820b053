"""`muster device logs`: a device's log from afar."""

import time
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.text import Text

from muster_client.resources.devices import LogLine
from muster_client.session import hub
from muster_client.terminal import output
from muster_client.terminal.completing import DeviceId
from muster_client.terminal.output import Json

POLL_SECONDS = 1.0
ASK_SECONDS = 90.0
"""A device sends for two minutes; while somebody follows it is asked again before."""
QUIET_SECONDS = 4.0
"""Two turns of a device: what it had has come."""
MINUTES_MAX = 60.0
LINES_MAX = 10_000
_STYLES = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "bold red"}


def add_to(app: typer.Typer) -> None:
    """Make this command the app's own."""
    app.command("logs")(logs)


def logs(
    context: typer.Context,
    device: DeviceId,
    *,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with lines as they come.")
    ] = False,
    minutes: Annotated[
        float, typer.Option(min=0.1, max=MINUTES_MAX, help="How long to follow.")
    ] = 10.0,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=1, max=LINES_MAX, help="Show at most so many.")
    ] = 1_000,
    wait_seconds: Annotated[
        float, typer.Option(min=0, help="How long to wait for the device; 0: only ask.")
    ] = 60.0,
    last: Annotated[
        bool, typer.Option("--last", help="Show what it sent last; ask nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show the log of a device's agent, without secrets; with --follow as it is written."""
    if last:
        found: Iterator[LogLine] = iter(hub(context).devices.logs(device, limit=min(lines, 500)))
    else:
        seconds = minutes * 60 if follow else 0.0
        found = _lines(context, device, seconds=seconds, wait_seconds=wait_seconds)
    shown = 0
    for line in found:
        shown += 1
        if as_json:
            output.show_json_line(line)
        else:
            output.show(_text(line))
        if shown == lines:
            break
    if not shown:
        if not as_json:
            output.show(
                f"{device} has sent no new line; earlier ones: muster device logs --last {device}"
            )
        raise typer.Exit(1)


def _lines(
    context: typer.Context, device: str, *, seconds: float, wait_seconds: float
) -> Iterator[LogLine]:
    """Lines that come after the request: the first ones, or all within ``seconds``."""
    held = hub(context).devices.logs(device, limit=1)
    after = held[-1]["number"] if held else 0
    begun = asked_at = time.monotonic()
    hub(context).devices.watch_log(device)
    until = begun + max(wait_seconds, seconds)
    came_at: float | None = None
    while True:
        # Without a known line the latest are shown; from then on what follows each.
        found = hub(context).devices.logs(device, after=after, limit=100)
        yield from found
        now = time.monotonic()
        if found:
            after, came_at = found[-1]["number"], now
        if now >= until or (not seconds and came_at is not None and now - came_at >= QUIET_SECONDS):
            return
        if now >= asked_at + ASK_SECONDS:
            asked_at = now
            hub(context).devices.watch_log(device)
        time.sleep(POLL_SECONDS)  # The hub pushes no lines to a command.


def _text(line: LogLine) -> Text:
    clock = time.strftime("%H:%M:%S", time.localtime(line["at"]))
    return Text.assemble(
        (f"{clock}  ", "dim"),
        (f"{line['level']:<8}  ", _STYLES.get(line["level"], "")),
        (f"{line['logger']}  " if line["logger"] else "", "dim"),
        line["line"],
    )
