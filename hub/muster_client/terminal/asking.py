"""Asking before what can't be taken back, with what it will reach."""

import sys
from typing import Annotated

import typer

from muster_client.failures import Exit, OperatorError

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def confirm(what: str, *, yes: bool) -> None:
    """Go on only after a yes to ``what``, which says in words what becomes of whom.

    Raises OperatorError where nobody can be asked, and typer.Abort for a no.
    """
    if yes:
        return
    shown = "".join(sign if sign.isprintable() else "�" for sign in what)
    if not sys.stdin.isatty():
        raise OperatorError(f"{shown}: say --yes where nobody can be asked", Exit.USAGE)
    typer.confirm(f"{shown}. Go on?", abort=True, err=True)
