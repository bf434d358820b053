"""A release of the agent itself: its wheels by hash, in an envelope that release keys have signed.

A release travels as one file: ``HEAD``, four bytes with the envelope's length (big-endian), the
envelope, then the wheels' bytes in the order in which the envelope lists them. Nothing but that
length is believed before the signatures are.

A hub delivers that file as it does a bundle: in chunks, which a ``Listing`` names in place of a
manifest.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from muster_protocol.wire import limits, manifest
from muster_protocol.wire.bounds import Integer
from muster_protocol.wire.errors import LimitError, ProtocolError
from muster_protocol.wire.manifest import File, Sha256
from muster_protocol.wire.topics import check_version

PAYLOAD_TYPE = "application/vnd.muster.agent-release+json"
DISTRIBUTION = "muster_edge"
NAME = "muster-agent"
"""Releases of the agent stand among models and slots under this name, which no other takes."""
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


class Listing(Struct, frozen=True, forbid_unknown_fields=True):
    """The file of a release, as a hub serves it; its hash is what directives and reports name."""

    agent: Literal[1]
    """The listing's format; its name tells it from a manifest, too."""
    version: AgentVersion
    file: File


_LISTING_HEAD = b'{"agent":'


def is_listing(data: bytes) -> bool:
    """Whether the bytes, if they are what they should be, are a listing and no manifest."""
    return data.startswith(_LISTING_HEAD)


def encode_listing(version: str, file: File) -> bytes:
    """Deterministic JSON; raises ProtocolError for whatever ``decode_listing`` would refuse."""
    data = msgspec.json.encode(Listing(1, version, file), order="deterministic")
    decode_listing(data)
    return data


def decode_listing(data: bytes) -> Listing:
    """Parse and check a listing; raises ProtocolError."""
    try:
        listing = msgspec.json.decode(data, type=Listing)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ProtocolError(f"not a listing of a release of the agent: {error}") from None
    check_version(listing.version)
    if listing.file.size_bytes > RELEASE_BYTES_MAX + ENVELOPE_BYTES_MAX + limits.KIB:
        raise LimitError(f"agent {listing.version}: a file of {listing.file.size_bytes} bytes")
    if bool(listing.file.index) != (listing.file.size_bytes > limits.CHUNK_BYTES):
        raise ProtocolError(f"agent {listing.version}: its file and its chunk index don't fit")
    return listing


def files_of(data: bytes) -> tuple[File, ...]:
    """The files that a manifest, or the listing of a release, names; raises ProtocolError."""
    if is_listing(data):
        return (decode_listing(data).file,)
    return manifest.decode(data).files


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
