"""What goes along with drafts to where the keys are: who may sign, and what they would approve.

Nothing in it is believed. Who may sign only spares a vain journey; the manifests are told of only
where a draft names their hash.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec
from securesystemslib.signer import Signer
from tuf.api.metadata import Targets

from muster_hub.errors import CatalogueError
from muster_hub.signing import roles
from muster_hub.signing.catalogue import Catalogue
from muster_protocol.wire.chunks import sha256_hex
from muster_protocol.wire.manifest import Lineage

FILE: Final = "about/request.json"
"""Beside the drafts, in a folder of its own."""
BYTES_MAX: Final = 16 * 1024 * 1024


class WaitingRole(msgspec.Struct, frozen=True):
    """A role that waits: by the SHA-256 of what is signed, who may sign it, and who has."""

    role: str
    sha256: str
    may_sign: list[str]
    signed: list[str]


class About(msgspec.Struct, frozen=True):
    """``names``: what people call keys, by id. ``manifests``: the bytes as text, by SHA-256."""

    drafts: list[WaitingRole] = []
    names: dict[str, str] = {}
    manifests: dict[str, str] = {}

    def called(self, key: str) -> str:
        """A key as people know it."""
        return f"{self.names[key]} ({key[:8]})" if key in self.names else key[:8]


class _Described(msgspec.Struct, frozen=True):
    """Of a manifest what somebody who approves it wants to know."""

    model: str
    version: str
    lineage: Lineage = msgspec.field(default_factory=Lineage)


def about(
    catalogue: Catalogue,
    names: Mapping[str, str],
    manifests: Mapping[str, bytes],
    sees: Callable[[str], bool] = lambda _role: True,
) -> About:
    """What to send along with the drafts of roles that ``sees`` holds for; ``manifests`` by their
    SHA-256 are those that may wait."""
    drafts, shown = list[WaitingRole](), dict[str, str]()
    waiting = catalogue.waiting()
    for role, data in catalogue.pending().items():
        if not sees(role):
            continue
        groups = waiting.get(role, [])
        drafts.append(
            WaitingRole(
                role,
                _digest(data),
                sorted({key for group in groups for key in group.unsigned}),
                sorted({key for group in groups for key in group.signed}),
            )
        )
        shown |= {each: manifests[each].decode() for each in _hashes(data) if each in manifests}
    known = {key for draft in drafts for key in (*draft.may_sign, *draft.signed)}
    return About(drafts, {key: names[key] for key in sorted(known & names.keys())}, shown)


def read(folder: Path) -> About:
    """What came with the drafts in a folder; nothing when it isn't there. Raises CatalogueError."""
    path = folder / FILE
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(BYTES_MAX), type=About)
    except FileNotFoundError:
        return About()
    except (OSError, msgspec.DecodeError) as error:
        raise CatalogueError(f"{path}: {error}") from None


def check_may_sign(found: About, data: bytes, signer: Signer, key: str) -> None:
    """Raise CatalogueError for a key whose signature the hub would not count; ``key`` is its file.

    Where nothing is known of the draft, any may sign.
    """
    draft = _draft_of(found, data)
    if draft is None or signer.public_key.keyid in {*draft.may_sign, *draft.signed}:
        return
    may = ", ".join(map(found.called, draft.may_sign)) or "nobody any more: it has all it needs"
    raise CatalogueError(
        f"{key} ({signer.public_key.keyid[:8]}) may not sign {draft.role}; these may: {may}"
    )


def approved(found: About, data: bytes) -> Iterator[str]:
    """Of each version that a draft names and that waits, what one approves, a line each."""
    named = set(_hashes(data))
    for sha256, text in found.manifests.items():
        if sha256 not in named or sha256_hex(text.encode()) != sha256:
            continue
        try:
            described = msgspec.json.decode(text, type=_Described)
        except msgspec.DecodeError:
            continue
        yield f"{described.model} {described.version}: manifest SHA-256 {sha256}"
        yield from (f"  {line}" for line in _lineage(described.lineage))


def _lineage(lineage: Lineage) -> Iterator[str]:
    source = " at ".join(part for part in (lineage.source, lineage.commit) if part)
    yield f"made from: {source or 'not said'}"
    trained = ", ".join(part for part in (lineage.data, lineage.trained_at) if part)
    yield f"trained on: {trained or 'not said'}"
    metrics = ", ".join(f"{name} {value:g}" for name, value in sorted(lineage.metrics.items()))
    yield f"metrics: {metrics or 'not said'}"


def _draft_of(found: About, data: bytes) -> WaitingRole | None:
    digest = _digest(data)
    return next((draft for draft in found.drafts if draft.sha256 == digest), None)


def _digest(data: bytes) -> str:
    """Of what is signed: signatures that were added don't change it."""
    return sha256_hex(roles.parse_any(data, "the signing request").signed_bytes)


def _hashes(data: bytes) -> list[str]:
    """The SHA-256 of every manifest that a draft names."""
    signed = roles.parse_any(data, "the signing request").signed
    if not isinstance(signed, Targets):
        return []
    return [target.hashes["sha256"] for target in signed.targets.values()]
