"""``muster-hub``'s commands about the audit log: check it, and archive what is old."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from muster_hub.admin import asking
from muster_hub.admin.asking import Yes
from muster_hub.admin.keys import DEFAULT_DATA, Data
from muster_hub.api.hub import Hub
from muster_hub.audit import archive as audit_archive
from muster_hub.audit import log
from muster_hub.errors import ConfigError
from muster_hub.settings import config
from muster_hub.signing import records, roles
from muster_protocol.wire.audit import checked_in_words

Archives = Annotated[
    list[Path] | None,
    typer.Option("--archive", help="A file made by audit-archive; repeat for each one."),
]


def add_to(app: typer.Typer) -> None:
    """Make these commands the app's own."""
    app.command("audit-verify")(verify)
    app.command("audit-archive")(archive)
    app.command("record-verify")(verify_record)


def verify(*, archives: Archives = None, data: Data = DEFAULT_DATA) -> None:
    """Check the audit log from the first row to the last: its hashes, and their codes by the hub's
    key."""
    hub = Hub.open(config.load(data), time.time)
    with hub.store.read() as session:
        found = log.verify(session, hub.sealing)
    missing = found.archived
    if archives:
        missing = audit_archive.join(
            archives, found.archived, found.archived_latest, log.codes(hub.sealing)
        )
    words = checked_in_words(found.rows, found.archived, missing, found.keyed_from)
    print(words, f"Latest: {found.latest}")


def verify_record(
    file: Annotated[Path, typer.Argument(help="record.jsonl, of `muster audit export`.")],
    *,
    targets: Annotated[
        Path, typer.Option(help="The hub's targets.json of that time, got by a trusted way.")
    ],
) -> None:
    """Check that a device's record is as the hub signed it. Needs no hub."""
    try:
        data = file.read_bytes()
        keys = roles.director_keys(targets.read_bytes())
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}") from None
    about, *lines = records.verified(data, keys)
    print(f"{file}: {len(lines) + 1} lines about {about.get('device')}, as signed.")


def archive(
    *,
    before: Annotated[
        datetime,
        typer.Option(formats=["%Y-%m-%d"], help="Move rows before this day (UTC), which must be "
                     "over six months ago."),
    ],
    out: Annotated[Path, typer.Option(help="The file to write; it must not exist.")],
    yes: Yes = False,
    data: Data = DEFAULT_DATA,
) -> None:  # fmt: skip
    """Move old rows of the audit log into a file, which you keep; the hub may be running."""
    hub = Hub.open(config.load(data), time.time)
    asking.confirm(
        f"rows from before {before:%Y-%m-%d} leave the hub: {out} is then the only copy of them",
        yes=yes,
    )
    made = audit_archive.archive(
        hub.store, hub.sealing, out, before=before.replace(tzinfo=UTC).timestamp(),
        now=time.time(), by="hub", hub=hub.config.url,
    )  # fmt: skip
    print(f"{out}: {made.rows} rows. Keep it where the hub can't write, and these:")
    print(f"latest  {made.latest}\nsha256  {made.file_sha256}")
