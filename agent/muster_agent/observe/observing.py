"""Rings and folds of installed bundles: what ``telemetry`` needs of the signals' rooms.

A release is signed, but its baseline is data all the same: whatever it does to the counting is
caught here, so that it costs the counts of features and never the agent.
"""

import logging
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from msgspec import UNSET, UnsetType

from muster_agent.observe.fold import Fold
from muster_agent.observe.labels import LabelMemory
from muster_agent.observe.pair_fold import PairFold
from muster_agent.observe.signs import Counting, SlotSigns, Watched
from muster_agent.observe.telemetry import Ring
from muster_agent.storage.content import Store, StoreRefused, decode_manifest
from muster_agent.worker import ring
from muster_protocol.signals import baseline
from muster_protocol.signals.baseline import Baseline
from muster_protocol.signals.rule import DriftFinding, Rule
from muster_protocol.wire import chunks
from muster_protocol.wire.directive import Drift, Goal
from muster_protocol.wire.errors import ProtocolError, Refusal
from muster_protocol.wire.manifest import Manifest
from muster_protocol.wire.messages import Event, Stamp

log = logging.getLogger(__name__)


class Monitors(Protocol):
    """Where drift monitors outlive the agent; ``state.StateDatabase`` is one."""

    def monitor(self, slot: str, manifest: str) -> tuple[int, bytes] | None:
        """Rebaselines so far and the saved state; None when none is kept."""
        ...

    def put_monitor(self, slot: str, manifest: str, rebaselines: int, monitor: bytes) -> None:
        """Keep a monitor's state; raises sqlite3.Error."""
        ...


Offer = Callable[[str, Goal, Manifest, Any, bool], None]
"""Slot, what answered, its manifest, rows of its ring, and whether it drifts."""


