"""Asking before what can't be taken back, with what it will reach."""

import sys
from typing import Annotated, get_args

import typer

from muster_hub.errors import Invalid
from muster_hub.settings.roles import Role

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

RoleName = Annotated[str, typer.Option("--role", help=" | ".join(get_args(Role)))]


def role(name: str) -> Role:
    """A role by its name, as somebody typed it. Raises BadParameter."""
    allowed: tuple[Role, ...] = get_args(Role)
    chosen = next((item for item in allowed if item == name), None)
    if chosen is None:
        raise typer.BadParameter(f"use one of {', '.join(allowed)}", param_hint="--role")
    return chosen


def confirm(what: str, *, yes: bool) -> None:
    """Go on only after a yes to ``what``, which says in words what becomes of whom.

    Raises Invalid where nobody can be asked, and typer.Abort for a no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise Invalid(f"{what}: say --yes where nobody can be asked")
    typer.confirm(f"{what}. Go on?", abort=True, err=True)
