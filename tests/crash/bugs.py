"""The classic mistakes, as doubles of the agent's durable writing: the checks must find each."""

import os
from collections.abc import Callable
from pathlib import Path

from muster_agent.storage import content, current, files, state
from muster_agent.trust import store as trust_store


def no_file_sync() -> None:
    """Rename without having synced the file's content."""

    def commit(writer: files.DurableWriter) -> None:
        writer._part.replace(writer._path)
        writer._committed = True
        files.sync_directory(writer._path.parent)

    files.DurableWriter.commit = commit


def no_batch_sync() -> None:
    """Give many files their names without having synced their contents."""

    def commit(batch: files.DurableBatch) -> None:
        paths, batch._paths, batch.size_bytes = batch._paths, [], 0
        for path in paths:
            files._part(path).replace(path)
        if paths:
            files.sync_directory(paths[0].parent)

    files.DurableBatch.commit = commit


def no_directory_sync() -> None:
    """Rename without syncing the directory that holds the name."""

    def sync_directory(path: Path) -> None:
        pass

    for module in (files, state):
        module.sync_directory = sync_directory


def unlink_then_link() -> None:
    """Remove the link, then make it anew."""

    def link_durably(link: Path, target: Path | str) -> None:
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        files.sync_directory(link.parent)

    for module in (files, current, trust_store):
        module.link_durably = link_durably


def pointer_in_place() -> None:
    """Keep the pointer in a file of its own, written over where it stands."""

    def put_pointer(held: state.StateDatabase, slot: str, pointer: state.Pointer) -> None:
        path = _pointer_file(held)
        with path.open("wb") as file:
            file.write(state.msgspec.json.encode({slot: pointer}))
            file.flush()
            os.fsync(file.fileno())

    def pointers(held: state.StateDatabase) -> dict[str, state.Pointer]:
        path = _pointer_file(held)
        if not path.exists():
            return {}
        return state.msgspec.json.decode(path.read_bytes(), type=dict[str, state.Pointer])

    state.StateDatabase.put_pointer = put_pointer
    state.StateDatabase.pointers = pointers


def delete_in_place() -> None:
    """Delete what a bundle's directory holds while it still has the bundle's name."""
    content.remove_durably = content.shutil.rmtree


def _pointer_file(held: state.StateDatabase) -> Path:
    (_, _, file) = held.connection.execute("PRAGMA database_list").fetchone()
    return Path(file).with_name("pointer.json")


BUGS: dict[str, Callable[[], None]] = {
    bug.__name__: bug
    for bug in (
        no_file_sync,
        no_batch_sync,
        no_directory_sync,
        unlink_then_link,
        pointer_in_place,
        delete_in_place,
    )
}


def plant(name: str) -> None:
    """Make this process make that mistake from now on; "" for none."""
    if name:
        BUGS[name]()
