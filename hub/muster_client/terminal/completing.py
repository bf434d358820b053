"""What a shell may complete: names of devices and models, as the hub knows them.

Whatever goes wrong, nothing is completed and nothing is said: somebody is in the middle of a line.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from muster_protocol.wire.errors import MusterError

if TYPE_CHECKING:
    from muster_client.hub import Hub

PATIENCE_SECONDS = 2.0
"""Whoever pressed a key waits for it."""
NAMES_MAX = 50


def devices(context: typer.Context, incomplete: str) -> list[str]:
    """Ids of devices that begin so."""

    def ids(hub: "Hub") -> Iterable[str]:
        return (view["id"] for view in hub.devices.search(incomplete, limit=NAMES_MAX))

    return _names(context, incomplete, ids)


def models(context: typer.Context, incomplete: str) -> list[str]:
    """Names of models that begin so."""
    return _names(context, incomplete, lambda hub: (view["name"] for view in hub.models.list()))


DeviceId = Annotated[str, typer.Argument(autocompletion=devices)]
ModelName = Annotated[str, typer.Argument(autocompletion=models)]


def _names(
    context: typer.Context, incomplete: str, read: Callable[["Hub"], Iterable[str]]
) -> list[str]:
    from muster_client.hub import Hub  # noqa: PLC0415 - a help page needs no HTTP client

    given = context.find_root().params
    with (
        suppress(MusterError),
        Hub.from_profile(
            given.get("profile"),
            url=given.get("hub"),
            token=given.get("token"),
            ca=given.get("ca"),
            timeout_seconds=PATIENCE_SECONDS,
        ) as hub,
    ):
        return [name for name in read(hub) if name.startswith(incomplete)][:NAMES_MAX]
    return []
