"""What travels between device and hub besides directives, manifests and chunks: MessagePack.

Rows that must arrive exactly once (summaries, events) travel in a ``Batch`` and are acknowledged
by an ``Ack`` from the hub's database, not by the broker. A ``Report`` is state: the latest wins.
"""

import contextlib
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from muster_protocol import PROTOCOL_VERSION
from muster_protocol.wire import bounds, limits
from muster_protocol.wire.bounds import (
    Boot,
    Finite,
    Format,
    Integer,
    Line,
    Moment,
    Name,
    Seconds,
    Serial,
    Text,
)
from muster_protocol.wire.errors import LimitError, ProtocolError
from muster_protocol.wire.feed_report import FeedReport

Stream = Literal["event", "summary", "sample"]
"""Each stream has its own sequence; events go before summaries, and samples last."""

ClockQuality = Literal["unknown", "floor", "synchronised"]
UpdateState = Literal[
    "idle", "fetching", "verifying", "staged", "starting", "probation", "committed",
    "rolling_back", "failed",
]  # fmt: skip
EVENT_VALUES_MAX = 64
Detail = Annotated[str, Meta(max_length=limits.EVENT_DETAIL_CHARS_MAX, pattern=bounds.TEXT_PATTERN)]
Ne107 = Literal["ok", "check_function", "off_spec", "maintenance_required", "failure"]
"""Model health by NAMUR NE 107."""


class Stamp(Struct, frozen=True, array_like=True):
    """When, by a device that may not know the time: the hub re-anchors it at receipt."""

    boot: Boot
    """Random id of the device's boot; monotonic times compare only within one."""
    monotonic_seconds: Moment
    wall_seconds: Moment
    quality: ClockQuality


Epoch = Annotated[bytes, Meta(min_length=8, max_length=16)]
"""Random, made with the outbox file."""


class Row(Struct, frozen=True, array_like=True):
    """An entry of the outbox on its way to the hub; its number never changes once sent."""

    sequence: Serial
    payload: Annotated[bytes, Meta(max_length=limits.TELEMETRY_BYTES_MAX)]


class Batch(Struct, frozen=True, array_like=True):
    """Rows of one stream in rising sequence."""

    version: Format
    epoch: Epoch
    sent: Stamp
    rows: Annotated[list[Row], Meta(min_length=1, max_length=limits.IN_FLIGHT_ROWS_MAX)]


class Ack(Struct, frozen=True, array_like=True):
    """The hub has committed every row of ``stream`` in ``epoch`` up to ``sequence``."""

    version: Format
    stream: Stream
    epoch: Epoch
    sequence: Integer


