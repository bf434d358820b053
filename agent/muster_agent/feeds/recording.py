"""Samples in a file, a JSON object a line, to be looked at and given to a model again. Pure."""

from collections.abc import Iterator
from typing import Literal, assert_never

import msgspec
from msgspec import Struct

from muster_agent.feeds.assembly import Assembler, InputRow
from muster_agent.feeds.samples import Alive, Arrival, Grade, Lost, Picture, Reason, Sample
from muster_protocol.wire.errors import MusterError

BYTES_MAX = 256 << 20
"""Of a recording; it ends there."""


class RecordingError(MusterError):
    """A file is no recording."""


class _Line(Struct, frozen=True, omit_defaults=True):
    """Something that arrived. ``after`` is seconds since the recording began."""

    kind: Literal["sample", "alive", "lost"]
    after: float
    signals: tuple[str, ...]
    value: float | None = None
    at: float = 0.0
    quality: Grade = "good"
    reason: Reason = ""


def line_of(arrival: Arrival, began: float) -> bytes:
    """What arrived, as a line. Values are in their tag's unit."""
    match arrival:
        case Sample(signal, value, at, arrived, grade, reason):
            made = _Line("sample", arrived - began, (signal,), value, at, grade, reason)
        case Picture():
            raise RecordingError('pictures aren\'t recorded: keep the files (done = "move")')
        case Alive(signals, alive_at):
            made = _Line("alive", alive_at - began, signals)
        case Lost(signals):
            made = _Line("lost", 0.0, signals)
        case _:
            assert_never(arrival)
    return msgspec.json.encode(made) + b"\n"


def read(lines: Iterator[bytes], where: str) -> Iterator[Arrival]:
    """What a recording holds, as if it arrived now from second 0 on; raises RecordingError."""
    for number, line in enumerate(lines, 1):
        try:
            item = msgspec.json.decode(line, type=_Line)
        except msgspec.DecodeError as error:
            raise RecordingError(f"{where}:{number}: no line of a recording: {error}") from None
        match item.kind:
            case "sample":
                value = float("nan") if item.value is None else item.value
                for signal in item.signals:
                    yield Sample(signal, value, item.at, item.after, item.quality, item.reason)
            case "alive":
                yield Alive(item.signals, item.after)
            case "lost":
                yield Lost(item.signals)
            case _:
                assert_never(item.kind)


def rows(arrivals: Iterator[Arrival], assembler: Assembler) -> Iterator[tuple[float, InputRow]]:
    """What the model would have been asked, and when, in seconds since the recording began."""
    due = every = assembler.window.every_seconds
    now = 0.0
    for arrival in arrivals:
        now = max(now, _time_of(arrival, now))
        while due < now:
            yield due, assembler.row(due)
            due += every
        assembler.take(arrival)
    yield due, assembler.row(due)


def _time_of(arrival: Arrival, now: float) -> float:
    match arrival:
        case Sample() | Picture():
            return arrival.arrived
        case Alive(_, at):
            return at
        case Lost():
            return now
        case _:
            assert_never(arrival)