class Folds:
    """Implements ``telemetry.Folds``. Labels and drift are remembered by slot, across workers."""

    def __init__(
        self,
        store: Store,
        *,
        report: Callable[[Event], None] = lambda _event: None,
        window_seconds: Callable[[], float] = lambda: 300.0,
        monitors: Monitors | None = None,
        open_ring: Callable[[Path], Ring] = ring.RingReader,
        counting: Callable[..., Counting] = Fold,
        offer: Offer = lambda _slot, _goal, _listing, _rows, _drifting: None,
    ) -> None:
        """``report`` takes events of drift; it may join an open transaction.

        ``monitors`` keep what was learnt of drift across restarts; None: nothing is kept.
        ``counting`` begins a window of what the rings that ``open_ring`` opens hold. ``offer`` is
        shown the rows of champions, to be sampled.
        """
        self._offer = offer
        self._store = store
        self._open_ring = open_ring
        self._counting = counting
        self._report = report
        self._window_seconds = window_seconds
        self._memories: dict[str, LabelMemory] = {}
        self._signs: dict[str, SlotSigns] = {}
        self._monitors = monitors
        self._rebaselines: dict[str, int] = {}
        """What directives ask for, by slot and manifest."""
        self._drift: dict[str, Drift | UnsetType] = {}
        """How they have drift judged, by slot and manifest."""

    def ring(self, path: Path) -> Ring:
        return self._open_ring(path)

    def signs(self, slot: str, goal: Goal) -> SlotSigns:
        """What the closed windows of the goal's model in this slot say."""
        key = f"{slot}/{goal.manifest}"
        if key not in self._signs:
            others = [known for known in self._signs if known.startswith(f"{slot}/")]
            for stale in others[:-1]:  # The champion's and the candidate's are enough.
                del self._signs[stale]
            self._signs[key] = SlotSigns()
        return self._signs[key]

    def manifests(self, goals: Iterable[Goal]) -> list[bytes]:
        """Those that are here, as signed: what a ring needs to be counted."""
        found = (self._store.manifest(goal.manifest) for goal in goals)
        return [data for data in found if data is not None]

    def fold(
        self, slot: str, goal: Goal, opened: Stamp, kept: Mapping[str, bytes] | None = None
    ) -> Watched:
        """Raises ProtocolError when the bundle is gone or its baseline can't be used.

        Raises StoreRefused(FILE_MISMATCH) when the baseline has rotted on the disk. With ``kept``
        manifests neither stops it: then all but features is counted of a ring that was left.
        """
        bundle = self._store.bundle(goal.manifest)
        if bundle is None and kept is None:
            raise ProtocolError(f"bundle {goal.manifest[:12]} is not installed any more")
        listing = self._listing(goal, kept or {})
        memory = self._memories.setdefault(slot, LabelMemory())
        signs = self.signs(slot, goal)
        try:
            trained = None if bundle is None else _baseline(listing, bundle)
        except (StoreRefused, OSError):
            if kept is None:
                raise
            bundle = None
        if bundle is None:
            made = self._counting(listing, goal.manifest, None, opened, memory)
            return Watched(made, SlotSigns(), lambda _finding, _at: None)
        try:
            fold = self._counting(listing, goal.manifest, trained, opened, memory)
            outputs = {tensor.name for tensor in listing.outputs}
            usable = trained if not fold.trouble else None
            fresh = not signs.watched
            signs.watch(usable, self._rule(f"{slot}/{goal.manifest}"), outputs)
            if fresh:
                self._resume(slot, goal, signs)
        except (ProtocolError, StoreRefused, OSError):
            raise
        except Exception as error:
            log.exception("the baseline of %s %s", goal.model, goal.version)
            raise ProtocolError(
                f"{goal.model} {goal.version}: its baseline can't be used: "
                f"{type(error).__name__}: {error}"
            ) from error

        def found(finding: DriftFinding, at: Stamp) -> None:
            self._report(_event(slot, goal, finding, at))

        return Watched(
            fold,
            signs,
            found,
            lambda signs: self._keep(slot, goal, signs),
            lambda rows: self._offer(slot, goal, listing, rows, bool(signs.drifting)),
        )

    def pairs(
        self,
        champion: Goal,
        challenger: Goal,
        opened: Stamp,
        kept: Mapping[str, bytes] | None = None,
    ) -> PairFold:
        """Raises ProtocolError when either manifest is gone and not ``kept``."""
        return PairFold(
            (self._listing(champion, kept or {}), champion.manifest),
            (self._listing(challenger, kept or {}), challenger.manifest),
            opened,
        )

    def _listing(self, goal: Goal, kept: Mapping[str, bytes]) -> Manifest:
        data = self._store.manifest(goal.manifest) or kept.get(goal.manifest)
        if data is None:
            raise ProtocolError(f"bundle {goal.manifest[:12]} is not installed any more")
        return decode_manifest(data)

    def rebaseline(self, slot: str, goal: Goal, rebaselines: int) -> None:
        """A directive says how often an operator has called what is seen there normal.

        Each new time is taken up once, when the model is watched, and kept at once.
        """
        self._rebaselines = {
            key: times for key, times in self._rebaselines.items() if not key.startswith(f"{slot}/")
        } | {f"{slot}/{goal.manifest}": rebaselines}
        signs = self.signs(slot, goal)
        if signs.rebaseline(rebaselines):
            self._keep(slot, goal, signs)

    def judge_by(self, slot: str, goal: Goal, drift: Drift | UnsetType) -> None:
        """A directive says how drift of the goal's model is judged in this slot."""
        key = f"{slot}/{goal.manifest}"
        self._drift = {
            known: how for known, how in self._drift.items() if not known.startswith(f"{slot}/")
        } | {key: drift}
        self.signs(slot, goal).judge_by(self._rule(key))

    def _rule(self, key: str) -> Rule:
        return Rule.of(self._window_seconds(), self._drift.get(key, UNSET))

    def _resume(self, slot: str, goal: Goal, signs: SlotSigns) -> None:
        try:
            kept = self._monitors and self._monitors.monitor(slot, goal.manifest)
            if kept:
                rebaselines, monitor = kept
                signs.resume(monitor, rebaselines)
            if signs.rebaseline(self._rebaselines.get(f"{slot}/{goal.manifest}", 0)):
                self._keep(slot, goal, signs)
        except sqlite3.Error as error:
            # A disk at fault keeps no model from serving; the device calibrates anew.
            log.warning("%s: what was learnt of drift can't be read or kept: %s", slot, error)

    def _keep(self, slot: str, goal: Goal, signs: SlotSigns) -> None:
        """Raises sqlite3.Error."""
        monitor = signs.saved()
        if self._monitors is not None and monitor is not None:
            self._monitors.put_monitor(slot, goal.manifest, signs.rebaselines, monitor)


def _baseline(listing: Manifest, bundle: Path) -> Baseline | None:
    if listing.baseline is None:
        return None
    path = bundle / listing.baseline
    data = path.read_bytes() if path.is_file() else b""
    if chunks.sha256_hex(data) != listing.file(listing.baseline).sha256:
        raise StoreRefused(Refusal.FILE_MISMATCH, f"{path}: not what the manifest says")
    return baseline.decode(data)


def _event(slot: str, goal: Goal, finding: DriftFinding, at: Stamp) -> Event:
    """A feature began to drift, or has recovered."""
    how = f"{finding.statistic} {finding.direction}".strip()
    return Event(
        kind="drift",
        at=at,
        slot=slot,
        model=goal.model,
        version=goal.version,
        manifest=goal.manifest,
        detail=f"{finding.feature}: {how or finding.state}",
        values={"effect": finding.effect, "rows": float(finding.n)},
    )
