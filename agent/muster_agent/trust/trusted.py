"""What this device trusts: the verified catalogue, its expiry, and the director it names.

A ``Trusted`` is a value: everything in it was verified by ``tuf.ngclient``, apart from time, which
every question about new installs must bring along. Pure.
"""

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import msgspec
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import Error as SecureSystemsError
from tuf.api import exceptions
from tuf.api.metadata import Root, Signed, Snapshot, TargetFile, Targets, Timestamp

from muster_agent.trust.time import DAY_SECONDS
from muster_protocol.wire import agent_release, contact, directive, limits, manifest
from muster_protocol.wire.agent_release import AgentRelease
from muster_protocol.wire.contact import Approved
from muster_protocol.wire.directive import Directive, DirectiveRefused
from muster_protocol.wire.errors import MusterError, ProtocolError, Refusal
from muster_protocol.wire.metadata import CONTACT_FIELD, DIRECTOR_EPOCH_FIELD, ISSUED_FIELD

ISSUED_MAX = 2**53 - 1


class TrustRefused(MusterError):
    """Metadata that must not be believed; ``refusal`` names the reason on the wire."""

    def __init__(self, refusal: Refusal, message: str) -> None:
        super().__init__(message)
        self.refusal = refusal


@dataclass(frozen=True)
class Trusted:
    """Verified metadata. ``find`` is ngclient's search for a target among it."""

    roles: Mapping[str, Signed]
    find: Callable[[str], TargetFile | None]
    refused: Mapping[str, TrustRefused] = field(default_factory=dict)
    """Models whose role did not verify, although the rest did."""

    @property
    def versions(self) -> dict[str, int]:
        """Version of each role that is trusted."""
        return {stem: signed.version for stem, signed in self.roles.items()}

    @property
    def expires(self) -> dict[str, int]:
        """Seconds since 1970 by file stem."""
        return {stem: int(signed.expires.timestamp()) for stem, signed in self.roles.items()}

    @property
    def issued(self) -> int:
        """The latest signed issue time: it is at least this late. 0 when none is signed."""
        return max((_whole(signed, ISSUED_FIELD) for signed in self.roles.values()), default=0)

    @property
    def director_epoch(self) -> int:
        """0 when targets name none; no directive is of that epoch."""
        return _whole(self.roles[Targets.type], DIRECTOR_EPOCH_FIELD)

    @property
    def contact(self) -> Approved | None:
        """Where a directive may send this device; None: nowhere."""
        return contact.read(self.roles[Targets.type].unrecognized_fields.get(CONTACT_FIELD))

    def expired(self, now: int, model: str | None = None) -> tuple[str, ...]:
        """Roles on the way to ``model`` that have expired, as ``timestamp (3 days ago)``."""
        stems = [Root.type, Timestamp.type, Snapshot.type, Targets.type]
        if model is not None:
            stems.append(manifest.role_name(model))
        ends = self.expires
        return tuple(
            f"{stem} ({(now - ends[stem]) // DAY_SECONDS} days ago)"
            for stem in stems
            if stem in ends and now >= ends[stem]
        )

    def manifest_target(self, model: str, version: str, *, now: int) -> tuple[str, int] | None:
        """SHA-256 and length of the manifest that release keys signed; None when they did not.

        ``now`` is trusted time. Raises TrustRefused when metadata on the way has expired, which
        blocks a new install and nothing else, or when the model's role did not verify.
        """
        if model in self.refused:
            raise self.refused[model]
        late = self.expired(now, model)
        if late:
            raise TrustRefused(
                Refusal.METADATA_EXPIRED,
                f"metadata has expired: {', '.join(late)}. New installs wait until it is signed "
                "anew; what runs goes on. A freeze attack looks like this, so does a hub at rest",
            )
        try:
            target = self.find(manifest.target_path(model, version))
        except (exceptions.RepositoryError, exceptions.DownloadError) as error:
            raise refusal_of(error) from None
        if target is None:
            return None
        digest = target.hashes.get("sha256")
        if digest is None or target.length > limits.MANIFEST_BYTES_MAX:
            raise TrustRefused(
                Refusal.METADATA_INVALID,
                f"the signed entry of {model} {version} has no SHA-256 or is too long",
            )
        return digest, target.length

    def verify_directive(self, envelope: bytes) -> Directive:
        """The directive in a DSSE envelope, signed by the director that targets delegate.

        Whether it may be adopted is for ``directive.accept``. Raises DirectiveRefused.
        """
        if len(envelope) > limits.DIRECTIVE_BYTES_MAX:
            raise DirectiveRefused(
                Refusal.TOO_LARGE,
                f"a directive of {len(envelope)} bytes, the limit is {limits.DIRECTIVE_BYTES_MAX}",
            )
        opened = _open(envelope)
        if opened.payload_type != directive.PAYLOAD_TYPE:
            raise DirectiveRefused(
                Refusal.MALFORMED,
                f"the envelope holds {opened.payload_type[:80]!r}, not a directive: something "
                "signed for another purpose, or a hub of another kind",
            )
        targets = self.roles[Targets.type]
        assert isinstance(targets, Targets)
        try:
            targets.verify_delegate(directive.ROLE, opened.pae(), opened.signatures)
        except exceptions.UnsignedMetadataError as error:
            raise DirectiveRefused(
                Refusal.BAD_SIGNATURE,
                f"the directive is not signed by the director key of the catalogue ({error}): "
                "forged, altered, or signed with a key that was withdrawn",
            ) from None
        except ValueError as error:
            raise DirectiveRefused(
                Refusal.BAD_SIGNATURE, f"the catalogue names no director: {error}"
            ) from None
        return directive.decode(opened.payload)


