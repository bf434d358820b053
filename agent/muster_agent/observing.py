"""Rings and folds of installed bundles: what ``telemetry`` needs of the signals' rooms."""

from pathlib import Path

from muster_agent.observe.fold import Fold
from muster_agent.observe.labels import LabelMemory
from muster_agent.store import Store
from muster_agent.worker.ring import Ring
from muster_protocol import baseline, manifest
from muster_protocol.directive import Goal
from muster_protocol.errors import ProtocolError
from muster_protocol.messages import Stamp


class Folds:
    """Implements ``telemetry.Folds``. Labels are remembered by slot, across its workers."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._memories: dict[str, LabelMemory] = {}

    def ring(self, path: Path) -> Ring:
        return Ring.open(path)

    def fold(self, slot: str, goal: Goal, opened: Stamp) -> Fold:
        """Raises ProtocolError when the bundle is gone or its baseline can't be read."""
        data = self._store.manifest(goal.manifest)
        bundle = self._store.bundle(goal.manifest)
        if data is None or bundle is None:
            raise ProtocolError(f"bundle {goal.manifest[:12]} is not installed any more")
        listing = manifest.decode(data)
        trained = None
        if listing.baseline is not None:
            trained = baseline.decode((bundle / listing.baseline).read_bytes())
        memory = self._memories.setdefault(slot, LabelMemory())
        return Fold(listing, goal.manifest, trained, opened, memory)
