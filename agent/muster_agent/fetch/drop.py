"""``muster-agent import DIR``: an update carried in on a stick, with a signed receipt left on it.

DIR holds what a broker would retain: ``tuf/<file>``, ``chunks/<sha256>`` (manifests and chunk
indexes are among them) and ``directives/<device>.json``, an envelope. It is copied whole and handed
to the agent in one rename; there it passes the same signatures and hashes as anything from a link.
The receipt is left only when the copy is safe on this device's disk. The folder is in somebody
else's hands: only ``stick`` touches it.
"""

import base64
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import msgspec

from muster_agent.base.clock import Clock
from muster_agent.fetch.stick import DropError, Folder
from muster_agent.identity import identity
from muster_agent.storage.content import disk_free_bytes
from muster_agent.storage.files import PART_SUFFIX, make_directory, rename_durably, write_durably
from muster_protocol.wire import limits, topics
from muster_protocol.wire.chunks import sha256_hex

__all__ = ["Drop", "DropError", "Imported", "Receipt", "SignedReceipt", "sign", "take"]

DIRECTORY = "drop"
"""Under the agent's directory: what was imported and is not taken up yet."""
CHUNKS_MAX = limits.BUNDLE_BYTES_MAX // limits.CHUNK_BYTES + 4096
CHUNK_FILE_BYTES_MAX = limits.MANIFEST_BYTES_MAX
"""Manifests and chunk indexes are among the chunks, and may be larger than one."""
DIRECTIVE_FILE_BYTES_MAX = 4 * limits.DIRECTIVE_BYTES_MAX
TUF_FILES_MAX = 256
RECEIPT_PREFIX = b"muster import receipt\n"
"""Before the receipt's bytes when they are signed: the key signs nothing else of this form."""
DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
"""What was imported is for the agent alone."""


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
    """A receipt with the device's signature and certificate, for whoever brought the folder."""

    receipt: str
    """JSON of a ``Receipt``, base64."""
    signature: str
    """ECDSA over P-256 and SHA-256, of the prefix and the JSON; base64 of DER."""
    certificate: str
    """The device's, PEM."""


@dataclass(frozen=True)
class Imported:
    """What an import took over, and where its receipt lies."""

    receipt: Path
    chunks: int
    bytes: int


def take(source: Path, directory: Path, clock: Clock, free_bytes_min: int) -> Imported:
    """Copy ``source`` for the agent of ``directory``; raises DropError, OSError, IdentityError."""
    who = identity.load(directory / "identity")
    target = directory / DIRECTORY
    if target.exists():
        raise DropError(f"{target}: an earlier import isn't taken up yet: is the agent running?")
    with Folder.open(source) as folder, _Files(folder) as found:
        chunks = found.of("chunks", CHUNKS_MAX, CHUNK_FILE_BYTES_MAX, topics.check_sha256)
        tuf = found.of("tuf", TUF_FILES_MAX, limits.TUF_METADATA_BYTES_MAX, topics.tuf)
        if not chunks and not tuf:
            raise DropError(f"{source}: holds neither chunks/ nor tuf/: is it an exported folder?")
        size = sum(chunks.values()) + sum(tuf.values())
        if disk_free_bytes(directory) - 2 * size < free_bytes_min:
            raise DropError(
                f"{directory}: {2 * size} bytes are needed beside the {free_bytes_min} kept free"
            )
        found.check_receipts()
        part = directory / (DIRECTORY + PART_SUFFIX)
        directive = found.copy(part, chunks, tuf, who.device)
        receipt = Receipt(
            device=who.device,
            chunks=len(chunks),
            bytes=size,
            digest=hashlib.sha256("".join(f"{name}\n" for name in chunks).encode()).hexdigest(),
            tuf=list(tuf),
            directive=sha256_hex(directive) if directive else "",
            wall_seconds=clock.wall(),
            clock_quality=clock.quality(),
        )
        signed = sign(receipt, who)
        _give_to_owner(part, directory)
        rename_durably(part, target)
        name = f"{who.device}-{receipt.digest[:12]}.json"
        found.leave(name, msgspec.json.encode(signed))
    return Imported(source / "receipts" / name, len(chunks), size)


def sign(receipt: Receipt, who: identity.Identity) -> SignedReceipt:
    """Sign a receipt with the device's key; raises IdentityError."""
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


class _Files:
    """The folders of an export, each opened once."""

    def __init__(self, source: Folder) -> None:
        self._source = source
        self._open = ExitStack()
        self._folders: dict[str, Folder] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._open.close()

    def of(
        self, folder: str, most: int, bytes_max: int, check: Callable[[str], str]
    ) -> dict[str, int]:
        """Names and sizes in bytes of a folder's files, sorted; empty when there is no folder."""
        found = self._enter(folder)
        if found is None:
            return {}
        return {name: found.size(name, bytes_max) for name in found.names(most, check)}

    def copy(self, part: Path, chunks: Iterable[str], tuf: Iterable[str], device: str) -> bytes:
        """Fill ``part`` anew, readable by its owner alone; the directive, empty when none came."""
        shutil.rmtree(part, ignore_errors=True)
        for place in (part, part / "chunks", part / "tuf"):
            make_directory(place, mode=DIRECTORY_MODE)
        for name in chunks:
            data = self._folders["chunks"].read(name, CHUNK_FILE_BYTES_MAX)
            if sha256_hex(data) != name:
                place = self._folders["chunks"].where / name
                raise DropError(
                    f"{place}: not what its name says: the copy is damaged, make it anew"
                )
            write_durably(part / "chunks" / name, data, mode=FILE_MODE)
        for name in tuf:
            data = self._folders["tuf"].read(name, limits.TUF_METADATA_BYTES_MAX)
            write_durably(part / "tuf" / name, data, mode=FILE_MODE)
        directive = self._directive(device)
        if directive:
            write_durably(part / "directive.json", directive, mode=FILE_MODE)
        return directive

    def _directive(self, device: str) -> bytes:
        found, name = self._enter("directives"), f"{device}.json"
        if found is None or not found.has(name):
            return b""
        return found.read(name, DIRECTIVE_FILE_BYTES_MAX)

    def check_receipts(self) -> None:
        """Raise DropError when a receipt could not be left, before anything is handed over."""
        self._enter("receipts")

    def leave(self, name: str, data: bytes) -> None:
        found = self._enter("receipts", make=True)
        assert found is not None
        found.write(name, data)

    def _enter(self, name: str, *, make: bool = False) -> Folder | None:
        found = self._source.folder(name, make=make)
        if found is not None:
            self._folders[name] = self._open.enter_context(found)
        return found


def _give_to_owner(part: Path, directory: Path) -> None:
    """Imported by root: whoever owns the agent's directory must be able to take it up."""
    owner = directory.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        return
    for path in (part, *part.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
