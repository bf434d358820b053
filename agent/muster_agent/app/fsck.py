"""Is what is on the disk what its name, manifest or journal says? Reads all, changes nothing.

Safe beside a running agent; what that agent is just writing has a name that ends in ``.part``.
"""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec

from muster_agent.storage.content import Store
from muster_agent.storage.rows import Pointer
from muster_agent.storage.state import FILE, StateDatabase, read_state
from muster_agent.update.table import State as Step


def problems(directory: Path) -> Iterator[str]:
    """One line for each thing in the agent's directory that is not what it should be."""
    store = Store(directory / "store")
    if store.directory.is_dir():
        yield from store.problems()
    path = directory / FILE
    if not path.exists():
        return
    try:
        state = read_state(directory)
    except sqlite3.Error as error:
        yield f"{path}: can't be opened: {error}"
        return
    try:
        yield from _database_problems(path, state)
        yield from _pointer_problems(directory, store, state.pointers())
    except (sqlite3.Error, msgspec.MsgspecError) as error:
        yield f"{path}: {error}: a restart of the agent replaces it"
    finally:
        state.close()


def _database_problems(path: Path, state: StateDatabase) -> Iterator[str]:
    for (verdict,) in state.connection.execute("PRAGMA integrity_check(10)"):
        if verdict != "ok":
            yield f"{path}: {verdict}: a restart of the agent replaces it"
    for slot, row in state.journal().items():
        if row.state not in set(Step):
            yield f"{path}: slot {slot} is in the unknown state {row.state!r}; it will roll back"


def _pointer_problems(directory: Path, store: Store, pointers: dict[str, Pointer]) -> Iterator[str]:
    for slot, pointer in pointers.items():
        goal = pointer.goal
        bundle = store.bundle(goal.manifest)
        if bundle is None:
            yield (
                f"{store.directory}: {goal.model} {goal.version}, which slot {slot} runs, is not "
                "installed; it will be fetched again"
            )
            continue
        link = directory / "current" / slot
        if link.resolve() != bundle.resolve():
            yield f"{link}: does not name {bundle}, which the slot runs; a restart repairs it"