def verify_release(root: Root, envelope: bytes) -> AgentRelease:
    """A release of the agent, signed by as many of the keys of targets as the root asks for.

    No key on a hub is among them. Raises TrustRefused.
    """
    try:
        opened = _open(envelope)
    except DirectiveRefused as error:
        raise TrustRefused(error.refusal, str(error)) from None
    if opened.payload_type != agent_release.PAYLOAD_TYPE:
        raise TrustRefused(
            Refusal.MALFORMED,
            f"the envelope holds {opened.payload_type[:80]!r}, not a release of the agent",
        )
    try:
        root.verify_delegate(Targets.type, opened.pae(), opened.signatures)
    except exceptions.UnsignedMetadataError as error:
        raise TrustRefused(
            Refusal.BAD_SIGNATURE,
            f"the release is not signed by the keys that this device trusts ({_line(error)}): "
            "forged, altered, of another fleet, or short of a signature",
        ) from None
    try:
        return agent_release.decode(opened.payload)
    except ProtocolError as error:
        raise TrustRefused(Refusal.MALFORMED, str(error)) from None


class _Signature(msgspec.Struct):
    keyid: str
    sig: str


class _Envelope(msgspec.Struct, rename="camel"):
    payload: str
    payload_type: str
    signatures: list[_Signature]


def _open(envelope: bytes) -> Envelope:
    try:
        parsed = msgspec.json.decode(envelope, type=_Envelope)
        return Envelope.from_dict(msgspec.to_builtins(parsed))
    except (msgspec.DecodeError, RecursionError, ValueError, SecureSystemsError) as error:
        raise DirectiveRefused(
            Refusal.MALFORMED, f"not a signed envelope: {str(error)[:200]}"
        ) from None


def refusal_of(error: Exception) -> TrustRefused:
    """What ngclient's objection means: the name on the wire, and the attack it looks like."""
    for kind, refusal, meaning in _MEANINGS:
        if isinstance(error, kind):
            return TrustRefused(refusal, f"{meaning}: {_line(error)}")
    return TrustRefused(Refusal.METADATA_INVALID, f"metadata that makes no sense: {_line(error)}")


_MEANINGS: tuple[tuple[type[Exception], Refusal, str], ...] = (
    (
        exceptions.BadVersionNumberError,
        Refusal.METADATA_ROLLBACK,
        "metadata of another version (a rollback or mix-and-match attack, or a restored hub)",
    ),
    (
        exceptions.ExpiredMetadataError,
        Refusal.METADATA_EXPIRED,
        "expired metadata (a freeze attack, or a hub that has stopped signing)",
    ),
    (
        exceptions.UnsignedMetadataError,
        Refusal.BAD_SIGNATURE,
        "metadata without enough signatures (an arbitrary software attack, or a withdrawn key)",
    ),
    (
        exceptions.LengthOrHashMismatchError,
        Refusal.METADATA_INVALID,
        "metadata that is not the file named by the snapshot (a mix-and-match attack, or damage)",
    ),
    (
        exceptions.DownloadLengthMismatchError,
        Refusal.TOO_LARGE,
        "metadata longer than allowed (an endless data attack)",
    ),
    (
        exceptions.SlowRetrievalError,
        Refusal.METADATA_MISSING,
        "metadata that drip in (a slow retrieval attack, or a bad link)",
    ),
    (
        exceptions.DownloadError,
        Refusal.METADATA_MISSING,
        "metadata that the broker did not hand out (withheld, or not published yet)",
    ),
    (exceptions.RepositoryError, Refusal.METADATA_INVALID, "metadata that breaks TUF's rules"),
)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _whole(signed: Signed, name: str) -> int:
    """A whole number of our own in signed metadata; 0 when it is missing or something else."""
    value = signed.unrecognized_fields.get(name)
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= ISSUED_MAX:
        return value
    return 0


def as_datetime(seconds: int) -> dt.datetime:
    """UTC time; what lies beyond the year 9999 counts as its end."""
    return dt.datetime.fromtimestamp(min(seconds, 253_402_300_799), dt.UTC)
