"""Asking before what can't be taken back, with what it will reach."""

import sys
from typing import Annotated

import typer

from muster_client.failures import WrongUsage

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def confirm(what: str, *, yes: bool) -> None:
    """Go on only after a yes to ``what``, which says in words what becomes of whom.

    Raises WrongUsage where nobody can be asked, and typer.Abort for a no.
    """
    if yes:
        return
    shown = "".join(sign if sign.isprintable() else "�" for sign in what)
    if not sys.stdin.isatty():
        raise WrongUsage(f"{shown}: say --yes where nobody can be asked")
    typer.confirm(f"{shown}. Go on?", abort=True, err=True)
