"""Commit what devices said: each row once, and how far each stream is without a gap.

One call is one transaction of the caller. A row is known by its stream's mark, or beyond it by
``Ahead``, never by its time: so a batch that comes twice counts once, wherever its rows would be
placed the second time. Devices' rows are locked meanwhile, so that nobody decides beside it.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, assert_never

import sqlalchemy
from sqlalchemy import bindparam
from sqlmodel import Session, col, delete, select

from muster_hub.alerts import expiry
from muster_hub.fleet import feed_watching
from muster_hub.mqtt.inbound import (
    Asked,
    Inbound,
    Malformed,
    Renews,
    Reported,
    Rows,
    Seen,
    Shows,
    Wanted,
)
from muster_hub.sampling import receiving
from muster_hub.storage import bulk
from muster_hub.storage.models import Ahead, Device, EventRow, SummaryWindow, SwapGrant
from muster_hub.storage.models import Stream as StreamRow
from muster_hub.storage.sampling import SampleRow
from muster_hub.storage.tables import target
from muster_protocol.wire import limits
from muster_protocol.wire.messages import Ack, GrantRequest, Stream

EPOCHS_PER_STREAM_MAX = 8
"""Epochs of a device's stream whose mark is kept; the newest are."""
Key = tuple[str, Stream, bytes]
RowTable = type[EventRow] | type[SummaryWindow] | type[SampleRow]
TABLES: dict[Stream, RowTable] = {
    "event": EventRow,
    "summary": SummaryWindow,
    "sample": SampleRow,
}
DIALECTS = ("sqlite", "postgresql")
_ONLINE = {
    dialect: select(Device.id, Device.online)
    .where(bulk.among(dialect, col(Device.id), "devices"))
    # Held until the commit, and in one order: two ingests that have messages of the same devices
    # wait for each other, never in a circle, and the second goes on from what the first committed.
    .order_by(col(Device.id))
    .with_for_update(key_share=True)
    for dialect in DIALECTS
}
_STREAMS = {
    dialect: sqlalchemy.select(target(StreamRow)).where(
        bulk.among(dialect, col(StreamRow.device), "devices")
    )
    for dialect in DIALECTS
}
_DROP_MARK = delete(target(StreamRow)).where(
    col(StreamRow.device) == bindparam("of"),
    col(StreamRow.stream) == bindparam("in"),
    col(StreamRow.epoch) == bindparam("since"),
)
_AHEAD = {
    dialect: sqlalchemy.select(target(Ahead)).where(
        bulk.among(dialect, col(Ahead.device), "devices")
    )
    for dialect in DIALECTS
}
_PASSED = delete(target(Ahead)).where(
    col(Ahead.device) == bindparam("of"),
    col(Ahead.stream) == bindparam("in"),
    col(Ahead.epoch) == bindparam("since"),
    col(Ahead.sequence) <= bindparam("mark"),
)
_HIGHEST = {
    (dialect, stream): sqlalchemy.select(
        col(StreamRow.device),
        col(StreamRow.epoch),
        sqlalchemy.select(sqlalchemy.func.max(table.sequence))
        .where(col(table.device) == col(StreamRow.device), col(table.epoch) == col(StreamRow.epoch))
        .scalar_subquery()
        .label("highest"),
    ).where(
        bulk.among(dialect, col(StreamRow.device), "devices"),
        col(StreamRow.stream) == stream,
        col(StreamRow.contiguous) == 0,
    )
    for stream, table in TABLES.items()
    for dialect in DIALECTS
}
"""Of streams whose mark has just begun, the highest row that is there all the same."""
_NEWEST = {
    stream: sqlalchemy.select(col(table.sequence))
    .where(col(table.device) == bindparam("of"), col(table.epoch) == bindparam("since"))
    .order_by(col(table.sequence).desc())
    .limit(limits.IN_FLIGHT_ROWS_MAX)
    for stream, table in TABLES.items()
}


@dataclass
class Committed:
    """What a transaction did: acknowledgements to send by device, and counts."""

    acks: list[tuple[str, Ack]] = field(default_factory=list)
    rows: int = 0
    duplicates: int = 0
    unknown_devices: int = 0
    skipped_rows: int = 0
    """Rows acknowledged by a hub whose database was lost; they will not come again."""
    reports: int = 0


def commit(
    session: Session,
    batch: Sequence[Inbound],
    now: float,
    clock: Callable[[], float] | None = None,
) -> Committed:
    """Write a batch of messages; the caller commits, then sends the acknowledgements.

    Devices are marked as changed last, and by the ``clock`` of that moment: who looks for what has
    changed looks back a few seconds only, and the batch may have waited for longer than that.
    """
    result = Committed()
    names = {inbound.device for inbound in batch}
    online = _ONLINE[session.get_bind().dialect.name]
    known = dict(session.exec(online, params={"devices": list(names)}).all())
    result.unknown_devices = sum(1 for inbound in batch if inbound.device not in known)
    from_known = [inbound for inbound in batch if inbound.device in known]
    _commit_rows(
        session, [inbound for inbound in from_known if isinstance(inbound, Rows)], now, result
    )
    _commit_state(session, from_known, known, max(now, clock()) if clock else now, result)
    return result


