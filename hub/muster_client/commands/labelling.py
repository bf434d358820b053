"""`muster device`: labels and names."""

import re
from collections.abc import Mapping
from typing import Annotated

import typer
from rich.text import Text

from muster_client.answers import Device
from muster_client.failures import OperatorError, WrongUsage
from muster_client.resources.devices import relabelled
from muster_client.session import hub
from muster_client.terminal import asking, output
from muster_client.terminal.asking import Yes
from muster_client.terminal.completing import DeviceId
from muster_client.terminal.output import Json

DEVICES_MAX = 1_000
"""Of one act, as in the console."""
_CHANGE = re.compile(r"(?P<key>[^=]+?)(?:=(?P<value>.+)|-)")


def add_to(app: typer.Typer) -> None:
    """Make these commands the app's own."""
    app.command("label")(label)
    app.command("rename")(rename)


def label(
    context: typer.Context,
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[DEVICE] KEY=VALUE|KEY-...",
            help="Labels to set, or with a - at the end to take away. No DEVICE with --selector.",
        ),
    ],
    *,
    selector: Annotated[
        str | None, typer.Option("--selector", "-s", help="All devices with these labels.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say how many devices it changes.")
    ] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Set labels of a device, or of all that a selector matches, or take them away."""
    changes = dict(map(_change, words if selector is not None else words[1:]))
    if not changes:
        raise WrongUsage("no label is named: write KEY=VALUE to set it, KEY- to take it away")
    found: list[Device]
    if selector is None:
        found = [hub(context).devices.show(words[0])]
    else:
        found = list(hub(context).devices.list(selector, DEVICES_MAX + 1))
    due = [view["id"] for view in found if _differs(view, changes)]
    if len(found) > DEVICES_MAX:
        raise OperatorError(f"over {DEVICES_MAX} devices match {selector!r}: narrow it")
    if due and not dry_run and selector is not None:
        asking.confirm(
            f"{len(due)} of {len(found)} devices with {selector!r} get {' '.join(words)}; what "
            "assignments with their new labels say holds at once",
            yes=yes,
        )
    for device in () if dry_run else due:
        hub(context).devices.label(device, changes)
    if as_json:
        output.show_json({"devices": len(found), "changed": due, "done": not dry_run})
    else:
        would = "would be" if dry_run else "are"
        output.show(Text(f"{len(due)} of {len(found)} devices {would} changed."))


def rename(
    context: typer.Context,
    device: DeviceId,
    name: Annotated[str, typer.Argument(help="That people know it by; kept as its label name.")],
    *,
    as_json: Json = False,
) -> None:
    """Give a device a name. Its id stays: it is in its certificate."""
    view = hub(context).devices.rename(device, name)
    if as_json:
        output.show_json(view)
    else:
        output.show(Text(f"{device} has the name {name}: muster device list -s name={name}"))


def _change(text: str) -> tuple[str, str | None]:
    """``key=value`` sets a label, ``key-`` takes it away."""
    found = _CHANGE.fullmatch(text)
    if found is None:
        raise WrongUsage(f"label {text!r}: write KEY=VALUE to set it, KEY- to take it away")
    return found["key"], found["value"]


def _differs(view: Device, changes: Mapping[str, str | None]) -> bool:
    return relabelled(view["labels"], changes) != view["labels"]
