"""Asking before what can't be taken back, with what it will reach."""

import sys
from typing import Annotated

import typer

from muster_hub.errors import Invalid

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def confirm(what: str, *, yes: bool) -> None:
    """Go on only after a yes to ``what``, which says in words what becomes of whom.

    Raises Invalid where nobody can be asked, and typer.Abort for a no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise Invalid(f"{what}: say --yes where nobody can be asked")
    typer.confirm(f"{what}. Go on?", abort=True, err=True)
