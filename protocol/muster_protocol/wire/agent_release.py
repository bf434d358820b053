"""A release of the agent itself: its wheels by hash, in an envelope that release keys have signed.

A release travels as one file: ``HEAD``, four bytes with the envelope's length (big-endian), the
envelope, then the wheels' bytes in the order in which the envelope lists them. Nothing but that
length is believed before the signatures are.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from muster_protocol.wire import limits
from muster_protocol.wire.bounds import Integer
from muster_protocol.wire.errors import LimitError, ProtocolError
from muster_protocol.wire.manifest import Sha256

PAYLOAD_TYPE = "application/vnd.muster.agent-release+json"
DISTRIBUTION = "muster_edge"
HEAD = b"muster agent 1\n\0"
LENGTH_BYTES = 4
ENVELOPE_BYTES_MAX = 256 * limits.KIB
WHEELS_MAX = 256
RELEASE_BYTES_MAX = 1024 * limits.MIB

WheelName = Annotated[
    str,
    Meta(max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9._]*(-[A-Za-z0-9._+!]+){4,5}\.whl\Z"),
]
Extra = Annotated[str, Meta(max_length=32, pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?\Z")]
AgentVersion = Annotated[str, Meta(max_length=64, pattern=r"^[0-9A-Za-z][0-9A-Za-z.+!]*\Z")]


class Wheel(Struct, frozen=True, forbid_unknown_fields=True):
    """A wheel of the release; several of one distribution are for several platforms."""

    name: WheelName
    size_bytes: Annotated[int, Meta(ge=1, le=RELEASE_BYTES_MAX)]
    sha256: Sha256

    @property
    def distribution(self) -> str:
        """Its normalised name."""
        return self.name.split("-")[0].lower().replace(".", "_")

    @property
    def version(self) -> str:
        """Of the distribution, as the wheel's name has it."""
        return self.name.split("-")[1]


class AgentRelease(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a device installs beside the agent that runs, without any network."""

    format: Literal[1] = 1
    version: AgentVersion
    issued: Integer
    """Seconds since 1970; a device goes back to none that was issued earlier."""
    extras: Annotated[tuple[Extra, ...], Meta(max_length=16)]
    wheels: Annotated[tuple[Wheel, ...], Meta(min_length=1, max_length=WHEELS_MAX)]

    @property
    def size_bytes(self) -> int:
        """Of all wheels."""
        return sum(wheel.size_bytes for wheel in self.wheels)


def encode(release: AgentRelease) -> bytes:
    """Deterministic JSON; raises ProtocolError for whatever ``decode`` would refuse."""
    data = msgspec.json.encode(release, order="deterministic")
    decode(data)
    return data


def decode(payload: bytes) -> AgentRelease:
    """Parse and check what an envelope holds; raises ProtocolError."""
    try:
        release = msgspec.json.decode(payload, type=AgentRelease)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ProtocolError(f"not a release of the agent: {error}") from None
    where = f"agent {release.version}"
    if release.size_bytes > RELEASE_BYTES_MAX:
        raise LimitError(
            f"{where}: {release.size_bytes} bytes in all, the limit is {RELEASE_BYTES_MAX}"
        )
    names = [wheel.name for wheel in release.wheels]
    if len(names) != len(set(names)):
        raise ProtocolError(f"{where}: a wheel is listed twice")
    versions: dict[str, str] = {}
    for wheel in release.wheels:
        known = versions.setdefault(wheel.distribution, wheel.version)
        if known != wheel.version:
            raise ProtocolError(
                f"{where}: {wheel.distribution} in two versions, {known} and {wheel.version}: "
                "what a device installs must not be a choice"
            )
    if versions.get(DISTRIBUTION) != release.version:
        raise ProtocolError(f"{where}: no wheel of {DISTRIBUTION} {release.version} among them")
    return release


def front(envelope: bytes) -> bytes:
    """What stands before the wheels in a release's file; raises LimitError."""
    if len(envelope) > ENVELOPE_BYTES_MAX:
        raise LimitError(f"an envelope of {len(envelope)} bytes, the limit is {ENVELOPE_BYTES_MAX}")
    return HEAD + len(envelope).to_bytes(LENGTH_BYTES) + envelope


def envelope_length(start: bytes) -> int:
    """By the first bytes of a file, ``HEAD`` and the length; raises ProtocolError."""
    length = int.from_bytes(start[len(HEAD) :])
    if not start.startswith(HEAD) or len(start) != len(HEAD) + LENGTH_BYTES:
        raise ProtocolError("not a release of the agent: `muster-hub agent-release make` makes one")
    if not 0 < length <= ENVELOPE_BYTES_MAX:
        raise LimitError(f"an envelope of {length} bytes, the limit is {ENVELOPE_BYTES_MAX}")
    return length
