"""What supervisor and feed say to each other: JSON lines on the feed's standard streams. Pure."""

from typing import Literal

import msgspec
from msgspec import Struct

LINE_BYTES_MAX = 65_536
NoticeKind = Literal[
    "refused", "accepted", "source_lost", "source_back", "sink_lost", "sink_back", "signals_bad",
    "signals_good",
]  # fmt: skip


class Serve(Struct, frozen=True):
    """Which version the slot runs, where its manifest lies, and which fallback the hub wants."""

    model: str
    version: str
    manifest: str
    """Its SHA-256; the file is held against it."""
    path: str
    fallback: str | None = None


class Notice(Struct, frozen=True):
    """Something that whoever runs the plant wants to hear of."""

    kind: NoticeKind
    detail: str
    part: str = ""
    """Name of the source or sink."""


def line_of(message: Serve | Notice) -> bytes:
    """A message as it is sent."""
    return msgspec.json.encode(message) + b"\n"


def read_serve(line: bytes) -> Serve | None:
    """What a supervisor's line says; None where it says nothing known."""
    try:
        return msgspec.json.decode(line, type=Serve)
    except msgspec.DecodeError:
        return None


def read_notice(line: bytes) -> Notice | None:
    """What a feed's line says; None where it says nothing known."""
    try:
        return msgspec.json.decode(line, type=Notice)
    except msgspec.DecodeError:
        return None
