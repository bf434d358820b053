"""Modules as syntax trees, each parsed once for all tests of a process."""

import ast
from functools import cache


@cache
def parsed(source: str) -> ast.Module:
    """The tree of a module's text; to be looked at, not changed."""
    return ast.parse(source)
