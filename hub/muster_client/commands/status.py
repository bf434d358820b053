"""`muster status` and `muster whoami`: the fleet at a glance, and who asks."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.text import Text

from muster_client.resources.overview import Overview
from muster_client.session import hub
from muster_client.terminal import output
from muster_client.terminal.output import Json

ROWS = 10
"""Of each table: all of it fits on a screen."""


def status(
    context: typer.Context,
    *,
    selector: Annotated[
        str | None, typer.Option("--selector", "-s", help="Only devices with these labels.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the fleet on a page: online, failing, drifting, versions, alerts, what waits."""
    found = hub(context).status(selector)
    if as_json:
        output.show_json(found)
        return
    output.show(output.facts(_counts(found)), "")
    stands = (
        (output.state(item["standing"]), item["devices"], item["meaning"])
        for item in found["standings"]
    )
    output.show(output.table(("STANDING", "DEVICES", ""), stands, empty="No device has enrolled."))
    if versions := found["versions"]:
        rows = ((item["model"], item["version"], item["devices"]) for item in versions[:ROWS])
        output.show("", output.table(("MODEL", "VERSION", "DEVICES"), rows, empty=""))
        _more(len(versions), "versions")
    if agents := found["agents"]:
        counted = ((item["version"], item["devices"]) for item in agents[:ROWS])
        output.show("", output.table(("AGENT", "DEVICES"), counted, empty=""))
        _more(len(agents), "versions of the agent")
    if going := found["rollouts"]:
        rollouts = (
            (
                item["id"], f"{item['model']} {item['version']}", item["selector"] or "all",
                output.state(item["state"]), item["reason"],
            )
            for item in going[:ROWS]
        )  # fmt: skip
        headings = ("ROLLOUT", "MODEL", "SELECTOR", "STATE", "REASON")
        output.show("", output.table(headings, rollouts, empty=""))
        _more(len(going), "rollouts")
    if waits := found["waits"]:
        lines = (
            (item["who"], item["what"], item["count"] or None) for item in waits[:ROWS]
        )  # fmt: skip
        output.show("", output.table(("WAITS FOR", "", "DEVICES"), lines, empty=""))
        _more(len(waits), "things that wait")


def whoami(context: typer.Context, *, as_json: Json = False) -> None:
    """Show whom the hub takes you for, and what you may do."""
    found = hub(context).whoami()
    if as_json:
        output.show_json(found)
        return
    output.show(
        output.facts(
            [
                ("name", Text(found["name"], style="bold")),
                ("kind", found["kind"]),
                ("person", found["owner"]),
                ("role", found["role"]),
                ("models", found["models"] or "all"),
                ("devices", found["selector"] or "all"),
                ("hub", hub(context).url),
            ]
        )
    )


def _counts(found: Overview) -> Iterator[tuple[str, Any]]:
    failing, drifting = found["failing"], found["drifting"]
    yield "devices", str(found["devices"])
    yield "online", str(found["online"])
    yield "failing", Text(str(failing), style="bold red" if failing else "")
    yield "drifting", Text(str(drifting), style="bold red" if drifting else "")
    yield "waiting", str(found["waiting"])
    opened = ", ".join(
        f"{count} {severity}" for severity, count in sorted(found["open_alerts"].items())
    )
    yield "open alerts", Text(opened or "none", style="bold red" if opened else "")
    if found["acknowledged_alerts"]:
        yield "acknowledged", str(found["acknowledged_alerts"])


def _more(count: int, what: str) -> None:
    if count > ROWS:
        output.show(Text(f"and {count - ROWS} more {what}", style="dim"))
