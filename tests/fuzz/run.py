"""``make fuzz``: at least 20,000 hostile messages through a hub on SQLite and on PostgreSQL.

``--seed`` and ``--messages`` choose which and how many; what was sent and taken is printed.
"""

import argparse
import contextlib
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fuzz.siege import Siege
from support import postgres

MESSAGES = 20_000


@contextmanager
def database(kind: str) -> Iterator[str | None]:
    if kind == "sqlite":
        yield None
        return
    with postgres.running() as server:
        yield server.fresh()


def main() -> None:
    parser = argparse.ArgumentParser(prog="fuzz")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--messages", type=int, default=MESSAGES)
    parser.add_argument("--databases", nargs="+", default=["sqlite", "postgresql"])
    given = parser.parse_args()
    logging.disable(logging.ERROR)
    for kind in given.databases:
        with contextlib.ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            url = stack.enter_context(database(kind))
            outcome = Siege(directory, url, given.seed).run(given.messages)
        print(f"{kind}, seed {given.seed}: {outcome}", flush=True)


if __name__ == "__main__":
    main()
