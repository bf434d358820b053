"""Runs a module's work where it can do little: ``python -m muster_agent.isolation.run MODULE …``.

``MODULE`` has ``prepare(arguments)``, which imports and opens all that the work takes, and
``work(arguments)``, which is run once this process can neither write to the disk, nor reach a
network, nor start a program, and reads only the interpreter's files and those that ``--read``
names. What it opened before stays open. Exit code 3: the kernel can't do that, and nothing was run.
"""

import argparse
import importlib
import sys
from pathlib import Path

from muster_agent.isolation import kernel
from muster_agent.isolation.cage import Cage, Rung, available

CANT_CONFINE_EXIT = 3


def main(arguments: list[str] | None = None) -> int:
    """Prepare, close the process, work."""
    parser = argparse.ArgumentParser(
        prog="python -m muster_agent.isolation.run", description="Run a module's work, confined."
    )
    parser.add_argument("--read", type=Path, action="append", default=[], metavar="PATH")
    parser.add_argument("module")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args(arguments)
    if available() is not Rung.FULL:
        print("the kernel can't confine a process: it lacks Landlock or filters", file=sys.stderr)
        return CANT_CONFINE_EXIT
    module = importlib.import_module(options.module)
    module.prepare(options.arguments)
    # Libraries load parts of themselves when they are first used, which makes code of files.
    Cage(Rung.FULL, makes_code=True).close_for_loading(tuple(options.read))
    module.work(options.arguments)
    return 0


if __name__ == "__main__":
    kernel.hide()
    sys.exit(main())
