"""``muster-agent import DIR``: an update carried in on a stick, with a signed receipt left on it.

DIR holds what a broker would retain: ``tuf/<file>``, ``chunks/<sha256>`` (manifests and chunk
indexes are among them) and ``directives/<device>.json``, an envelope. It is copied whole and handed
to the agent in one rename; there it passes the same signatures and hashes as anything from a link.
The receipt is left only when the copy is safe on this device's disk.
"""

import base64
import hashlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from muster_agent.base.clock import Clock
from muster_agent.identity import identity
from muster_agent.storage.content import disk_free_bytes
from muster_agent.storage.files import PART_SUFFIX, make_directory, rename_durably, write_durably
from muster_protocol.wire import limits, topics
from muster_protocol.wire.chunks import sha256_hex
from muster_protocol.wire.errors import MusterError, ProtocolError

DIRECTORY = "drop"
"""Under the agent's directory: what was imported and is not taken up yet."""
CHUNKS_MAX = limits.BUNDLE_BYTES_MAX // limits.CHUNK_BYTES + 4096
TUF_FILES_MAX = 256
RECEIPT_PREFIX = b"muster import receipt\n"
"""Before the receipt's bytes when they are signed: the key signs nothing else of this form."""


class DropError(MusterError):
    """The folder is not one that can be imported, or there is no room for it."""


class Receipt(msgspec.Struct, frozen=True):
    """What a device has taken from a folder."""

    device: str
    chunks: int
    bytes: int
    digest: str
    """SHA-256 of the chunks' names, sorted, a line each."""
    tuf: list[str]
    directive: str
    """SHA-256 of the envelope; empty when the folder held none for this device."""
    wall_seconds: float
    clock_quality: str


class SignedReceipt(msgspec.Struct, frozen=True):
    receipt: str
    """JSON of a ``Receipt``, base64."""
    signature: str
    """ECDSA over P-256 and SHA-256, of the prefix and the JSON; base64 of DER."""
    certificate: str
    """The device's, PEM."""


@dataclass(frozen=True)
class Imported:
    receipt: Path
    chunks: int
    bytes: int


def take(source: Path, directory: Path, clock: Clock, free_bytes_min: int) -> Imported:
    """Copy ``source`` for the agent of ``directory``; raises DropError, OSError, IdentityError."""
    who = identity.load(directory / "identity")
    target = directory / DIRECTORY
    if target.exists():
        raise DropError(f"{target}: an earlier import isn't taken up yet: is the agent running?")
    chunk_files = _named(source / "chunks", CHUNKS_MAX, topics.check_sha256)
    tuf_files = _named(source / "tuf", TUF_FILES_MAX, topics.tuf)
    if not chunk_files and not tuf_files:
        raise DropError(f"{source}: holds neither chunks/ nor tuf/: is it an exported folder?")
    size = sum(path.stat().st_size for path in (*chunk_files, *tuf_files))
    if disk_free_bytes(directory) - 2 * size < free_bytes_min:
        raise DropError(
            f"{directory}: {2 * size} bytes are needed beside the {free_bytes_min} kept free"
        )
    part = directory / (DIRECTORY + PART_SUFFIX)
    shutil.rmtree(part, ignore_errors=True)
    for folder in ("chunks", "tuf"):
        make_directory(part / folder)
    for path in chunk_files:
        data = _read(path, limits.MANIFEST_BYTES_MAX)
        if sha256_hex(data) != path.name:
            raise DropError(f"{path}: not what its name says: the copy is damaged, make it anew")
        write_durably(part / "chunks" / path.name, data)
    for path in tuf_files:
        write_durably(part / "tuf" / path.name, _read(path, limits.TUF_METADATA_BYTES_MAX))
    envelope = source / "directives" / f"{who.device}.json"
    directive = _read(envelope, 4 * limits.DIRECTIVE_BYTES_MAX) if envelope.is_file() else b""
    if directive:
        write_durably(part / "directive.json", directive)
    names = sorted(path.name for path in chunk_files)
    receipt = Receipt(
        device=who.device,
        chunks=len(names),
        bytes=size,
        digest=hashlib.sha256("".join(f"{name}\n" for name in names).encode()).hexdigest(),
        tuf=sorted(path.name for path in tuf_files),
        directive=sha256_hex(directive) if directive else "",
        wall_seconds=clock.wall(),
        clock_quality=clock.quality(),
    )
    signed = sign(receipt, who)
    rename_durably(part, target)
    make_directory(source / "receipts")
    place = source / "receipts" / f"{who.device}-{receipt.digest[:12]}.json"
    write_durably(place, msgspec.json.encode(signed))
    return Imported(place, len(names), size)


def sign(receipt: Receipt, who: identity.Identity) -> SignedReceipt:
    data = msgspec.json.encode(receipt, order="deterministic")
    key = identity.read_key(who.key)
    signature = key.sign(RECEIPT_PREFIX + data)
    return SignedReceipt(
        base64.b64encode(data).decode(),
        base64.b64encode(signature).decode(),
        who.cert.read_text(encoding="ascii"),
    )


class Drop:
    """An imported folder that the agent takes up, a few chunks at a time."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.tuf = {path.name: path.read_bytes() for path in (directory / "tuf").iterdir()}
        envelope = directory / "directive.json"
        self.directive = envelope.read_bytes() if envelope.is_file() else b""

    @classmethod
    def find(cls, directory: Path) -> "Drop | None":
        """What waits in an agent's directory, or None. Raises OSError."""
        place = directory / DIRECTORY
        return cls(place) if place.is_dir() else None

    def chunks(self) -> Iterator[tuple[str, bytes]]:
        """Names and bytes, hashed again; what has rotted since the import is left out."""
        for path in sorted((self._directory / "chunks").iterdir()):
            data = path.read_bytes()
            if sha256_hex(data) == path.name:
                yield path.name, data

    def remove(self) -> None:
        """All of it is in the store, or refused."""
        leaving = self._directory.with_name(f"{DIRECTORY}.old{PART_SUFFIX}")
        shutil.rmtree(leaving, ignore_errors=True)
        self._directory.rename(leaving)
        shutil.rmtree(leaving)


def _named(directory: Path, most: int, check: Callable[[str], str]) -> list[Path]:
    """The regular files of a folder whose names are what they should be; others are refused."""
    if not directory.is_dir():
        return []
    found: list[Path] = []
    for path in sorted(directory.iterdir()):
        try:
            check(path.name)
        except ProtocolError as error:
            raise DropError(f"{path}: {error}") from None
        if path.is_symlink() or not path.is_file():
            raise DropError(f"{path}: not a regular file")
        found.append(path)
        if len(found) > most:
            raise DropError(f"{directory}: more than {most} files")
    return found


def _read(path: Path, most: int) -> bytes:
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise DropError(f"{path}: larger than the {most} bytes that such a file may have")
    return data
