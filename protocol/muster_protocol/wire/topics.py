"""Every MQTT topic of Muster, built and parsed here and nowhere else.

Device to hub: ``muster/v1/up/<device>/<leaf>``; hub to device: ``muster/v1/down/<device>/<leaf>``;
shared and retained: ``muster/v1/tuf/<file>`` and ``muster/v1/chunk/<sha256>``.
"""

import re
from typing import Literal, NamedTuple

from muster_protocol.wire.errors import ProtocolError
from muster_protocol.wire.limits import NAME_CHARS_MAX

ROOT = "muster/v1"
UpLeaf = Literal[
    "report", "presence", "telemetry", "event", "want", "csr", "grant", "shown", "sample"
]
DownLeaf = Literal["directive", "ack", "cert", "grant", "show"]
UP_LEAVES: tuple[UpLeaf, ...] = (
    "report", "presence", "telemetry", "event", "want", "csr", "grant", "shown", "sample",
)  # fmt: skip
DOWN_LEAVES: tuple[DownLeaf, ...] = ("directive", "ack", "cert", "grant", "show")

_DEVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_VERSION = re.compile(r"[a-z0-9][a-z0-9._-]*(?:\+[a-z0-9.-]+)?")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TUF_FILE = re.compile(r"(?:timestamp|[1-9][0-9]{0,8}\.[a-z0-9][a-z0-9._-]{0,79})\.json")


class UpTopic(NamedTuple):
    """A parsed device-to-hub topic."""

    device: str
    leaf: UpLeaf


def check_device_id(device: str) -> str:
    """Return the id unchanged; it must be 1–64 of ``A–Z a–z 0–9 . _ -`` and start alphanumeric."""
    if not _DEVICE.fullmatch(device):
        raise ProtocolError(
            f"device id {device!r}: use 1 to 64 letters, digits, '.', '_' or '-', "
            "starting with a letter or digit"
        )
    return device


def check_name(name: str, what: str) -> str:
    """Return a model, version or slot name unchanged if it may stand in a path and a topic."""
    if not _NAME.fullmatch(name):
        raise ProtocolError(
            f"{what} {name!r}: use 1 to 64 lower-case letters, digits, '.', '_' or '-', "
            "starting with a letter or digit"
        )
    return name


def check_version(version: str) -> str:
    """Return a version unchanged if it may stand in a path: a name, with build metadata or not."""
    if len(version) > NAME_CHARS_MAX or not _VERSION.fullmatch(version):
        raise ProtocolError(
            f"version {version!r}: use 1 to {NAME_CHARS_MAX} lower-case letters, digits, '.', '_' "
            "or '-', starting with a letter or digit, as 1.2.0 or, with a build's number, 1.2.0+17"
        )
    return version


def check_sha256(digest: str) -> str:
    """Return the digest unchanged if it is 64 lower-case hexadecimal digits."""
    if not _SHA256.fullmatch(digest):
        raise ProtocolError(f"{digest[:80]!r} is not a SHA-256 in lower-case hexadecimal")
    return digest


def up(device: str, leaf: UpLeaf) -> str:
    """Topic of a device's message to the hub; raises ProtocolError for an impossible device."""
    return f"{ROOT}/up/{check_device_id(device)}/{leaf}"


def down(device: str, leaf: DownLeaf) -> str:
    """Topic of the hub's message to one device; raises ProtocolError for an impossible device."""
    return f"{ROOT}/down/{check_device_id(device)}/{leaf}"


def up_all(leaf: UpLeaf) -> str:
    """Subscription filter for one leaf of every device."""
    return f"{ROOT}/up/+/{leaf}"


def chunk(sha256: str) -> str:
    """Topic of a chunk by its hash; raises ProtocolError when that is no SHA-256."""
    return f"{ROOT}/chunk/{check_sha256(sha256)}"


def tuf(file: str) -> str:
    """Topic of a metadata file by its name; raises ProtocolError for any other name."""
    if not _TUF_FILE.fullmatch(file):
        raise ProtocolError(f"{file[:80]!r} is not the name of a TUF metadata file")
    return f"{ROOT}/tuf/{file}"


def hub_chunks() -> str:
    """The hub's own retained note of which chunks it has published; devices can't read it."""
    return f"{ROOT}/hub/chunks"


def parse_up(topic: str) -> UpTopic:
    """Parse ``muster/v1/up/<device>/<leaf>``; raises ProtocolError on anything else."""
    parts = topic.split("/")
    if len(parts) == 5 and topic.startswith(f"{ROOT}/up/"):
        for leaf in UP_LEAVES:
            if parts[4] == leaf:
                return UpTopic(check_device_id(parts[3]), leaf)
    raise ProtocolError(f"{topic[:120]!r} is not a device-to-hub topic")


def parse_chunk(topic: str) -> str | None:
    """The SHA-256 named by a chunk topic, or None when it is another topic."""
    prefix = f"{ROOT}/chunk/"
    return check_sha256(topic[len(prefix) :]) if topic.startswith(prefix) else None


def is_shared(topic: str) -> bool:
    """Whether it is one that all devices read: of a chunk, or of the catalogue's metadata."""
    return topic.startswith((f"{ROOT}/chunk/", f"{ROOT}/tuf/"))


def parse_tuf(topic: str) -> str | None:
    """The file named by a TUF topic, or None when it is another topic."""
    prefix = f"{ROOT}/tuf/"
    file = topic[len(prefix) :]
    return file if topic.startswith(prefix) and _TUF_FILE.fullmatch(file) else None
