"""The keys of the catalogue's roles: public halves for all, signers for those kept here.

``keyring.json`` names for each role its keys, how many of them must sign, and for a private key at
hand the URI under which a signer finds it. File URIs are relative to the keyring; others name keys
in hardware (see ``hardware``). Which keys are *in force* is not said here but signed in the
catalogue: this is what the hub proposes and can sign with.
"""

import json
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from securesystemslib.signer import CryptoSigner, Signer, SSlibKey

from muster_hub.errors import ConfigError
from muster_hub.signing import hardware
from muster_hub.storage.files import make_private_directory, write_durably

Role = Literal["root", "targets", "release", "snapshot", "timestamp", "director"]
OFFLINE: tuple[Role, ...] = ("root", "targets", "release")
"""Keys that decide what may ever run: their place is off the hub."""
ONLINE: tuple[Role, ...] = ("snapshot", "timestamp", "director")

PASSWORD_VARIABLE = "MUSTER_KEY_PASSWORD"  # noqa: S105 - the name of a variable
FILE = "keyring.json"
NAMES = "names.json"
_FILE_SCHEME = "file2:"
KEYS_PER_ROLE_MAX = 16


@dataclass(frozen=True)
class KeyGroup:
    """Public keys of which ``threshold`` must sign."""

    keys: tuple[SSlibKey, ...]
    threshold: int

    def __post_init__(self) -> None:
        ids = {key.keyid for key in self.keys}
        if len(ids) != len(self.keys):
            raise ConfigError("a key is given twice: each counts once")
        if not 1 <= self.threshold <= len(ids) <= KEYS_PER_ROLE_MAX:
            raise ConfigError(
                f"{self.threshold} of {len(ids)} keys can't be asked for: use 1 to "
                f"{KEYS_PER_ROLE_MAX} keys and a threshold not above their number"
            )

    @property
    def ids(self) -> list[str]:
        """TUF's ids of its keys."""
        return [key.keyid for key in self.keys]


def group(keys: Iterable[SSlibKey], threshold: int | None = None) -> KeyGroup:
    """Without a threshold more than half of the keys must sign: 1 of 1, 2 of 2, 2 of 3."""
    listed = tuple(keys)
    return KeyGroup(listed, len(listed) // 2 + 1 if threshold is None else threshold)


PrivateKey = Ed25519PrivateKey | ec.EllipticCurvePrivateKey
PublicKey = Ed25519PublicKey | ec.EllipticCurvePublicKey


def generate(path: Path, password: bytes | None = None) -> SSlibKey:
    """Write a new Ed25519 key to ``path`` (PEM, 0600) and its public half to ``path.pub``.

    With a password the private key is encrypted (PKCS#8).
    """
    return SSlibKey.from_crypto(_write_new(path, Ed25519PrivateKey.generate(), password))


def generate_model_key(path: Path, password: bytes | None = None) -> None:
    """As ``generate``, but on P-256 and for ``model.sig``: the format knows no Ed25519."""
    _write_new(path, ec.generate_private_key(ec.SECP256R1()), password)


def _write_new(path: Path, private: PrivateKey, password: bytes | None) -> PublicKey:
    if path.exists():
        raise ConfigError(f"{path} exists: a key is never overwritten")
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        if not password:
            raise ConfigError("an empty password protects nothing")
        encryption = serialization.BestAvailableEncryption(password)
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )
    public = private.public_key()
    write_durably(path, pem, mode=0o600)
    write_durably(path.with_name(path.name + ".pub"), public_pem(public))
    return public


def load_signer(path: Path, password: bytes | None = None) -> Signer:
    """A signer for a key file made by ``generate``; raises ConfigError."""
    return _signer(path, load_public(path.with_name(path.name + ".pub")), password)


def is_encrypted(path: Path) -> bool:
    """Whether a private key file asks for a password; raises ConfigError."""
    try:
        return b"ENCRYPTED" in path.read_bytes()[:64]
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None


def load_public(path: Path) -> SSlibKey:
    """Read an Ed25519 or, for keys in hardware, P-256 public key in PEM; raises ConfigError."""
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except ValueError:
        raise ConfigError(f"{path} is not a public key in PEM (expected the .pub file)") from None
    if isinstance(key, Ed25519PublicKey):
        return SSlibKey.from_crypto(key)
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return SSlibKey.from_crypto(key, scheme="ecdsa-sha2-nistp256")
    raise ConfigError(f"{path} is not an Ed25519 or P-256 key: make one with `muster-hub keygen`")


