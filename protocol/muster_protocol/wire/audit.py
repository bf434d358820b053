"""The chain of the audit log, and archives of it as files: one line of JSON a row.

Each row is sealed by a hash over itself and the row before; the first one's predecessor is 64
zeros. Over that hash is a code by a key that is not in the database, from the row on with which the
log was first keyed: whoever may write to the database alone can't make a chain of their own. An
archive's first line says which chain it goes on from, its last how it ends: one cut short is no
archive.
"""

import hmac
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol, TypeVar

import msgspec

from muster_protocol.wire.chunks import sha256_hex
from muster_protocol.wire.errors import MusterError

GENESIS = "0" * 64
FORMAT = 2
FORMATS = (1, FORMAT)
"""Of archives that can be read; rows of the first have no codes."""
Line = TypeVar("Line", bound=msgspec.Struct)


class AuditBroken(MusterError):
    """A row of the audit log is not what was written."""


class Sealed(Protocol):
    """A row, from the database or from an archive."""

    id: Any
    at: float
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]
    previous: str
    hash: str
    code: str


class Entry(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A row in an archive."""

    id: int
    at: float
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]
    previous: str
    hash: str
    code: str = ""


class Head(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first line: how many rows earlier archives hold, and the hash of their last."""

    muster_audit: int
    """The format."""
    hub: str
    rows_before: int
    previous: str


class Tail(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The last line: how many rows are between, and the hash of the last of them."""

    rows: int
    latest: str


@dataclass(frozen=True)
class Chain:
    """What following rows showed. ``fault`` is empty when they hold."""

    rows: int
    latest: str
    fault: str = ""
    archived: int = 0
    """Rows before them that are in archives."""
    archived_latest: str = GENESIS
    """The hash of the last of those."""
    keyed_from: int | None = None
    """The id of the first of the rows here that has a code; None when none has."""


@dataclass(frozen=True)
class Key:
    """What codes are checked with."""

    code: Callable[[str], str]
    """The code that a row with this hash has."""
    first: str = ""
    """The hash of the first row that was ever keyed; empty: not known."""
    archived: bool = False
    """Whether earlier rows are in archives, that first one perhaps among them."""


def seal(row: Sealed) -> str:
    """The hash of a row: over the previous hash and every field but the id."""
    fields = [row.previous, row.at, row.actor, row.action, row.subject, row.detail]
    return sha256_hex(msgspec.json.encode(fields, order="deterministic"))


def inspect(rows: Iterable[Sealed], previous: str = GENESIS, key: Key | None = None) -> Chain:
    """Follow rows in order after ``previous``, up to the first that isn't what was written.

    Without a ``key`` it is only seen that, once there are codes, every row has one.
    """
    count, keyed_from = 0, None
    for row in rows:
        what = f"audit row {row.id} ({row.action} {row.subject})"
        fault = ""
        if row.hash != seal(row):
            fault = f"{what} was changed"
        elif row.previous != previous:
            fault = f"rows before {what} are missing or out of order"
        elif row.code or keyed_from is not None:
            fault = _unkeyed(row, what, key, before=count, begun=keyed_from is not None)
        if fault:
            return Chain(count, previous, fault, keyed_from=keyed_from)
        if row.code and keyed_from is None:
            keyed_from = row.id
        previous = row.hash
        count += 1
    fault = ""
    if key is not None and key.first and keyed_from is None:
        fault = "the log was keyed, and no row here has a code: it was written anew"
    return Chain(count, previous, fault, keyed_from=keyed_from)


def _unkeyed(row: Sealed, what: str, key: Key | None, *, before: int, begun: bool) -> str:
    """Why a row's code isn't by the hub's key, or doesn't begin where codes began; else empty."""
    if not row.code:
        return f"{what} has no code, though the log was keyed before it: it was written by another"
    if key is None:
        return ""
    if not hmac.compare_digest(row.code, key.code(row.hash)):
        return f"{what} was written without the hub's key, or keys/sealing.key is another one"
    archived = key.archived and not before
    if not begun and key.first and row.hash != key.first and not archived:
        return f"the rows up to {what} are not those with which the log was first keyed"
    return ""


@dataclass(frozen=True)
class Archive:
    """An archive whose every row holds."""

    name: str
    head: Head
    tail: Tail


def read(name: str, lines: Iterable[bytes], key: Key | None = None) -> Archive:
    """Check an archive from its first line to its last; raises AuditBroken saying where.

    ``name`` is what it is called in errors.
    """
    following = iter(lines)
    head = _decode(name, 1, next(following, b""), Head)
    if head.muster_audit not in FORMATS:
        raise AuditBroken(f"{name}: its format is {head.muster_audit}, not {FORMAT}")
    rows = _Rows(name, following)
    found = inspect(rows, head.previous, key)
    if found.fault:
        raise AuditBroken(f"{name}: {found.fault}")
    if rows.tail is None:
        raise AuditBroken(f"{name} was cut short: its last line is missing")
    if rows.tail != Tail(rows=found.rows, latest=found.latest):
        raise AuditBroken(f"{name}: rows at its end are missing, or its last line was changed")
    return Archive(name, head, rows.tail)


def join(archives: Iterable[Archive], archived: int, latest: str) -> int:
    """Check that archives follow each other up to what the hub says it archived; returns how many
    rows come before the first of them. Raises AuditBroken.

    That end is sealed by the hub's key, and every row before is hashed into it: archives read
    without the key are held to it all the same.
    """
    found = sorted(archives, key=lambda item: item.head.rows_before)
    first, last = found[0], found[-1]
    for before, item in pairwise(found):
        end = before.head.rows_before + before.tail.rows
        if (item.head.rows_before, item.head.previous) != (end, before.tail.latest):
            raise AuditBroken(
                f"{item.name} does not go on where {before.name} ends: one is missing"
            )
    if (last.head.rows_before + last.tail.rows, last.tail.latest) != (archived, latest):
        raise AuditBroken(
            f"{last.name} does not end where the hub's log begins: a later archive is missing, "
            "or it is another hub's"
        )
    if not first.head.rows_before and first.head.previous != GENESIS:
        raise AuditBroken(f"{first.name} claims to be the first, but does not begin the chain")
    return first.head.rows_before


def checked_in_words(rows: int, archived: int, missing: int, keyed_from: int | None) -> str:
    """What was checked, in words: rows here, rows in archives, and those nobody looked at."""
    keyed = "none keyed yet" if keyed_from is None else f"keyed from row {keyed_from} on"
    words = f"{rows} rows, unbroken, {keyed}"
    if archived - missing:
        words += f", after {archived - missing} in archives, unbroken"
    if missing:
        words += f"; {missing} archived rows were not looked at (--archive)"
    return words + "."


class _Rows:
    """Rows of an archive; ``tail`` once the last line was met, after which nothing may come."""

    def __init__(self, name: str, lines: Iterator[bytes]) -> None:
        self._name = name
        self._lines = lines
        self.tail: Tail | None = None

    def __iter__(self) -> Iterator[Entry]:
        for number, line in enumerate(self._lines, 2):
            if self.tail is not None:
                raise AuditBroken(f"{self._name}, line {number}: something comes after its end")
            if line.startswith(b'{"rows":'):
                self.tail = _decode(self._name, number, line, Tail)
            else:
                yield _decode(self._name, number, line, Entry)


def _decode(name: str, number: int, line: bytes, kind: type[Line]) -> Line:
    try:
        return msgspec.json.decode(line, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise AuditBroken(f"{name}, line {number}: no line of an audit archive: {error}") from None