@dataclass
class _Mark:
    """How far a stream stands without a gap, as it is brought on here."""

    contiguous: int
    updated: float
    created: float


def _commit_rows(session: Session, batches: list[Rows], now: float, result: Committed) -> None:
    pending: dict[Key, dict[int, dict[str, Any]]] = {}
    for batch in batches:
        pending.setdefault((batch.device, batch.stream, batch.epoch), {}).update(batch.rows)
        result.rows += len(batch.rows)
    if not pending:
        return
    marks = _marks(session, pending, now)
    ahead = _ahead(session, pending)
    fresh = {
        key: [n for n in rows if n > marks[key].contiguous and n not in ahead.get(key, ())]
        for key, rows in pending.items()
    }
    for stream, table in TABLES.items():
        columns = [
            pending[key][n] for key, numbers in fresh.items() if key[1] == stream for n in numbers
        ]
        if stream == "sample":
            receiving.admit(session, columns, now)
        keyed = stream != "summary"  # a table of partitions can't have that key
        bulk.insert_new(session, table, ("device", "epoch", "sequence"), columns, keyed=keyed)
    for key, rows in pending.items():
        result.duplicates += len(rows) - len(fresh[key])
        beyond = sorted(ahead.get(key, set()).union(fresh[key]))
        _advance(marks[key], max(rows), beyond, result)
        result.acks.append((key[0], Ack(1, key[1], key[2], marks[key].contiguous)))
    _remember(session, marks, ahead, fresh)
    samples = [
        (key[0], key[2].hex(), marks[key].contiguous) for key in pending if key[1] == "sample"
    ]
    receiving.forget_empty(session, samples)
    bulk.update_each(
        session, StreamRow, ("device", "stream", "epoch"),
        [
            {"device": key[0], "stream": key[1], "epoch": key[2].hex(),
             "contiguous": marks[key].contiguous, "updated": now}
            for key in sorted(pending)
        ],
    )  # fmt: skip


def _marks(session: Session, keys: Iterable[Key], now: float) -> dict[Key, _Mark]:
    """The streams' marks; those of streams that begin are made."""
    wanted = list(keys)
    devices = sorted({device for device, _, _ in wanted})
    connection = session.connection()
    known: dict[Key, _Mark] = {
        (row.device, row.stream, bytes.fromhex(row.epoch)): _Mark(
            row.contiguous, row.updated, row.created
        )
        for row in connection.execute(_STREAMS[connection.dialect.name], {"devices": devices})
    }
    begun = sorted(key for key in wanted if key not in known)
    if begun:
        known |= {key: _Mark(0, now, now) for key in begun}
        bulk.insert_new(
            session, StreamRow, ("device", "stream", "epoch"),
            [
                {"device": key[0], "stream": key[1], "epoch": key[2].hex(), "contiguous": 0,
                 "created": now, "updated": now}
                for key in begun
            ],
        )  # fmt: skip
        _forget_epochs(session, known, {key[:2] for key in begun}, set(wanted))
        _go_on(session, known, set(begun))
    return known


def _forget_epochs(
    session: Session,
    known: Mapping[Key, _Mark],
    begun: Collection[tuple[str, Stream]],
    wanted: Collection[Key],
) -> None:
    """Keep the newest epochs of a stream. A device has one, and another each time it is wiped."""
    gone = []
    for stream in sorted(begun):
        held = sorted(
            (key for key in known if key[:2] == stream),
            key=lambda key: (known[key].updated, known[key].created),
            reverse=True,
        )
        gone += [key for key in held[EPOCHS_PER_STREAM_MAX:] if key not in wanted]
    if gone:
        session.connection().execute(
            _DROP_MARK, [{"of": key[0], "in": key[1], "since": key[2].hex()} for key in gone]
        )


def _go_on(session: Session, known: Mapping[Key, _Mark], begun: Collection[Key]) -> None:
    """Go on where a stream stood whose mark was forgotten: what it sent may still be there."""
    connection = session.connection()
    for stream in TABLES:
        devices = sorted({key[0] for key in begun if key[1] == stream})
        if not devices:
            continue
        rows = connection.execute(_HIGHEST[connection.dialect.name, stream], {"devices": devices})
        for device, epoch, highest in rows.all():
            key: Key = (device, stream, bytes.fromhex(epoch))
            if highest is None or key not in begun:
                continue
            held = connection.execute(_NEWEST[stream], {"of": device, "since": epoch})
            beyond = sorted(number for (number,) in held if number is not None)
            _advance(known[key], highest, beyond, Committed())
            _remember(session, {key: known[key]}, {}, {key: beyond})