class Keyring:
    """The hub's knowledge of keys; what another process writes to ``keyring.json`` counts, too."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / FILE
        self._stamp = (0, 0)
        self._entries: dict[str, dict[str, Any]] = {}
        self._load()

    def group(self, role: Role) -> KeyGroup:
        """What the hub proposes for a role: of ``release``, for each new model."""
        key_group = self._load()[role]
        return KeyGroup(tuple(_public(key) for key in key_group["keys"]), key_group["threshold"])

    def signers(self, keyids: Collection[str]) -> list[Signer]:
        """A signer for each of these keys whose private half is at hand."""
        found: dict[str, Signer] = {}
        for key_group in self._load().values():
            for key in key_group["keys"]:
                if key["keyid"] in keyids and key["uri"] is not None:
                    found.setdefault(key["keyid"], self._open(key))
        return list(found.values())

    def signer(self, role: Role) -> Signer | None:
        """A signer of the role's own keys; None when they are kept elsewhere."""
        return next(iter(self.signers(self.group(role).ids)), None)

    def online_signer(self, role: Role) -> Signer:
        """The signer of a role whose key must be here; raises ConfigError when it isn't."""
        signer = self.signer(role)
        if signer is None:
            raise ConfigError(f"{self._path}: the {role} key must be on the hub")
        return signer

    def put_group(self, role: Role, keys: KeyGroup) -> None:
        """Have the hub propose these keys from now on; private halves at hand stay known."""
        entries = dict(self._load())
        held = {
            key["keyid"]: key["uri"] for key_group in entries.values() for key in key_group["keys"]
        }
        entries[role] = _entry(keys, {keyid: held.get(keyid) for keyid in keys.ids})
        self._save(entries)

    def new_online(self, role: Role) -> SSlibKey:
        """Make another key for an online role, behind the one in use."""
        entries = dict(self._load())
        number = 2
        while (self._directory / f"{role}-{number}.pem").exists():
            number += 1
        public = generate(self._directory / f"{role}-{number}.pem")
        key = {
            "keyid": public.keyid,
            "key": public.to_dict(),
            "uri": f"{_FILE_SCHEME}{role}-{number}.pem",
        }
        entries[role] = entries[role] | {"keys": [*entries[role]["keys"], key]}
        self._save(entries)
        return public

    def adopt_online(self, role: Role, uri: str, public: SSlibKey) -> SSlibKey:
        """Take a key in hardware for an online role, behind the one in use."""
        entries = dict(self._load())
        if any(key["keyid"] == public.keyid for key in entries[role]["keys"]):
            raise ConfigError(f"{uri} is a key of the {role} role already")
        key = {"keyid": public.keyid, "key": public.to_dict(), "uri": uri}
        entries[role] = entries[role] | {"keys": [*entries[role]["keys"], key]}
        self._save(entries)
        return public

    def drop_online(self, role: Role, in_force: Collection[str]) -> list[str]:
        """Forget and delete keys of an online role that are no longer in force."""
        entries = dict(self._load())
        gone = [key for key in entries[role]["keys"] if key["keyid"] not in in_force]
        if not gone:
            return []
        kept = [key for key in entries[role]["keys"] if key["keyid"] in in_force]
        entries[role] = entries[role] | {"keys": kept}
        self._save(entries)
        for key in gone:
            if key["uri"] and key["uri"].startswith(_FILE_SCHEME):
                path = self._directory / key["uri"].removeprefix(_FILE_SCHEME)
                path.unlink(missing_ok=True)
                path.with_name(path.name + ".pub").unlink(missing_ok=True)
        return [key["keyid"] for key in gone]

    def names(self) -> dict[str, str]:
        """What people call keys, by key id: shown, never trusted."""
        try:
            found = json.loads((self._directory / NAMES).read_bytes())
        except (OSError, ValueError):
            return {}
        return {str(key): str(value) for key, value in found.items()}

    def put_names(self, names: Mapping[str, str]) -> None:
        """Remember what people call their keys."""
        write_durably(
            self._directory / NAMES, json.dumps(self.names() | dict(names), indent=2).encode()
        )

    def _open(self, key: Mapping[str, Any]) -> Signer:
        uri, public = key["uri"], _public(key)
        if uri.startswith(_FILE_SCHEME):
            return _signer(self._directory / uri.removeprefix(_FILE_SCHEME), public, None)
        return hardware.open_signer(uri, public, _pin)

    def stamp(self) -> tuple[int, int]:
        """Another one after every change of the keys held here."""
        self._load()
        return self._stamp

    def _load(self) -> dict[str, dict[str, Any]]:
        try:
            status = self._path.stat()
            stamp = (status.st_mtime_ns, status.st_ino)
            if stamp != self._stamp:
                self._entries = json.loads(self._path.read_bytes())
                self._stamp = stamp
        except FileNotFoundError:
            raise ConfigError(f"{self._path} is missing: run `muster-hub init` first") from None
        missing = set(get_args(Role)) - set(self._entries)
        if missing:
            raise ConfigError(f"{self._path} names no key for {', '.join(sorted(missing))}")
        return self._entries

    def _save(self, entries: Mapping[str, Any]) -> None:
        write_durably(self._path, json.dumps(entries, indent=2).encode(), mode=0o600)


