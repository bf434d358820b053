"""The keys of the catalogue's roles: public halves for all, signers for those kept here.

``keyring.json`` names for each role its public key and, when the private one is at hand, the URI
under which securesystemslib's signers find it. File URIs are relative to the keyring.
"""

import json
from pathlib import Path
from typing import Any, Literal, get_args

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from securesystemslib.signer import CryptoSigner, Signer, SSlibKey

from muster_hub.errors import ConfigError
from muster_hub.files import make_private_directory, write_durably

Role = Literal["root", "targets", "release", "snapshot", "timestamp", "director"]
OFFLINE: tuple[Role, ...] = ("root", "targets", "release")
"""Keys that decide what may ever run: their place is off the hub."""
ONLINE: tuple[Role, ...] = ("snapshot", "timestamp", "director")

FILE = "keyring.json"
_FILE_SCHEME = "file2:"


def generate(path: Path) -> SSlibKey:
    """Write a new Ed25519 key to ``path`` (PEM, 0600) and its public half to ``path.pub``."""
    if path.exists():
        raise ConfigError(f"{path} exists: a key is never overwritten")
    signer = CryptoSigner.generate_ed25519()
    write_durably(path, signer.private_bytes, mode=0o600)
    write_durably(path.with_name(path.name + ".pub"), _public_pem(signer.public_key))
    return signer.public_key


def load_signer(path: Path) -> Signer:
    """A signer for a key file made by ``generate``; raises ConfigError."""
    public = load_public(path.with_name(path.name + ".pub"))
    return _signer(f"{_FILE_SCHEME}{path}", public, path)


def load_public(path: Path) -> SSlibKey:
    """Read an Ed25519 public key in PEM; raises ConfigError."""
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except ValueError:
        raise ConfigError(f"{path} is not a public key in PEM (expected the .pub file)") from None
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(f"{path} is not an Ed25519 key: make one with `muster-hub keygen`")
    return SSlibKey.from_crypto(key)


class Keyring:
    """The hub's knowledge of keys, read once from ``keyring.json``."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        path = directory / FILE
        try:
            self._entries: dict[str, dict[str, Any]] = json.loads(path.read_bytes())
        except FileNotFoundError:
            raise ConfigError(f"{path} is missing: run `muster-hub init` first") from None
        missing = set(get_args(Role)) - set(self._entries)
        if missing:
            raise ConfigError(f"{path} names no key for {', '.join(sorted(missing))}")

    def public(self, role: Role) -> SSlibKey:
        entry = self._entries[role]
        key = SSlibKey.from_dict(entry["keyid"], dict(entry["key"]))
        if not isinstance(key, SSlibKey):
            raise ConfigError(f"{self._directory / FILE}: {role} has a key of an unknown type")
        return key

    def signer(self, role: Role) -> Signer | None:
        """The signer of a role; None when its key is kept elsewhere."""
        uri = self._entries[role]["uri"]
        if uri is None:
            return None
        if uri.startswith(_FILE_SCHEME):
            path = self._directory / uri.removeprefix(_FILE_SCHEME)
            return _signer(f"{_FILE_SCHEME}{path}", self.public(role), path)
        return Signer.from_priv_key_uri(uri, self.public(role))

    def online_signer(self, role: Role) -> Signer:
        """The signer of a role whose key must be here; raises ConfigError when it isn't."""
        signer = self.signer(role)
        if signer is None:
            raise ConfigError(f"{self._directory / FILE}: the {role} key must be on the hub")
        return signer


def create_keyring(directory: Path, offline_public: dict[Role, SSlibKey] | None) -> Keyring:
    """Make the online keys, and the offline ones too when ``offline_public`` is None.

    ``offline_public`` gives the public halves of root, targets and release keys made elsewhere.
    """
    make_private_directory(directory)
    entries: dict[str, dict[str, Any]] = {}
    for role in ONLINE:
        public = generate(directory / f"{role}.pem")
        entries[role] = _entry(public, f"{_FILE_SCHEME}{role}.pem")
    for role in OFFLINE:
        if offline_public is not None:
            entries[role] = _entry(offline_public[role], None)
        else:
            make_private_directory(directory / "offline")
            public = generate(directory / "offline" / f"{role}.pem")
            entries[role] = _entry(public, f"{_FILE_SCHEME}offline/{role}.pem")
    write_durably(directory / FILE, json.dumps(entries, indent=2).encode(), mode=0o600)
    return Keyring(directory)


def _entry(public: SSlibKey, uri: str | None) -> dict[str, Any]:
    return {"keyid": public.keyid, "key": public.to_dict(), "uri": uri}


def _signer(uri: str, public: SSlibKey, path: Path) -> Signer:
    try:
        return Signer.from_priv_key_uri(uri, public)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{path}: not the private key it should be: {error}") from None


def _public_pem(key: SSlibKey) -> bytes:
    raw = bytes.fromhex(str(key.keyval["public"]))
    return Ed25519PublicKey.from_public_bytes(raw).public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