def _ahead(session: Session, keys: Iterable[Key]) -> dict[Key, set[int]]:
    """Sequences that are known beyond the marks of these devices' streams."""
    found: dict[Key, set[int]] = {}
    connection = session.connection()
    devices = sorted({key[0] for key in keys})
    for row in connection.execute(_AHEAD[connection.dialect.name], {"devices": devices}):
        key: Key = (row.device, row.stream, bytes.fromhex(row.epoch))
        found.setdefault(key, set()).add(row.sequence)
    return found


def _remember(
    session: Session,
    marks: Mapping[Key, _Mark],
    before: Mapping[Key, set[int]],
    fresh: Mapping[Key, Iterable[int]],
) -> None:
    """Keep what is fresh and beyond its mark; let go of what the mark has passed."""
    passed = [
        {"of": key[0], "in": key[1], "since": key[2].hex(), "mark": marks[key].contiguous}
        for key in fresh
        if any(number <= marks[key].contiguous for number in before.get(key, ()))
    ]
    if passed:
        session.connection().execute(_PASSED, passed)
    bulk.insert_new(
        session, Ahead, ("device", "stream", "epoch", "sequence"),
        [
            {"device": key[0], "stream": key[1], "epoch": key[2].hex(), "sequence": number}
            for key, numbers in fresh.items()
            for number in numbers
            if number > marks[key].contiguous
        ],
    )  # fmt: skip


def _advance(row: _Mark, highest: int, beyond: Iterable[int], result: Committed) -> None:
    """Move the stream's mark over every row that stands without a gap.

    A device has at most ``IN_FLIGHT_ROWS_MAX`` rows in flight, so anything that far below its
    highest was acknowledged before: by this hub, or by one whose database was lost. Without that
    rule a hub restored from a backup would wait for ever for rows the device has let go.
    """
    least = highest - limits.IN_FLIGHT_ROWS_MAX
    if row.contiguous < least:
        result.skipped_rows += least - row.contiguous
        row.contiguous = least
    for sequence in beyond:
        if sequence > row.contiguous + 1:
            break
        row.contiguous = max(row.contiguous, sequence)


def _ask(session: Session, device: str, request: GrantRequest, now: float) -> None:
    """Keep a request for the engine; one that comes twice was answered already."""
    row = session.get(SwapGrant, (device, request.slot))
    nonce = request.nonce.hex()
    if row is not None and row.nonce == nonce:
        return
    fields: dict[str, Any] = {
        "nonce": nonce,
        "manifest": request.manifest,
        "generation": request.generation,
        "asked_at": now,
        "answered": False,
    }
    if row is None:
        row = SwapGrant(device=device, slot=request.slot, **fields)
    session.add(row.sqlmodel_update(fields))
    session.flush()


def _commit_state(
    session: Session,
    batch: Sequence[Inbound],
    was_online: Mapping[str, bool],
    now: float,
    result: Committed,
) -> None:
    """Write what devices are: seen now, their latest report, online or not."""
    changes: dict[str, dict[str, Any]] = {}
    for inbound in batch:
        changes.setdefault(inbound.device, {}).update(_change(session, inbound, now))
        result.reports += isinstance(inbound, Reported)
    alike: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for device, change in changes.items():
        if "online" in change and change["online"] != was_online[device]:
            change["online_changed"] = now
        if change:
            alike.setdefault(tuple(sorted(change)), []).append(change | {"id": device})
    _update_devices(session, alike)


def _change(session: Session, inbound: Inbound, now: float) -> dict[str, Any]:
    """What a message changes of its device's row."""
    match inbound:
        case Reported():
            late = expiry.late_from(inbound.report)
            # Who reports is there, also when the message that said so was lost.
            report = dict(inbound.report)
            changes: dict[str, Any] = {
                "reported": now,
                "last_seen": now,
                "late_from": late,
                "online": True,
            }
            if feeds := report.pop(feed_watching.FIELD, None):
                before = session.exec(select(Device.feeds).where(col(Device.id) == inbound.device))
                changes["feeds"] = feed_watching.kept(before.first(), feeds, now)
            return changes | {"report": report}
        case Seen():
            return {"online": inbound.online}
        case Asked(name, request):
            _ask(session, name, request, now)
            return {"last_seen": now}
        case Rows() | Wanted():
            return {"last_seen": now}
        case Renews() | Shows() | Malformed():
            return {}
        case _:
            assert_never(inbound)


def _update_devices(
    session: Session, alike: Mapping[tuple[str, ...], list[dict[str, Any]]]
) -> None:
    """Columns that change → the devices whose values of them change."""
    session.flush()
    for _, rows in sorted(alike.items()):
        bulk.update_each(session, Device, ("id",), rows)
