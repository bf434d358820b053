"""The commands ``muster`` and ``muster-hub``; they name the extra when their libraries lack.

Only the standard library is imported here.
"""

import sys
from collections.abc import Callable
from importlib import import_module

_OWN = ("muster_hub", "muster_protocol")


def operator() -> None:
    """The ``muster`` command."""
    _main("muster", "muster_hub.operator.app")()


def hub() -> None:
    """The ``muster-hub`` command."""
    _main("muster-hub", "muster_hub.cli")()


def _main(command: str, module: str) -> Callable[[], None]:
    """The module's ``main``; exits with 2 when a library it needs isn't installed."""
    try:
        main: Callable[[], None] = import_module(module).main
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in _OWN:
            raise
        print(
            f"{command} needs {missing!r}, which is not installed: pip install 'muster-edge[hub]'",
            file=sys.stderr,
        )
        sys.exit(2)
    return main
