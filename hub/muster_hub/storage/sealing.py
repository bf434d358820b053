"""Secrets that the hub itself must read again: in the database sealed, the key beside it in a file.

Who reads the database, or a dump of it, has none of them. Each is bound to the name it was sealed
for, so that one row's secret can't be put in another's place.
"""

import hashlib
import hmac
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from muster_hub.errors import ConfigError
from muster_hub.storage.files import write_durably

KEY_FILE = "sealing.key"
KEY_BYTES = 32
NONCE_BYTES = 12


class Sealing:
    """AES-256-GCM under ``<directory>/sealing.key``, which is made when it is missing.

    Raises ConfigError when the file is no key.
    """

    def __init__(self, directory: Path) -> None:
        path = directory / KEY_FILE
        if not path.exists():
            write_durably(path, secrets.token_bytes(KEY_BYTES), mode=0o600)
        key = path.read_bytes()
        if len(key) != KEY_BYTES:
            raise ConfigError(f"{path} holds {len(key)} bytes, not a key of {KEY_BYTES}")
        self.directory = directory
        self._cipher = AESGCM(key)
        self._mac_key = hmac.digest(key, b"muster: codes of authenticity", hashlib.sha256)

    def seal(self, name: str, secret: bytes) -> bytes:
        """Encrypt a secret so that it opens under this name only."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, secret, name.encode())

    def code(self, name: str, data: bytes) -> str:
        """HMAC-SHA256 in hexadecimal, over ``data`` as what ``name`` says, by a key of its own."""
        return hmac.new(self._mac_key, name.encode() + b"\0" + data, hashlib.sha256).hexdigest()

    def open(self, name: str, sealed: bytes) -> bytes:
        """What was sealed for ``name``; raises ConfigError when the key is another one."""
        try:
            return self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], name.encode())
        except (InvalidTag, ValueError):
            raise ConfigError(
                f"the secret of {name} was sealed with another keys/{KEY_FILE}: "
                "restore that file, or have a new secret made"
            ) from None
