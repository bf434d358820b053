"""The roles of the catalogue as values: making, parsing, signing and verifying. No files here."""

import datetime as dt
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import Key, Signer
from tuf.api.exceptions import RepositoryError, UnsignedMetadataError
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Signed,
    Snapshot,
    Targets,
    Timestamp,
)
from tuf.api.serialization import DeserializationError

from muster_hub.errors import CatalogueError
from muster_hub.signing.keys import KeyGroup, Keyring
from muster_hub.signing.keys import Role as KeyRole
from muster_protocol.wire import contact as wire_contact
from muster_protocol.wire import directive, limits, manifest
from muster_protocol.wire.contact import Approved
from muster_protocol.wire.errors import MusterError
from muster_protocol.wire.metadata import CONTACT_FIELD, DIRECTOR_EPOCH_FIELD, ISSUED_FIELD

AnyMetadata = Metadata[Any]
Kind = TypeVar("Kind", Root, Timestamp, Snapshot, Targets)

DAY_SECONDS: Final = 86_400


@dataclass(frozen=True)
class Lifetime:
    """How long a role's metadata stays good, and when before its end it is signed anew."""

    days: int
    renew_days: int

    def expires(self, now: float) -> dt.datetime:
        """When metadata signed at ``now`` expire."""
        return _time(now) + dt.timedelta(days=self.days)

    def due(self, signed: Signed, now: float) -> bool:
        """Whether they should be signed again by ``now``."""
        return _time(now) + dt.timedelta(days=self.renew_days) >= signed.expires


OFFLINE_LIFETIME: Final = Lifetime(days=730, renew_days=180)
LIFETIMES: Final = {
    "root": Lifetime(days=3650, renew_days=365),
    "snapshot": Lifetime(days=30, renew_days=20),
    "timestamp": Lifetime(days=7, renew_days=5),
}
"""A device that can't reach a fresh timestamp for a week starts no new installation."""


def lifetime(role: str) -> Lifetime:
    """How long a role's signatures are good."""
    return LIFETIMES.get(role, OFFLINE_LIFETIME)


def key_role(role: str) -> KeyRole:
    """Whose key signs a metadata role: all model roles are signed by the release key."""
    if role == "root":
        return "root"
    if role == "targets":
        return "targets"
    if role == "snapshot":
        return "snapshot"
    if role == "timestamp":
        return "timestamp"
    return "release"


def parse_any(data: bytes, name: str) -> AnyMetadata:
    """Read metadata of any kind; raises CatalogueError naming the file."""
    try:
        return Metadata.from_bytes(data)
    except (DeserializationError, ValueError) as error:
        raise CatalogueError(f"{name}: not TUF metadata: {error}") from None


def parse(kind: type[Kind], data: bytes, name: str) -> Metadata[Kind]:
    """Read metadata of one kind; raises CatalogueError naming the file."""
    metadata = parse_any(data, name)
    if not isinstance(metadata.signed, kind):
        raise CatalogueError(f"{name}: expected a {kind.type} role, got {metadata.signed.type}")
    return metadata


def serialise(role: str, metadata: AnyMetadata) -> bytes:
    """The published bytes; raises CatalogueError when a broker could not carry them."""
    data = metadata.to_bytes()
    if len(data) > limits.TUF_METADATA_BYTES_MAX:
        raise CatalogueError(
            f"the {role} role has grown to {len(data)} bytes, the limit is "
            f"{limits.TUF_METADATA_BYTES_MAX}: retire old versions"
        )
    return data


def stamp(role: str, signed: Signed, version: int, now: float) -> None:
    """Give the role its next version, its issue time and its expiry."""
    signed.version = version
    signed.expires = lifetime(role).expires(now)
    signed.unrecognized_fields[ISSUED_FIELD] = int(now)


def add_signature(data: bytes, signer: Signer) -> bytes:
    """Metadata with one signature more; raises CatalogueError."""
    metadata = parse_any(data, "the signing request")
    sign(metadata, signer)
    return metadata.to_bytes()


def sign(metadata: AnyMetadata, signer: Signer) -> None:
    """Add a signature; raises what the signer objects to, or CatalogueError."""
    try:
        metadata.sign(signer, append=True)
    except UnsignedMetadataError as error:
        if isinstance(error.__cause__, MusterError):
            raise error.__cause__ from None
        raise CatalogueError(str(error)) from None


def describe(data: bytes) -> str:
    """What one approves by signing this metadata, in a few words."""
    return describe_signed(parse_any(data, "the signing request").signed)


def describe_signed(signed: Signed) -> str:
    """What metadata say, for whoever is about to sign them."""
    what = f"{signed.type} version {signed.version}, good until {signed.expires:%Y-%m-%d}"
    if isinstance(signed, Root):
        named = [
            f"{name} by {role.threshold} of {_short(role.keyids)}"
            for name, role in signed.roles.items()
        ]
        return "; ".join([what, *named])
    if isinstance(signed, Targets):
        named = [
            f"{path} {target.hashes['sha256'][:12]}" for path, target in signed.targets.items()
        ]
        delegated = (signed.delegations and signed.delegations.roles) or {}
        if not named and not delegated:
            named = ["no version may be installed any more"]
        if DIRECTOR_EPOCH_FIELD in signed.unrecognized_fields:
            named.append(f"director epoch {signed.unrecognized_fields[DIRECTOR_EPOCH_FIELD]}")
        if (sent := contact(signed)) is not None:
            named.append(f"devices find {sent}")
        named += [
            f"delegates {name} to {role.threshold} of {_short(role.keyids)}"
            for name, role in delegated.items()
        ]
        return "; ".join([what, *named])
    return what


