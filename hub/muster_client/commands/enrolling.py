"""`muster device`: tokens that let machines in, and machines that take over from others."""

from typing import Annotated

import typer
from rich.text import Text

from muster_client.failures import WrongUsage
from muster_client.session import hub
from muster_client.terminal import asking, output
from muster_client.terminal.asking import Yes
from muster_client.terminal.completing import DeviceId
from muster_client.terminal.output import Json


def add_to(app: typer.Typer) -> None:
    """Make these commands the app's own."""
    app.command("enroll-token")(enroll_token)
    app.command("replace")(replace)
    app.command("delete")(delete)


def enroll_token(
    context: typer.Context,
    *,
    label: Annotated[
        list[str] | None, typer.Option("--label", "-l", help="key=value; repeat for more.")
    ] = None,
    uses: Annotated[int, typer.Option(min=1, help="How many devices may enrol with it.")] = 1,
    expires_seconds: Annotated[
        int, typer.Option(min=1, help="How long the token is valid.")
    ] = 3600,
    device: Annotated[str | None, typer.Option(help="Only for a device with this id.")] = None,
    approval: Annotated[
        bool, typer.Option("--approval", help="Approve each device before it runs anything.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a token with which `muster-agent enroll` gets a certificate."""
    answer = hub(context).devices.enroll_token(
        dict(_label(text) for text in label or []),
        uses=uses,
        expires_seconds=expires_seconds,
        device=device,
        approval=approval,
    )
    if as_json:
        output.show_json(answer)
        return
    output.show(
        Text(answer["token"]),
        Text(
            f"On the device: muster-agent enroll --hub {hub(context).url} --token TOKEN",
            style="dim",
        ),
    )


def replace(
    context: typer.Context,
    device: DeviceId,
    *,
    expires_seconds: Annotated[
        int, typer.Option(min=1, help="How long the token is valid.")
    ] = 3600,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """End a machine's identity, and make a token for the one that takes over its name."""
    if not yes:
        view = hub(context).devices.show(device)
        asking.confirm(
            f"the machine that is {view['id']} now ({output.labels(view['labels']) or 'no labels'};"
            " seen "
            f"{output.ago(view['last_seen'])}) is shut out: its certificates are revoked, and the "
            "one that enrols with the token has its name, labels, assignments and history",
            yes=yes,
        )
    answer = hub(context).devices.replace(device, expires_seconds=expires_seconds)
    if as_json:
        output.show_json(answer)
        return
    enroll = f"muster-agent enroll --hub {hub(context).url} --token TOKEN"
    output.show(Text(answer["token"]), Text(f"On the new machine: {enroll}", style="dim"))


def delete(
    context: typer.Context, device: DeviceId, *, yes: Yes = False, as_json: Json = False
) -> None:
    """Take a device that was revoked, or never heard of, off every list. This can't be undone."""
    if not yes:
        view = hub(context).devices.show(device)
        asking.confirm(
            f"{view['id']} ({output.labels(view['labels']) or 'no labels'}; seen "
            f"{output.ago(view['last_seen'])}) is taken off every list for good; what it measured "
            "goes with its age",
            yes=yes,
        )
    hub(context).devices.delete(device)
    if as_json:
        output.show_json({"deleted": device})
    else:
        output.show(Text(f"{device} is deleted."))


def _label(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise WrongUsage(f"label {text!r}: write it as key=value")
    return name, value
