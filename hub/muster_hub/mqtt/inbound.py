"""What a device's message says, as values ready to commit. Pure.

A device may believe it is 1970: the time of what it tells is worked out from its monotonic clock
and the moment its message came.
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, assert_never

import msgspec

from muster_hub.storage import counts
from muster_protocol.signals import summary_wire
from muster_protocol.signals.summary import Summary, Tally
from muster_protocol.wire import bounds, limits, messages, sampling, topics
from muster_protocol.wire.errors import ProtocolError
from muster_protocol.wire.messages import (
    Batch,
    Event,
    GrantRequest,
    Presence,
    Report,
    Shown,
    Stamp,
    Stream,
    Want,
)
from muster_protocol.wire.renewal import PEM_BYTES_MAX

OLDEST_SECONDS = 2 * 366 * 86_400.0
"""Nothing is older by what a device says: no device keeps a window for longer."""
FAULT_CHARS_MAX = 500
_log = logging.getLogger(__name__)

_NOTHING: Mapping[str, Any] = {
    "model": "", "version": "", "manifest": "", "seconds": 0.0, "log_p95": None, "fault": "",
    **counts.columns(Tally()),
}  # fmt: skip
"""What is known of a summary that nobody could read."""
EVENT_COLUMNS = (
    "kind", "slot", "model", "version", "manifest", "generation", "refusal", "detail",
)  # fmt: skip
UNREADABLE = "unreadable"
NEWER = "is newer than this hub knows"
PEM = b"-----BEGIN CERTIFICATE REQUEST-----"


@dataclass(frozen=True)
class Rows:
    """Rows of one stream of one device, by sequence; values are columns of their table."""

    device: str
    stream: Stream
    epoch: bytes
    rows: dict[int, dict[str, Any]]


@dataclass(frozen=True)
class Reported:
    """A device's report."""

    device: str
    report: dict[str, Any]


@dataclass(frozen=True)
class Seen:
    """Presence: the device came or went."""

    device: str
    online: bool


@dataclass(frozen=True)
class Wanted:
    """Chunks that a device waited for in vain."""

    device: str
    chunks: tuple[str, ...]
    last_resort: bool = False


@dataclass(frozen=True)
class Asked:
    """A device asks for a permit to swap a slot."""

    device: str
    request: GrantRequest


@dataclass(frozen=True)
class Renews:
    """A device asks for a new certificate; the request is in PEM."""

    device: str
    csr_pem: str


@dataclass(frozen=True)
class Shows:
    """A device shows the metadata that it trusts."""

    device: str
    shown: Shown


@dataclass(frozen=True)
class Malformed:
    """A message that can't be read; it is recorded and dropped."""

    device: str
    topic: str
    fault: str = field(compare=False)
    payload: bytes = field(default=b"", compare=False)


Inbound = Rows | Reported | Seen | Wanted | Asked | Renews | Shows | Malformed


def read(topic: str, payload: bytes, received: float) -> Inbound:
    """Read a message that came on ``topic`` at ``received`` seconds; never raises."""
    device = ""
    try:
        device, leaf = topics.parse_up(topic)
        if leaf in ("telemetry", "event", "sample"):
            return _rows(device, leaf, messages.decode(payload, Batch), received)
        return _state(device, leaf, payload)
    except ProtocolError as error:
        return Malformed(device, topic, str(error), payload)
    except Exception as error:
        # A fault of ours, and still this sender's message alone that isn't taken.
        _log.exception("a message on %s could not be read", topic[:120])
        return Malformed(device, topic, f"{type(error).__name__}: {error}", payload)


def _rows(device: str, leaf: topics.UpLeaf, batch: Batch, received: float) -> Rows:
    if batch.version != 1:
        raise ProtocolError(f"batch version {batch.version} is not known here (know 1)")
    sequences = [row.sequence for row in batch.rows]
    if sequences != sorted(set(sequences)):
        raise ProtocolError("the batch's sequence numbers don't rise")
    if leaf == "event":
        return Rows(device, "event", batch.epoch, _events(device, batch, received))
    if leaf == "sample":
        return Rows(device, "sample", batch.epoch, _samples(device, batch, received))
    return Rows(device, "summary", batch.epoch, _summaries(device, batch, received))


def _state(device: str, leaf: topics.UpLeaf, payload: bytes) -> Inbound:
    match leaf:
        case "report":
            return Reported(device, msgspec.to_builtins(messages.decode(payload, Report)))
        case "presence":
            return Seen(device, messages.decode(payload, Presence).online)
        case "want":
            want = messages.decode(payload, Want)
            chunks = tuple(topics.check_sha256(chunk) for chunk in want.chunks)
            return Wanted(device, chunks, want.last_resort)
        case "grant":
            request = messages.decode(payload, GrantRequest)
            topics.check_name(request.slot, "slot")
            topics.check_sha256(request.manifest)
            return Asked(device, request)
        case "shown":
            return Shows(device, messages.decode(payload, Shown))
        case "csr":
            if len(payload) > PEM_BYTES_MAX or not (payload.isascii() and payload.startswith(PEM)):
                raise ProtocolError("not a certificate request in PEM")
            return Renews(device, payload.decode())
        case "telemetry" | "event" | "sample":
            raise ProtocolError(f"{leaf!r} messages hold rows, no state")
        case _:
            assert_never(leaf)


def anchor(stamp: Stamp, sent: Stamp, received: float) -> float:
    """When ``stamp`` was, by the hub's clock, told in a message sent at ``sent``.

    Within one boot the device's monotonic clock says how long ago. From an earlier boot only a
    synchronised wall clock can tell, and never a time to come, nor one longer ago than any device
    keeps what it tells; else the moment of receipt stands.
    """
    at = received
    if stamp.boot == sent.boot:
        at = received - max(sent.monotonic_seconds - stamp.monotonic_seconds, 0.0)
    elif stamp.quality == "synchronised":
        at = min(stamp.wall_seconds, received)
    return max(at, received - OLDEST_SECONDS)