def create_keyring(
    directory: Path, offline_public: Mapping[Role, SSlibKey | KeyGroup] | None
) -> Keyring:
    """Make the online keys, and the offline ones too when ``offline_public`` is None.

    ``offline_public`` gives the public halves of root, targets and release keys made elsewhere.
    """
    make_private_directory(directory)
    entries: dict[str, dict[str, Any]] = {}
    for role in ONLINE:
        public = generate(directory / f"{role}.pem")
        entries[role] = _entry(group([public]), {public.keyid: f"{_FILE_SCHEME}{role}.pem"})
    for role in OFFLINE:
        if offline_public is not None:
            given = offline_public[role]
            entries[role] = _entry(given if isinstance(given, KeyGroup) else group([given]), {})
        else:
            make_private_directory(directory / "offline")
            public = generate(directory / "offline" / f"{role}.pem")
            uri = f"{_FILE_SCHEME}offline/{role}.pem"
            entries[role] = _entry(group([public]), {public.keyid: uri})
    write_durably(directory / FILE, json.dumps(entries, indent=2).encode(), mode=0o600)
    return Keyring(directory)


def _pin() -> str:
    """Of a token that the hub signs with."""
    pin = os.environ.get(PASSWORD_VARIABLE)
    if not pin:
        raise ConfigError(f"its PIN is not known: set {PASSWORD_VARIABLE} for the hub")
    return pin


def _entry(keys: KeyGroup, uris: Mapping[str, str | None]) -> dict[str, Any]:
    return {
        "threshold": keys.threshold,
        "keys": [
            {"keyid": key.keyid, "key": key.to_dict(), "uri": uris.get(key.keyid)}
            for key in keys.keys
        ],
    }


def _public(key_group: Mapping[str, Any]) -> SSlibKey:
    key = SSlibKey.from_dict(key_group["keyid"], json.loads(json.dumps(key_group["key"])))
    if not isinstance(key, SSlibKey):
        raise ConfigError(f"{FILE}: {key_group['keyid'][:12]} is a key of an unknown type")
    return key


def load_private(path: Path, password: bytes | None) -> PrivateKey:
    """Read a private key in PEM; raises ConfigError that tells a wrong password from damage."""
    try:
        private = serialization.load_pem_private_key(path.read_bytes(), password)
    except OSError as error:
        raise ConfigError(f"{path}: {os.strerror(error.errno or 0)}") from None
    except TypeError:
        needed = "is encrypted: give its password" if password is None else "has no password"
        raise ConfigError(f"{path} {needed}") from None
    except ValueError as error:
        if password is not None:
            raise ConfigError(f"{path}: the password is wrong, or the file is damaged") from None
        raise ConfigError(f"{path}: not the private key it should be: {error}") from None
    if not isinstance(private, Ed25519PrivateKey | ec.EllipticCurvePrivateKey):
        raise ConfigError(f"{path}: not the private key it should be: not Ed25519 or P-256")
    return private


def _signer(path: Path, public: SSlibKey, password: bytes | None) -> Signer:
    private = load_private(path, password)
    if not isinstance(private, Ed25519PrivateKey):
        raise ConfigError(f"{path}: not the private key it should be: not Ed25519")
    try:
        return CryptoSigner(private, public)
    except Exception as error:
        raise ConfigError(f"{path}: not the private key it should be: {error}") from None


def public_pem(key: PublicKey) -> bytes:
    """The public key in PEM."""
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
