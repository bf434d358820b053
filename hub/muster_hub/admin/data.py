"""``muster-hub``'s commands about all it holds: backup, restore, and partitions."""

import time
from pathlib import Path
from typing import Annotated

import typer

from muster_hub.admin.keys import DEFAULT_DATA, Data
from muster_hub.app import backup
from muster_hub.settings import config
from muster_hub.storage import partitions
from muster_hub.storage.store import Store


def add_to(app: typer.Typer) -> None:
    """Make these commands the app's own."""
    app.command("backup")(make_backup)
    app.command("restore")(restore)
    app.command("partition")(partition)


def make_backup(
    file: Annotated[Path, typer.Argument(help="Where the backup goes; it holds private keys.")],
    *,
    data: Data = DEFAULT_DATA,
) -> None:
    """Write everything of a hub, running or not, into one file."""
    settings = config.load(data)
    contents = backup.backup(settings, file, time.time())
    print(f"{file}: {len(contents.files)} files, {file.stat().st_size} bytes. Keep it secret.")
    if not contents.database:
        print("The database is not in it: back it up beside it, before this one (pg_dump).")


def restore(
    file: Annotated[Path, typer.Argument(help="A file made by `muster-hub backup`.")],
    *,
    data: Data = DEFAULT_DATA,
) -> None:
    """Make the hub of a backup anew, in a new directory. Stop the old one first."""
    made = backup.restore(file, data)
    taken = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(made.contents.created))
    print(f"The hub of {taken} was restored to {made.config.data}, in a new director epoch.")
    if not made.contents.database:
        print("It uses the database named in hub.toml: restore that from its own backup.")
    for role, words in made.to_sign.items():
        print(f"To be signed where the keys are (muster-hub signing-request): {role}: {words}")
    print(f"Run it:    muster-hub serve --data {data}")


def partition(*, data: Data = DEFAULT_DATA) -> None:
    """Bring the windows in a PostgreSQL database to partitions of a day, while the hub runs."""
    store = Store(config.load(data).database_url)
    try:
        partitions.convert(store, time.time())
    finally:
        store.close()
    print("Windows go by day partitions: an old day is dropped whole.")