def _summaries(device: str, batch: Batch, received: float) -> dict[int, dict[str, Any]]:
    epoch = batch.epoch.hex()
    return {
        row.sequence: {
            "device": device, "epoch": epoch, "sequence": row.sequence, "received": received,
            "payload": row.payload, **_NOTHING, "start": received,
            **_summary(row.payload, batch.sent, received),
        }
        for row in batch.rows
    }  # fmt: skip


def _plain_summary(
    device: str, epoch: str, sequence: int, payload: bytes, received: float
) -> dict[str, Any]:
    """Columns of a summary of which nothing is known but that it came."""
    return {
        "device": device, "epoch": epoch, "sequence": sequence, "received": received,
        "payload": payload, **_NOTHING, "start": received,
    }  # fmt: skip


def unkept(rows: Rows, fault: str) -> Rows:
    """The same rows as what the database takes in any case: their bytes, and what is wrong."""
    made: dict[int, dict[str, Any]] = {}
    for sequence, row in rows.rows.items():
        device, epoch, received = rows.device, row["epoch"], row["received"]
        match rows.stream:
            case "event":
                columns = _plain_event(device, epoch, sequence, received)
                made[sequence] = columns | _unreadable(fault, b"")
            case "summary":
                columns = _plain_summary(device, epoch, sequence, row["payload"], received)
                made[sequence] = columns | {"fault": _clipped(fault)}
            case "sample":
                columns = _plain_sample(device, epoch, sequence, received)
                made[sequence] = columns | {"fault": _clipped(fault)}
            case _:
                assert_never(rows.stream)
    return replace(rows, rows=made)


def _clipped(fault: str) -> str:
    return bounds.clean(fault)[:FAULT_CHARS_MAX]


def _summary(payload: bytes, sent: Stamp, received: float) -> dict[str, Any]:
    """Columns read from a summary; one that can't be read is kept raw with its fault."""
    try:
        header = summary_wire.peek(payload)
    except ProtocolError as error:
        return {"fault": _clipped(str(error))}
    if isinstance(header, summary_wire.Unknown):
        return {"fault": f"summary version {header.version} {NEWER}"}
    summary = header.summary
    start = anchor(summary.opened, sent, received)
    # A challenger's window covers no time of service: a model that only watches is not heard of.
    serves = not summary.counts.compared
    return {
        "model": summary.model,
        "version": summary.version,
        "manifest": summary.manifest,
        "start": start,
        "seconds": max(anchor(summary.closed, sent, received) - start, 0.0) if serves else 0.0,
        "log_p95": _log_p95(summary),
        **counts.columns(summary.counts),
    }


def _log_p95(summary: Summary) -> float | None:
    quantile = summary.latency_quantile(0.95)
    return math.log(quantile) if 0 < quantile < math.inf else None


def _samples(device: str, batch: Batch, received: float) -> dict[int, dict[str, Any]]:
    epoch = batch.epoch.hex()
    return {
        row.sequence: _plain_sample(device, epoch, row.sequence, received)
        | (_sample(row.payload, batch.sent, received) if row.payload else {})
        for row in batch.rows
    }


def _plain_sample(device: str, epoch: str, sequence: int, received: float) -> dict[str, Any]:
    """Columns of a sample of which nothing is kept, such as one that its device has deleted."""
    return {
        "device": device, "epoch": epoch, "sequence": sequence, "received": received,
        "policy": 0, "slot": "", "manifest": "", "sha256": "", "stratum": "", "taken": received,
        "content": b"", "fault": "", "label": None, "labelled_by": "",
    }  # fmt: skip


def _sample(payload: bytes, sent: Stamp, received: float) -> dict[str, Any]:
    try:
        sample, content = sampling.decode(payload)
        number = int(sample.policy) if sample.policy.isdecimal() else 0
    except (ProtocolError, ValueError) as error:
        return {"fault": _clipped(str(error))}
    if not 0 < number <= limits.SERIAL_MAX:
        return {"fault": "names no policy of this hub"}
    return {
        "policy": number,
        "slot": sample.slot,
        "manifest": content.manifest,
        "sha256": sample.sha256,
        "stratum": sample.stratum,
        "taken": anchor(sample.at, sent, received),
        "content": sample.content,
    }


def _events(device: str, batch: Batch, received: float) -> dict[int, dict[str, Any]]:
    epoch = batch.epoch.hex()
    return {
        row.sequence: _plain_event(device, epoch, row.sequence, received)
        | _event(row.payload, batch.sent, received)
        for row in batch.rows
    }


def _plain_event(device: str, epoch: str, sequence: int, received: float) -> dict[str, Any]:
    return {"device": device, "epoch": epoch, "sequence": sequence, "received": received}


def _unreadable(fault: str, payload: bytes) -> dict[str, Any]:
    return {
        "kind": UNREADABLE, "slot": "", "model": "", "version": "", "manifest": "",
        "generation": 0, "refusal": None, "detail": _clipped(fault),
        "data": {"payload": payload.hex()},
    }  # fmt: skip


def _event(payload: bytes, sent: Stamp, received: float) -> dict[str, Any]:
    try:
        event = messages.decode(payload, Event)
    except ProtocolError as error:
        return _unreadable(str(error), payload)
    columns = {name: getattr(event, name) for name in EVENT_COLUMNS}
    data = msgspec.to_builtins(event) | {"happened": anchor(event.at, sent, received)}
    return columns | {"data": data}