class Event(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that happened once on a device."""

    kind: Literal[
        "update", "refused", "rolled_back", "worker_died", "drift", "fetch_healed", "note",
        "sampling", "diagnosis", "log",
    ]  # fmt: skip
    at: Stamp
    slot: Name = ""
    model: Name = ""
    version: Name = ""
    manifest: Name = ""
    generation: Integer = 0
    state: UpdateState | None = None
    refusal: Name | None = None
    detail: Detail = ""
    values: Annotated[dict[Name, Finite], Meta(max_length=EVENT_VALUES_MAX)] = {}
    trace: Line = ""
    """The ``traceparent`` that the directive named for this update."""


PROVIDERS_MAX = 8


class Running(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model version that serves, as the device itself observes it."""

    model: Name
    version: Name
    manifest: Name
    runtime: Line
    since: Stamp
    inferences: Integer = 0
    errors: Integer = 0
    providers: Annotated[tuple[Line, ...], Meta(max_length=PROVIDERS_MAX)] = ()
    """What computes it, preferred first; empty from an older agent."""
    threads: Integer = 0
    """For one request; 0 from an older agent."""


class Update(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where the slot's update stands and what it waits for."""

    state: UpdateState
    model: Name = ""
    version: Name = ""
    manifest: Name = ""
    generation: Integer = 0
    bytes_done: Integer = 0
    bytes_total: Integer = 0
    waiting_for: Text = ""
    refusal: Name | None = None
    detail: Text = ""
    gap_seconds: Seconds = 0.0
    """In which no model answered because memory was too short for both."""
    fetch_seconds: Seconds = 0.0
    """In which bytes of this bundle came in, as long as the agent runs: a rollout's time-out is for
    what a device does, not for what its link can't carry."""
    fetched_from: Line = ""
    """Where the last chunk came from: ``broker``, or the URL of an HTTP source."""


ChallengerState = Literal["waiting", "fetching", "starting", "comparing", "failed"]


class Challenger(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model that is watched beside the one that answers."""

    state: ChallengerState
    model: Name
    version: Name
    manifest: Name
    waiting_for: Text = ""
    compared: Integer = 0
    """Inferences since it was last started."""
    refusal: Name | None = None
    detail: Text = ""


class SlotReport(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One slot: its health, what runs in it, and how far an update has come."""

    health: Ne107
    reason: Text = ""
    """Why the health is not ok, in one line."""
    fallback: bool = False
    """No model answers now; the signed manifest's fallback does."""
    feed: Text = ""
    """Which feeds lack values for this slot's model, and why, in one line; empty: none does."""
    assigned: bool = True
    """False: the directive doesn't name this slot any more; what runs there goes on."""
    calibration: Literal["calibrating", "calibrated", "refused", ""] = ""
    """Of the features of what runs, the least settled; empty when none are watched."""
    rebaselines: Integer = 0
    """How many of the directive's ``rebaselines`` are done."""
    running: Running | None = None
    update: Update
    challenger: Challenger | None = None
    sampling: Text = ""
    """What becomes of the directive's sampling policy, in one line; empty: there is none."""


RUNTIMES_MAX = 16
UNDERSTANDS_MAX = 32
RoleName = Annotated[str, Meta(max_length=80, pattern=bounds.LINE_PATTERN)]
"""Of trust metadata: ``timestamp``, ``model-<name>``, …"""


class Facts(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the device is and can run; the hub plans by it before a byte is sent."""

    agent_version: Line
    machine: Line = ""
    system: Line = ""
    python: Line = ""
    runtimes: Annotated[dict[Name, Line], Meta(max_length=RUNTIMES_MAX)] = {}
    """Runtime name to its version."""
    providers: Annotated[
        dict[Name, Annotated[tuple[Name, ...], Meta(max_length=PROVIDERS_MAX)]],
        Meta(max_length=RUNTIMES_MAX),
    ] = {}
    """Runtime name to what can compute for it here; none from an older agent."""
    cpus: Integer = 0
    memory_bytes: Integer = 0
    disk_free_bytes: Integer = 0
    energy: Literal["rapl", "configured", ""] = ""
    """Where the estimate of energy in summaries comes from; empty: there is none."""
    isolation: Literal["full", "no_landlock", "one_thread", "none", ""] = ""
    """How well the kernel isolates a model's process; empty: an agent that does not say."""
    key: Literal["file", "hardware", ""] = ""
    """Where the identity key lies; empty: an agent that does not say."""
    understands: Annotated[tuple[Name, ...], Meta(max_length=UNDERSTANDS_MAX)] = ()
    """What came after the first formats, which an agent without it refuses: fields of a directive
    by name, ``manifest-2`` and ``baseline-2``."""
    agent_update: Update | None = None
    """Where the update of the agent itself stands that a directive asks for, whose release is
    ``manifest``; None: there is none. ``agent_version`` is what runs."""


class TrustReport(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Versions of trusted metadata by file stem, so that a restored hub can continue from them."""

    versions: Annotated[dict[RoleName, Integer], Meta(max_length=limits.TRUST_ROLES_MAX)] = {}
    expires: Annotated[dict[RoleName, Integer], Meta(max_length=limits.TRUST_ROLES_MAX)] = {}
    """Seconds since 1970."""
    contact: Name = ""
    """Digest of the contact that was taken last; empty: none, the enrolment's is in force."""
    authorities: Annotated[tuple[Name, ...], Meta(max_length=limits.AUTHORITIES_MAX)] = ()
    """Whose certificates the device believes at the hub: SHA-256 of theirs. Empty from an older
    agent."""


class Report(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The device's reported state."""

    protocol: Format = PROTOCOL_VERSION
    at: Stamp
    epoch: Integer = 0
    generation: Integer = 0
    """Of the adopted directive."""
    slots: Annotated[dict[Name, SlotReport], Meta(max_length=limits.SLOTS_MAX)] = {}
    facts: Facts
    trust: TrustReport = TrustReport()
    refusal: Name | None = None
    """Why the last directive or metadata was refused, if it was."""
    refusal_detail: Text = ""
    certificate_expires: Integer = 0
    outbox_rows: Integer = 0
    outbox_bytes: Integer = 0
    outbox_waiting_for: Text = ""
    """Why summaries wait although the link is up; empty when they don't."""
    feeds: Annotated[dict[Name, FeedReport], Meta(max_length=limits.FEEDS_REPORTED_MAX)] = {}
    """How each feed stands; only while a directive has the device tell it."""
    proof: Annotated[bytes, Meta(max_length=128)] = b""
    """By the device's identity key over what it runs; see ``muster_protocol.wire.proof``."""


class Presence(Struct, frozen=True):
    """Retained; ``online=False`` is the device's will."""

    online: bool


class Want(Struct, frozen=True, omit_defaults=True):
    """Chunks that did not come although they were asked for.

    The hub publishes them anew. Those that the broker's cache has no room for it answers with an
    empty message on the chunk's topic: they are to be had by HTTP.
    """

    chunks: Annotated[list[Name], Meta(min_length=1, max_length=limits.WANT_CHUNKS_MAX)]
    last_resort: bool = False
    """No HTTP source has them either, or none can be reached: the hub publishes them all the same,
    for this once, unretained."""


class Shown(Struct, frozen=True):
    """The metadata a device trusts, as they were signed: its answer to ``down/<device>/show``.

    A hub that was set back goes on from them, where its own keys signed them.
    """

    timestamp: Annotated[bytes, Meta(max_length=limits.SHOWN_TIMESTAMP_BYTES_MAX)]
    snapshot: Annotated[bytes, Meta(max_length=limits.SHOWN_SNAPSHOT_BYTES_MAX)]


class GrantRequest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A staged device asks for a permit to swap one slot now. Not retained; asked anew until told.

    ``nonce`` is random and new for every request: an answer to another one counts for nothing.
    """

    nonce: Annotated[bytes, Meta(min_length=8, max_length=16)]
    slot: Name
    manifest: Name
    """What it would swap to: the champion of the adopted directive."""
    generation: Integer
    """Of the adopted directive."""


class Grant(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The hub's answer to one ``GrantRequest``; never retained.

    Given, it permits to *begin* the swap within ``valid_seconds`` of the moment the device made
    the request, by the device's monotonic clock and within one boot. Not given, the device asks
    again after about ``retry_seconds``.
    """

    nonce: Annotated[bytes, Meta(min_length=8, max_length=16)]
    slot: Name
    given: bool
    valid_seconds: Seconds = 0.0
    retry_seconds: Seconds = 0.0
    reason: Annotated[
        str, Meta(max_length=limits.GRANT_REASON_CHARS_MAX, pattern=bounds.TEXT_PATTERN)
    ] = ""
    """Why not, in words for the report."""


Message = Batch | Ack | Event | Report | Presence | Want | Shown | GrantRequest | Grant
T = TypeVar("T")
M = TypeVar("M", Batch, Ack, Event, Report, Presence, Want, Shown, GrantRequest, Grant)

_LIMIT_BYTES: dict[type[Any], int] = {
    Batch: limits.TELEMETRY_BYTES_MAX,
    Report: limits.REPORT_BYTES_MAX,
    Ack: 256,
    Event: 8 * limits.KIB,
    Presence: 64,
    Want: 8 * limits.KIB,
    Shown: limits.SHOWN_TIMESTAMP_BYTES_MAX + limits.SHOWN_SNAPSHOT_BYTES_MAX + limits.KIB,
    GrantRequest: 512,
    Grant: 2 * limits.KIB,
}


def encode(message: Message) -> bytes:
    """MessagePack, its texts cleaned; raises LimitError when the message is over its limit.

    A number beyond its bounds goes as it is: the other side sets the message aside and shows it,
    which says more than a sender that stops.
    """
    kind = type(message)
    data = msgspec.msgpack.encode(message)
    _check_size(data, kind)
    try:
        msgspec.msgpack.decode(data, type=kind)
    except msgspec.DecodeError:
        with contextlib.suppress(ProtocolError):
            return msgspec.msgpack.encode(_cleaned(data, kind))
    return data


def decode(data: bytes, kind: type[M]) -> M:
    """Parse a message of the expected kind; raises ProtocolError naming the field at fault.

    Texts with control characters or overrides of direction, as older agents may send, come cleaned.
    """
    _check_size(data, kind)
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except msgspec.ValidationError:
        return _cleaned(data, kind)
    except _UNREADABLE as error:
        raise ProtocolError(f"not a valid {kind.__name__}: {error}") from None


_UNREADABLE = (msgspec.DecodeError, RecursionError, ValueError, TypeError, OverflowError)


def _check_size(data: bytes, kind: type[Any]) -> None:
    limit = _LIMIT_BYTES[kind]
    if len(data) > limit:
        raise LimitError(f"a {kind.__name__} of {len(data)} bytes, the limit is {limit}")


def _cleaned(data: bytes, kind: type[T]) -> T:
    """What is at fault may be a text alone, and a device with an odd name is still heard."""
    try:
        plain = msgspec.msgpack.decode(data)
        try:
            return msgspec.convert(bounds.cleaned(plain), kind)
        except msgspec.ValidationError:
            # A line break, which only some texts may hold.
            return msgspec.convert(bounds.cleaned(plain, line=True), kind)
    except _UNREADABLE as error:
        raise ProtocolError(f"not a valid {kind.__name__}: {error}") from None
