"""What a version's bundle holds, found from its manifest: chunks by name, and the baseline."""

from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple, Protocol, TypeVar

from sqlalchemy import func
from sqlmodel import col, select

from muster_hub.registry.bundle import chunks_of
from muster_hub.storage import models
from muster_hub.storage.store import Store
from muster_protocol.signals import baseline as baseline_wire
from muster_protocol.signals.baseline import Baseline
from muster_protocol.wire import agent_release, chunks, limits
from muster_protocol.wire import directive as directive_wire
from muster_protocol.wire import manifest as manifest_wire
from muster_protocol.wire.chunks import sha256_hex
from muster_protocol.wire.directive import DirectiveRefused
from muster_protocol.wire.errors import MusterError

REMEMBERED_MAX = 256
BASELINES_MAX = 64
T = TypeVar("T")
_ROLLING = (
    select(models.Rollout.manifest, func.count(col(models.RolloutDevice.device)))
    .join(
        models.RolloutDevice,
        col(models.RolloutDevice.rollout) == col(models.Rollout.id),
        isouter=True,
    )
    .where(col(models.Rollout.state).in_(("running", "paused")))
    .group_by(col(models.Rollout.id), col(models.Rollout.manifest))
    .order_by(col(models.Rollout.id).desc())
)
_ASSIGNED = (
    select(models.Version.manifest_sha256)
    .join(
        models.Assignment,
        (col(models.Assignment.model) == col(models.Version.model))
        & (col(models.Assignment.version) == col(models.Version.version)),
    )
    .order_by(col(models.Assignment.precedence).desc())
)


class Blobs(Protocol):
    """Where manifests and chunks lie."""

    def read(self, sha256: str) -> bytes:
        """The bytes of that name; raises NotFound."""
        ...


class Parts(NamedTuple):
    """A bundle's chunks, each with a bound on its size in bytes."""

    head: Mapping[str, int]
    """The manifest and the indexes: they tell a device what else there is."""
    body: Mapping[str, int]


class Bundles:
    """Chunks and baselines by manifest; answers are remembered, manifests never change."""

    def __init__(self, store: Store, blobs: Blobs) -> None:
        self._store = store
        self._blobs = blobs
        self._known: OrderedDict[str, Parts] = OrderedDict()
        self._baselines: OrderedDict[str, Baseline | None] = OrderedDict()

    def read(self, sha256: str) -> bytes:
        return self._blobs.read(sha256)

    def live(self) -> list[Mapping[str, int]]:
        """Chunks that rollouts in progress and assignments need, with bounds on their sizes.

        They are in groups of which one missing chunk makes the others useless: what tells a device
        about a bundle, first, then what it holds; of each the most needed first. Need is the number
        of devices that rollouts have reached, told in powers of two so that the order changes
        rarely; of equals the newest rollout's come first, late joiners' last.
        """
        needs: Counter[str] = Counter()
        for manifest, devices in self._live_manifests():
            needs[manifest] += devices
        order = sorted(needs, key=lambda manifest: -needs[manifest].bit_length())
        parts = [self._parts(manifest) for manifest in order]
        return [part.head for part in parts] + [part.body for part in parts]

    def of_directive(self, device: str) -> Collection[str]:
        """Chunks that a device's live directive may need."""
        with self._store.read() as session:
            row = session.get(models.DirectiveRow, device)
        if row is None:
            return ()
        try:
            goals = directive_wire.decode(row.payload).goals
        except DirectiveRefused:
            return ()
        return {chunk for goal in goals for part in self._parts(goal.manifest) for chunk in part}

    def baseline(self, manifest: str) -> Baseline | None:
        """The baseline of a version; None when it has none or the version is unknown."""
        if manifest not in self._baselines:
            _remember(
                self._baselines, manifest, read_baseline(manifest, self._blobs.read), BASELINES_MAX
            )
        return self._baselines[manifest]

    def _live_manifests(self) -> list[tuple[str, int]]:
        """Manifests, and how many devices need each as far as rollouts know."""
        with self._store.read() as session:
            rolling = session.exec(_ROLLING).all()
            assigned = session.exec(_ASSIGNED).all()
        found = [(manifest, int(devices)) for manifest, devices in rolling]
        known = {manifest for manifest, _ in found}
        return found + [
            (manifest, 0) for manifest in dict.fromkeys(assigned) if manifest not in known
        ]

    def _parts(self, manifest: str) -> Parts:
        """The chunks of a bundle; none while something of it is missing."""
        if manifest in self._known:
            return self._known[manifest]
        try:
            found = parts_of(self._blobs.read(manifest), self._blobs.read)
        except MusterError:
            return Parts({}, {})
        _remember(self._known, manifest, found, REMEMBERED_MAX)
        return found


def parts_of(manifest_bytes: bytes, read: Callable[[str], bytes]) -> Parts:
    """What a bundle consists of; raises MusterError when blobs are missing."""
    files = agent_release.files_of(manifest_bytes)
    head = {sha256_hex(manifest_bytes): len(manifest_bytes)}
    head |= {name: limits.CHUNK_BYTES for file in files for name in file.index}
    body = {name: limits.CHUNK_BYTES for file in files for name in chunks_of(file, read)}
    return Parts(head, body)


def read_baseline(manifest: str, read: Callable[[str], bytes]) -> Baseline | None:
    """The baseline in the bundle of a manifest; raises MusterError when blobs are missing."""
    parsed = manifest_wire.decode(read(manifest))
    if parsed.baseline is None:
        return None
    file = parsed.file(parsed.baseline)
    parts: tuple[str, ...] = (file.sha256,)
    if file.index:
        index = b"".join(read(part) for part in file.index)
        parts = chunks.parse_index(index, file.size_bytes)
    return baseline_wire.decode(b"".join(read(part) for part in parts))


def _remember(memory: OrderedDict[str, T], key: str, value: T, most: int) -> None:
    memory[key] = value
    while len(memory) > most:
        memory.popitem(last=False)
