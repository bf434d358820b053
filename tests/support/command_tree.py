"""Every command of a command line, those included whose module is imported when they run."""

from collections.abc import Iterator
from typing import Any

import typer

from muster_client.app import COMMANDS, Commands, Later


def commands(app: typer.Typer) -> dict[str, Any]:
    """Each command by its words, such as ``device list``; not what other packages add."""
    return dict(_below(typer.main.get_command(app), ()))


def _below(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    if isinstance(command, Later):
        command = command.load()
    names = COMMANDS if isinstance(command, Commands) else getattr(command, "commands", None)
    if names is None:
        yield " ".join(path), command
        return
    for name in names:
        yield from _below(command.get_command(None, name), (*path, name))
