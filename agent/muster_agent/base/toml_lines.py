"""Where in a TOML file something stands, for whoever has to correct it. Pure."""

import re
import tomllib
from collections.abc import Sequence

_KEY = re.compile(r"\s*((?:\"[^\"]*\"|'[^']*'|[^=\"'#\[\]{}])+?)\s*=")


def line_of(text: str, path: Sequence[str]) -> int | None:
    """Line of a table or key given as names from the root: of its nearest part that has a line of
    its own. None when no part has.
    """
    wanted = tuple(path)
    section: tuple[str, ...] = ()
    best, found = 0, None
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.strip()
        if bare.startswith("["):
            names = _names(bare.strip("[").partition("]")[0])
            section = names or section
            here = section
        elif (match := _KEY.match(line)) is not None:
            here = section + _names(match[1])
        else:
            continue
        if len(here) > best and wanted[: len(here)] == here:
            best, found = len(here), number
    return found


def _names(dotted: str) -> tuple[str, ...]:
    """The parts of a dotted key, quoted or not; empty when it isn't one."""
    try:
        value: object = tomllib.loads(f"{dotted} = 0")
    except tomllib.TOMLDecodeError:
        return ()
    names = []
    while isinstance(value, dict):
        ((name, value),) = value.items()
        names.append(name)
    return tuple(names)
