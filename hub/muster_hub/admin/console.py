"""``muster-hub console``: what somebody at the hub's own machine does for people at a browser."""

import time
from typing import Annotated

import typer

from muster_hub.access.links import LINK_SECONDS, make_link
from muster_hub.admin import asking
from muster_hub.admin.asking import RoleName
from muster_hub.admin.keys import DEFAULT_DATA, Data
from muster_hub.api.hub import Hub
from muster_hub.audit import log
from muster_hub.settings import config

console = typer.Typer(
    help="The console: sign somebody in.", no_args_is_help=True, add_completion=False
)


def add_to(app: typer.Typer) -> None:
    """Make these commands the app's own."""
    app.add_typer(console, name="console")


@console.callback()
def of_console() -> None:
    """The console: sign somebody in."""


@console.command()
def link(
    name: Annotated[str, typer.Argument(help="Who it is for; shown in the audit log.")],
    *,
    role: RoleName = "viewer",
    owner: Annotated[
        str, typer.Option(help="The person, as they log in; NAME when not given.")
    ] = "",
    data: Data = DEFAULT_DATA,
) -> None:
    """Make a link that signs somebody in to the console, once and soon. It is not stored."""
    chosen = asking.role(role)
    hub = Hub.open(config.load(data), time.time)
    now = time.time()
    with hub.store.write() as session:
        code = make_link(session, name, chosen, now, owner=owner)
        log.append(
            session,
            actor="hub",
            action="sign-in-link.make",
            subject=name,
            now=now,
            role=chosen,
            owner=owner or name,
        )
    print(f"{hub.config.url}/sign-in-link?code={code}")
    print(f"It signs {name} ({chosen}) in once, within {LINK_SECONDS / 60:.0f} minutes.")
