"""`muster agent`: releases of the agent itself, for devices to update from."""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from muster_client.resources.agent_releases import AgentRelease
from muster_client.session import hub
from muster_client.terminal import output
from muster_client.terminal.output import Csv, Json
from muster_protocol.wire import agent_release

app = typer.Typer(help="Releases of the agent itself: push, list, show.", no_args_is_help=True)


@app.command("push")
def push(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="As `muster-hub agent-release make` wrote it.")],
    *,
    as_json: Json = False,
) -> None:
    """Push a signed release. No device is asked for anything before a rollout begins."""
    found = hub(context).agents.push(file)
    if as_json:
        output.show_json(found)
        return
    output.show(
        Text(
            f"agent {found['version']} is on the hub. Bring it to devices with: "
            f"muster rollout start {agent_release.NAME} {found['version']}"
        )
    )


@app.command("list")
def list_releases(context: typer.Context, *, as_json: Json = False, as_csv: Csv = False) -> None:
    """Show releases, the newest first, and how many devices say that they run each."""
    items = hub(context).agents.list()
    if output.shown_as_data(items, as_json=as_json, as_csv=as_csv):
        return
    rows = (
        (
            item["version"], ",".join(item["extras"]), output.size(item["size_bytes"]),
            output.ago(float(item["issued"])), output.ago(item["created"]), item["devices"],
        )
        for item in items
    )  # fmt: skip
    headings = ("VERSION", "EXTRAS", "SIZE", "SIGNED", "PUSHED", "DEVICES")
    output.show(output.table(headings, rows, empty="No release of the agent was pushed."))


@app.command("show")
def show(context: typer.Context, version: str, *, as_json: Json = False) -> None:
    """Show one release and its wheels."""
    found = hub(context).agents.show(version)
    if as_json:
        output.show_json(found)
        return
    output.show(output.facts(_facts(found)), "")
    rows = ((wheel["name"], output.size(wheel["size_bytes"])) for wheel in found["wheels"])
    output.show(output.table(("WHEEL", "SIZE"), rows, empty=""))


def _facts(found: AgentRelease) -> list[tuple[str, object]]:
    return [
        ("agent", Text(found["version"], style="bold")),
        ("extras", ", ".join(found["extras"])),
        ("size", output.size(found["size_bytes"])),
        ("signed", output.ago(float(found["issued"]))),
        ("pushed", f"{output.ago(found['created'])} by {found['created_by']}"),
        ("devices", str(found["devices"])),
        ("listing", found["listing"]),
    ]
