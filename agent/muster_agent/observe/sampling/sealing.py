"""The key of a slot's policy, and rows sealed with it. The key dies with the policy.

It lies beside the database, readable by the agent's user only. A copy of the database alone holds
no raw data, and what a flash disk keeps of deleted rows can't be read once the key is gone. A disk
that may be stolen as a whole needs encryption of its own.
"""

import contextlib
import hmac
import secrets
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import Struct

from muster_agent.storage.files import make_directory, sync_directory, write_durably

KEY_BYTES = 32
NONCE_BYTES = 12
CODE_BYTES = 12
_SUFFIX = ".key"


class _Sealed(Struct, frozen=True, array_like=True):
    slot: str
    policy: str
    nonce: bytes
    data: bytes


class SampleKeys:
    """``<directory>/<slot>.key``, AES-256-GCM. Methods that write raise OSError."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._keys: dict[str, bytes] = {}
        self._destroyed: set[str] = set()
        """Slots whose key counts as gone, though the disk may not have let it go yet."""

    def make(self, slot: str) -> None:
        """A new key for a slot; what was sealed with the one before is lost."""
        make_directory(self._directory, mode=0o700)
        key = secrets.token_bytes(KEY_BYTES)
        write_durably(self._path(slot), key, mode=0o600)
        self._keys[slot] = key
        self._destroyed.discard(slot)

    def has(self, slot: str) -> bool:
        """Whether the slot has a key."""
        return self._key(slot) is not None

    def destroy(self, slot: str) -> None:
        """Nothing that was sealed for this slot can be opened any more."""
        self._keys.pop(slot, None)
        self._destroyed.add(slot)
        path = self._path(slot)
        if path.exists():
            with contextlib.suppress(OSError), path.open("r+b") as file:
                file.write(bytes(KEY_BYTES))
            path.unlink()
            sync_directory(self._directory)

    def slots(self) -> set[str]:
        """Those that have a key."""
        return {path.stem for path in self._directory.glob(f"*{_SUFFIX}")}

    def seal(self, slot: str, policy: str, data: bytes) -> bytes:
        """Raises KeyError without a key."""
        key = self._key(slot)
        if key is None:
            raise KeyError(slot)
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = AESGCM(key).encrypt(nonce, data, policy.encode())
        return msgspec.msgpack.encode(_Sealed(slot, policy, nonce, sealed))

    def open(self, sealed: bytes) -> bytes:
        """What was sealed; empty when its key is gone or it was altered."""
        try:
            found = msgspec.msgpack.decode(sealed, type=_Sealed)
            key = self._key(found.slot)
            if key is None:
                return b""
            return AESGCM(key).decrypt(found.nonce, found.data, found.policy.encode())
        except (msgspec.DecodeError, InvalidTag, ValueError):
            return b""

    def code(self, slot: str, name: str, value: bytes) -> str:
        """A code of a value that tells equal from different within this policy on this device."""
        key = self._key(slot)
        if key is None:
            raise KeyError(slot)
        message = name.encode() + b"\0" + value
        return hmac.new(key, message, "sha256").digest()[:CODE_BYTES].hex()

    def _key(self, slot: str) -> bytes | None:
        if slot not in self._keys and slot not in self._destroyed:
            with contextlib.suppress(OSError):
                key = self._path(slot).read_bytes()
                if len(key) == KEY_BYTES:
                    self._keys[slot] = key
        return self._keys.get(slot)

    def _path(self, slot: str) -> Path:
        return self._directory / f"{slot}{_SUFFIX}"