def _short(keyids: list[str]) -> str:
    return ", ".join(keyid[:8] for keyid in keyids)


def verified(delegator: Root | Targets, role: str, metadata: AnyMetadata) -> bool:
    """Whether enough of the delegator's keys for ``role`` signed the metadata."""
    try:
        delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    except (RepositoryError, VerificationError, ValueError):
        return False
    return True


@dataclass(frozen=True)
class Signatures:
    """Who has signed a waiting role, and who may: key ids. ``threshold`` of them are needed.

    A new root waits for two groups: the keys in force and its own.
    """

    version: int
    threshold: int
    signed: tuple[str, ...]
    unsigned: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """As many keys have signed as must."""
        return len(self.signed) >= self.threshold


@dataclass(frozen=True)
class RoleStanding:
    """A published role: who may sign it, and until when it is good (seconds since 1970)."""

    version: int
    expires: float
    keyids: tuple[str, ...]
    threshold: int


def standing(delegator: Root | Targets, role: str, signed: Signed) -> RoleStanding:
    """``signed`` is the role's own; the director has none and is good as long as its delegator."""
    return RoleStanding(
        signed.version,
        signed.expires.timestamp(),
        tuple(keyids(delegator, role)),
        threshold(delegator, role),
    )


def threshold(delegator: Root | Targets, role: str) -> int:
    """How many keys must sign a role that the delegator names."""
    if isinstance(delegator, Root):
        return delegator.roles[role].threshold
    return (delegations_of(delegator).roles or {})[role].threshold


def signatures(delegator: Root | Targets, role: str, metadata: AnyMetadata) -> Signatures:
    """Who of a role's keys has signed, and how many must."""
    result = delegator.get_verification_result(role, metadata.signed_bytes, metadata.signatures)
    return Signatures(
        metadata.signed.version,
        result.threshold,
        tuple(sorted(result.signed)),
        tuple(sorted(result.unsigned)),
    )


def keyids(delegator: Root | Targets, role: str) -> list[str]:
    """The keys a delegator names for a role; none when it doesn't know it."""
    if isinstance(delegator, Root):
        found = delegator.roles.get(role)
        return [] if found is None else list(found.keyids)
    delegated = (delegator.delegations and delegator.delegations.roles) or {}
    return list(delegated[role].keyids) if role in delegated else []


def director_keys(data: bytes) -> list[Key]:
    """The director's public keys, by the bytes of a targets.json. Raises CatalogueError."""
    try:
        targets = Metadata[Targets].from_bytes(data).signed
    except (DeserializationError, RepositoryError) as error:
        raise CatalogueError(f"no targets.json: {error}") from None
    known = {} if targets.delegations is None else targets.delegations.keys
    return [known[keyid] for keyid in keyids(targets, directive.ROLE)]


def new_root(keyring: Keyring) -> Root:
    """An unsigned root that names the keyring's keys."""
    root = Root(consistent_snapshot=True)
    for role in ("root", "targets", "snapshot", "timestamp"):
        keys = keyring.group(key_role(role))
        for key in keys.keys:
            root.add_key(key, role)
        root.roles[role].threshold = keys.threshold
    return root


def new_targets(keyring: Keyring, director_epoch: int) -> Targets:
    """The top-level targets: no target of its own, the director delegated without any path."""
    director = keyring.group("director").keys[0]
    targets = Targets(
        delegations=Delegations(
            keys={director.keyid: director},
            roles={
                directive.ROLE: DelegatedRole(
                    directive.ROLE, [director.keyid], 1, terminating=False, paths=[]
                )
            },
        )
    )
    targets.unrecognized_fields[DIRECTOR_EPOCH_FIELD] = director_epoch
    return targets


def delegate_model(targets: Targets, model: str, keys: KeyGroup) -> None:
    """Delegate a model's manifests to release keys."""
    delegations = delegations_of(targets)
    name = manifest.role_name(model)
    delegations.keys |= {key.keyid: key for key in keys.keys}
    if delegations.roles is not None:
        delegations.roles[name] = DelegatedRole(
            name, keys.ids, keys.threshold, terminating=True, paths=[f"{model}/*/manifest.json"]
        )


def delegates(targets: Targets, role: str) -> bool:
    """Whether targets delegate to a role."""
    return role in (delegations_of(targets).roles or {})


def delegations_of(targets: Targets) -> Delegations:
    """The delegations of targets; raises CatalogueError when there are none."""
    if targets.delegations is None:
        raise CatalogueError("targets.json delegates nothing: it isn't this hub's")
    return targets.delegations


def director_epoch(targets: Targets) -> int:
    """The epoch that targets name; raises CatalogueError."""
    epoch = targets.unrecognized_fields.get(DIRECTOR_EPOCH_FIELD)
    if not isinstance(epoch, int) or epoch < 1:
        raise CatalogueError(f"targets.json names no {DIRECTOR_EPOCH_FIELD}")
    return epoch


def contact(targets: Targets) -> Approved | None:
    """Where targets let devices be sent; None when they say nothing that makes sense."""
    return wire_contact.read(targets.unrecognized_fields.get(CONTACT_FIELD))


def next_snapshot(current: Snapshot | None, changed: dict[str, int]) -> Snapshot:
    """A snapshot that names the changed roles at their versions and the rest as before."""
    meta = {} if current is None else dict(current.meta)
    meta.update({f"{role}.json": MetaFile(version) for role, version in changed.items()})
    return Snapshot(meta=meta)


def next_timestamp(snapshot_version: int) -> Timestamp:
    """An unsigned timestamp for a version of snapshot."""
    return Timestamp(snapshot_meta=MetaFile(snapshot_version))


def _time(now: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(int(now), dt.UTC)
