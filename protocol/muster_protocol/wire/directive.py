"""The directive: the hub's signed desired state for one device.

A directive is a DSSE envelope (https://github.com/secure-systems-lab/dsse) around this payload.
This module knows the payload and the order of directives; signatures are checked by the caller.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from muster_protocol.wire import bounds, limits
from muster_protocol.wire.bounds import Format, Integer, Name, Serial
from muster_protocol.wire.contact import Contact
from muster_protocol.wire.errors import MusterError, ProtocolError, Refusal
from muster_protocol.wire.maintenance import MaintenanceWindow
from muster_protocol.wire.manifest import Sha256
from muster_protocol.wire.sampling import SamplingPolicy
from muster_protocol.wire.topics import check_device_id, check_name
from muster_protocol.wire.trace import Traceparent

FORMAT = 1
PAYLOAD_TYPE = "application/vnd.muster.directive+json"
ROLE = "director"
"""The delegation of the TUF targets role whose keys sign directives."""

DIAGNOSES = "diagnoses"
FEED_WATCHES = "feed_watches"
FEED_SETTINGS = "feed_settings"
RESTART = "restart"
LOG_WATCH = "log_watch"
AGENT = "agent"
"""As ``understands`` names these fields."""
SERIAL_MAX = limits.SERIAL_MAX
FeedValue = bounds.Line | bounds.Finite | bool
"""Of one setting of a feed."""
FeedValues = Annotated[
    dict[bounds.Line, FeedValue], Meta(min_length=1, max_length=limits.FEED_SETTINGS_MAX)
]
"""By path below the feed, such as ``sources.plc.host``."""


class Goal(Struct, frozen=True, forbid_unknown_fields=True):
    """One model version in one role of a slot."""

    model: Name
    version: Name
    manifest: Sha256
    manifest_bytes: Annotated[int, Meta(ge=2, le=limits.MANIFEST_BYTES_MAX)]


class Drift(Struct, frozen=True, forbid_unknown_fields=True):
    """How drift of what the champion sees is judged, on the device and at the hub alike."""

    budget_per_month: Annotated[float, Meta(gt=0, le=1000)] = 0.5
    """False alerts that are acceptable, per device and month."""
    calibration_seconds: Annotated[float, Meta(gt=0, le=limits.DRIFT_SECONDS_MAX)] = 86_400.0
    """How long a device is watched before its own windows say what is normal, where the baseline
    does not know training in time."""
    settle_seconds: Annotated[float, Meta(ge=0, le=limits.DRIFT_SECONDS_MAX)] = 86_400.0
    """A change that has stood so long, and is no sensor's fault, is the new normal; 0: never."""


class Slot(Struct, frozen=True, forbid_unknown_fields=True):
    """What one slot should run and watch, and when it may swap."""

    champion: Goal
    challenger: Goal | None = None
    fallback: Name | None = None
    """Name of one of the champion manifest's fallbacks; none: its first, if it declares any."""
    swap: Literal["free", "grant"] = "free"
    """``grant``: ask the hub for a permit at the moment of swapping; ``free``: swap when staged."""
    maintenance: Annotated[tuple[MaintenanceWindow, ...], Meta(max_length=16)] | UnsetType = UNSET
    """Times at which the device may swap, by its own wall clock; absent or empty: at any time."""
    drift: Drift | UnsetType = UNSET
    """Absent: the usual settings. Told only to agents whose facts say ``understands``."""
    rebaselines: Annotated[int, Meta(ge=1, le=2**31)] | UnsetType = UNSET
    """How often an operator has called what the champion sees on this device its normal: a device
    that has done so less often takes its last windows as normal and calibrates anew. Absent: never.
    """
    attempt: Name | UnsetType = UNSET
    """Names a fresh try at the champion: a device that has refused it under another attempt, or
    under none, forgets that and begins anew. Told only to agents whose facts say ``understands``.
    """
    traceparent: Traceparent | UnsetType = UNSET
    """The trace of the rollout that asks for the champion, which events of its update name. Told
    only to agents whose facts say ``understands``."""
    sampling: SamplingPolicy | UnsetType = UNSET
    """Which rows that the champion sees are sent home, within what its release allows. Absent:
    none, and what waits of an earlier policy is deleted. Told only to agents whose facts say
    ``understands``."""


class WantedAgent(Struct, frozen=True, forbid_unknown_fields=True):
    """The release of the agent itself that a device should run."""

    release: Goal
    """Its ``manifest`` is the hash of the release's listing (``agent_release.Listing``)."""
    attempt: Name | UnsetType = UNSET
    """As a slot's: names a fresh try at a release that the device has refused or left again."""


class Source(Struct, frozen=True, forbid_unknown_fields=True):
    """A second source of chunks: ``GET <url>/<sha256>`` with a bearer token for this device.

    Where it serves whole files too, ``GET <url>/files/<sha256 of the file>`` with a ``Range``,
    neighbouring chunks come in one answer. One that doesn't is asked for each chunk by its name.
    """

    url: Annotated[str, Meta(max_length=512, pattern=r"^https?://[!-~]*\Z")]
    token: Annotated[str, Meta(max_length=512, pattern=bounds.LINE_PATTERN)] = ""


class Sampling(Struct, frozen=True, forbid_unknown_fields=True):
    """What raw data may leave the device; by default none."""

    keep_crash_input: bool = False


class TimedRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Something that an operator has asked for, now or not at all."""

    request: Annotated[int, Meta(ge=1, le=2**31)]
    """Its number; a device obeys each once, and none of an earlier one than it has obeyed."""
    until: Integer
    """Seconds since 1970; a device that hears of it later does nothing."""


class Directive(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The hub's desired state for one device; signed, and adopted whole or not at all."""

    format: Format = FORMAT
    device: Name
    epoch: Serial
    """Director epoch; generations count within it."""
    generation: Serial
    issued: Integer
    expires: Integer
    slots: Annotated[dict[Name, Slot], Meta(max_length=limits.SLOTS_MAX)]
    window_seconds: Annotated[
        float, Meta(ge=limits.WINDOW_SECONDS_MIN, le=limits.WINDOW_SECONDS_MAX)
    ] = 300.0
    sampling: Sampling = Sampling()
    sources: Annotated[tuple[Source, ...], Meta(max_length=4)] = ()
    diagnoses: Annotated[int, Meta(ge=1, le=2**31)] | UnsetType = UNSET
    """How often an operator has asked what is wrong here: a device that has looked less often does
    so, and tells it in events. Told only to agents whose facts say ``understands``."""
    feed_watches: Annotated[int, Meta(ge=1, le=2**31)] | UnsetType = UNSET
    """How often somebody has begun to watch the feeds here: a device that was watched less often
    tells in each report how they stand, for two minutes, and reports more often meanwhile. Told
    only to agents whose facts say ``understands``."""
    restart: TimedRequest | UnsetType = UNSET
    """That the agent starts anew. Told only to agents whose facts say ``understands``."""
    log_watch: TimedRequest | UnsetType = UNSET
    """That lines of the agent's log are sent in events, for two minutes. Told only to agents whose
    facts say ``understands``."""
    feed_settings: (
        Annotated[dict[Name, FeedValues], Meta(max_length=limits.FEEDS_REPORTED_MAX)] | UnsetType
    ) = UNSET
    """By feed, what the hub sets of it, where the device's own configuration lets it. Absent: the
    configuration alone counts. Told only to agents whose facts say ``understands``."""
    agent: WantedAgent | UnsetType = UNSET
    """Absent: what runs goes on. Told only to agents whose facts say ``understands``: those that a
    launcher can take back again."""
    contact: Contact | UnsetType = UNSET
    """Where the hub is, or will be; taken only when targets name the same. Absent: what the device
    holds stays. Told only to agents whose facts say ``understands``."""

    @property
    def goals(self) -> tuple[Goal, ...]:
        """All that the device may have to fetch."""
        slots = self.slots.values()
        found = [goal for slot in slots for goal in (slot.champion, slot.challenger) if goal]
        return (*found, self.agent.release) if self.agent is not UNSET else tuple(found)


class DirectiveRefused(MusterError):
    """A directive that must not be adopted; ``refusal`` names the reason on the wire."""

    def __init__(self, refusal: Refusal, message: str) -> None:
        super().__init__(message)
        self.refusal = refusal


class _Head(Struct):
    format: Integer


def encode(directive: Directive) -> bytes:
    """Deterministic JSON; raises ProtocolError for whatever ``decode`` would refuse on a device."""
    payload = msgspec.json.encode(directive, order="deterministic")
    try:
        decode(payload)
    except DirectiveRefused as error:
        raise ProtocolError(str(error)) from None
    return payload


def decode(payload: bytes) -> Directive:
    """Parse a verified payload; raises DirectiveRefused naming what is wrong with it."""
    if len(payload) > limits.DIRECTIVE_BYTES_MAX:
        raise DirectiveRefused(
            Refusal.TOO_LARGE,
            f"a directive of {len(payload)} bytes, the limit is {limits.DIRECTIVE_BYTES_MAX}",
        )
    try:
        head = msgspec.json.decode(payload, type=_Head)
        if head.format != FORMAT:
            raise DirectiveRefused(
                Refusal.UNKNOWN_FORMAT,
                f"directive format {head.format} is newer than this agent knows ({FORMAT}): "
                "upgrade the agent",
            )
        directive = msgspec.json.decode(payload, type=Directive)
        check_device_id(directive.device)
        for name in directive.slots:
            check_name(name, "slot")
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, ProtocolError) as error:
        raise DirectiveRefused(Refusal.MALFORMED, f"not a valid directive: {error}") from None
    return directive


def accept(
    directive: Directive, *, device: str, epoch: int, adopted: tuple[int, int], now: int
) -> None:
    """Decide whether a verified directive may replace the adopted one.

    ``epoch`` is the director epoch that the signed targets role names, ``adopted`` the (epoch,
    generation) in force, ``now`` trusted time in seconds. The same generation again is accepted:
    adopting it is a no-op. Raises DirectiveRefused.
    """
    if directive.device != device:
        raise DirectiveRefused(
            Refusal.WRONG_DEVICE, f"the directive is for {directive.device}, this is {device}"
        )
    if directive.epoch != epoch:
        raise DirectiveRefused(
            Refusal.STALE_EPOCH,
            f"the directive is of director epoch {directive.epoch}, the signed one is {epoch}",
        )
    if (directive.epoch, directive.generation) < adopted:
        raise DirectiveRefused(
            Refusal.STALE_GENERATION,
            f"generation {directive.generation} of epoch {directive.epoch} is older than the "
            f"adopted {adopted[1]} of epoch {adopted[0]}: a replay, or a hub restored from backup",
        )
    if now >= directive.expires:
        raise DirectiveRefused(
            Refusal.EXPIRED, f"the directive expired {now - directive.expires} s ago"
        )
