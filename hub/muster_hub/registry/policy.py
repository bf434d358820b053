"""The gates that a model's versions must pass, and what a version shows to them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlmodel import Session

from muster_hub.errors import NotFound
from muster_hub.registry import aliases, bundle
from muster_hub.registry.gates.base import Shown
from muster_hub.registry.gates.registry import Rule, read_policy
from muster_hub.signing import model_signature
from muster_hub.storage.models import Version
from muster_hub.storage.registry import ReleasePolicy
from muster_protocol.wire import card as card_wire
from muster_protocol.wire import explanation as explanation_wire
from muster_protocol.wire import limits, manifest
from muster_protocol.wire.card import CardText
from muster_protocol.wire.errors import LimitError
from muster_protocol.wire.explanation import Explanation
from muster_protocol.wire.manifest import Manifest

CHAMPION = "champion"
"""The alias of the version that a new one is compared with."""


def gates_of(session: Session, model: str) -> tuple[Rule, ...]:
    """The gates of a model's policy; none without one."""
    row = session.get(ReleasePolicy, model)
    return () if row is None else read_policy(row.gates)


def find(session: Session, model: str) -> ReleasePolicy:
    """A model's policy; raises NotFound."""
    row = session.get(ReleasePolicy, model)
    if row is None:
        raise NotFound(f"the model {model!r} has no policy: its versions pass no gates")
    return row


def champion(session: Session, model: str) -> Version | None:
    """The version that has the alias ``champion``; None: no version has it."""
    row = aliases.current(session, model, CHAMPION)
    return None if row is None else session.get(Version, (model, row.version))


def shown(
    row: Version,
    builds: Sequence[Mapping[str, Any]],
    read: Callable[[str], bytes],
    *,
    trusts_signatures: bool = False,
) -> Shown:
    """A version as gates see it; ``read`` fetches its blobs. Raises MusterError for lost ones."""
    parsed = manifest.decode(row.manifest)
    return Shown(
        parsed,
        tuple(build.get("facts") or {} for build in builds),
        card_of(parsed, read),
        explanation_of(parsed, read),
        signed=trusts_signatures and _has(parsed, model_signature.FILE),
    )


def card_of(parsed: Manifest, read: Callable[[str], bytes]) -> CardText | None:
    """What people say of a version; None: nothing. Raises ProtocolError for what is no card."""
    if not _has(parsed, card_wire.FILE):
        return None
    return card_wire.decode(_whole(parsed, card_wire.FILE, read, limits.CARD_BYTES_MAX))


def explanation_of(parsed: Manifest, read: Callable[[str], bytes]) -> Explanation | None:
    """What a version's answers hang on; None: nobody found out. Raises ProtocolError for what is
    no such report.
    """
    path = explanation_wire.FILE
    if not _has(parsed, path):
        return None
    return explanation_wire.decode(_whole(parsed, path, read, limits.EXPLANATION_BYTES_MAX))


def _whole(parsed: Manifest, path: str, read: Callable[[str], bytes], bytes_max: int) -> bytes:
    """A small file of a bundle. Raises LimitError before it is read where it isn't small."""
    file = parsed.file(path)
    if file.size_bytes > bytes_max:
        raise LimitError(f"{path} is {file.size_bytes} bytes, the limit is {bytes_max}")
    return b"".join(read(name) for name in bundle.chunks_of(file, read))


def _has(parsed: Manifest, path: str) -> bool:
    return any(file.path == path for file in parsed.files)
