"""Sampling on a device: what a directive asks for is held to what release keys signed, then taken.

Nothing is taken without a policy in an adopted directive, beyond the limits in the champion's
bundle, where ``agent.toml`` says no, after the policy's end, or while nothing can be made durable.
What goes wrong costs samples, never the counting beside it. Used by the supervisor's thread only.
"""

import logging
import random
import sqlite3
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

import msgspec
from msgspec import UNSET

from muster_agent.base.clock import Clock, stamp
from muster_agent.observe.outbox import Outbox
from muster_agent.observe.sampling import choosing, taking
from muster_agent.observe.sampling.sealing import SampleKeys
from muster_agent.observe.sampling.table import InForce, SampleTable
from muster_agent.storage.state import StateDatabase
from muster_agent.trust.time import Instant
from muster_agent.worker.rows import RingLayout, Rows
from muster_protocol.wire import sampling
from muster_protocol.wire.directive import Directive, Goal, Slot
from muster_protocol.wire.errors import MusterError
from muster_protocol.wire.limits import EVENT_DETAIL_CHARS_MAX
from muster_protocol.wire.manifest import Manifest
from muster_protocol.wire.messages import Event
from muster_protocol.wire.sampling import Sample, SamplingLimits, SamplingPolicy

log = logging.getLogger(__name__)
LOOK_SECONDS = 60.0
"""How often policies' ends are looked at."""
_NEVER = float("inf")


class Releases(Protocol):
    """What the bundles of installed versions say of sampling."""

    def sampling(self, manifest: str) -> SamplingLimits | None:
        """What release keys signed for a version; None: it may not be sampled. Raises MusterError
        or OSError for a file that isn't what the manifest says."""
        ...


@dataclass(frozen=True)
class SamplerPorts:
    """What a sampler acts on. ``day`` names today; ``allowed`` is what ``agent.toml`` says."""

    state: StateDatabase
    outbox: Outbox
    keys: SampleKeys
    releases: Releases
    clock: Clock
    trusted_now: Callable[[], Instant]
    day: Callable[[], int]
    rng: random.Random
    allowed: bool


@dataclass
class _Taking:
    """A policy in force."""

    row: InForce
    asked: SamplingPolicy
    until: float
    """Monotonic seconds at which it ends whatever the clock says."""
    pace: choosing.RowPace
    limits: SamplingLimits | None = None
    by_class: Counter[int] = field(default_factory=Counter)


class Sampler:
    """One per device; slots by name."""

    def __init__(self, ports: SamplerPorts, now: float) -> None:
        self._ports = ports
        self._taking: dict[str, _Taking] = {}
        self._says: dict[str, str] = {}
        """What becomes of each slot's policy, in words."""
        self._told: dict[str, str] = {}
        """Refusals that were told, by slot."""
        self._look_at = now
        self._unobeyed: Directive | None = None
        """A directive that could not be obeyed yet."""
        self._table = SampleTable(ports.state.connection) if ports.state.durable else None

    # What directives say

    def obey(self, directive: Directive, now: float) -> None:
        """Begin what a directive asks for and end what it doesn't any more.

        Never raises for a disk that takes nothing now: nothing is taken then, and ``tick`` does it.
        """
        if self._table is None:
            return
        self._unobeyed = directive
        try:
            self._obey(directive, self._table, now)
        except (sqlite3.Error, OSError) as error:
            log.warning("the sampling policy could not be obeyed yet: %s", error)
            self._taking.clear()
            self._look_at = now + LOOK_SECONDS
        else:
            self._unobeyed = None
            self._look_at = now

    def _obey(self, directive: Directive, table: SampleTable, now: float) -> None:
        asked = {name: slot for name, slot in directive.slots.items() if slot.sampling is not UNSET}
        for row in table.in_force():
            slot = asked.get(row.slot)
            if slot is None or not _same(row, slot):
                self._end(row, "withdrawn")
            elif not self._ports.allowed:
                self._end(row, "this device refuses to be sampled (agent.toml, sampling.allow)")
        for name in self._says.keys() - asked.keys():
            del self._says[name]
        in_force = {row.slot: row for row in table.in_force()}
        for name, slot in asked.items():
            self._want(name, slot, in_force.get(name), now)
        for orphan in self._ports.keys.slots() - self._taking.keys():
            self._ports.keys.destroy(orphan)

    def _want(self, name: str, slot: Slot, row: InForce | None, now: float) -> None:
        policy, goal = slot.sampling, slot.champion
        assert self._table is not None
        assert isinstance(policy, SamplingPolicy)
        instant = self._ports.trusted_now()
        why = ""
        if not self._ports.allowed:
            why = "refused: this device is not to be sampled (agent.toml, sampling.allow)"
        elif over := self._table.why_ended(name, policy.policy):
            why = f"over: {over}"
        elif instant.past(policy.expires):
            why = "over: it has expired"
        if why:
            if row is not None:
                self._end(row, "expired", for_good=True)
            self._says[name] = f"policy {policy.policy} {why}"
            if why.startswith("refused"):
                self._refuse(name, goal, policy, why)
            return
        if row is None or not self._ports.keys.has(name):
            if row is not None:
                self._end(row, "its key is gone")
            row = _row(name, policy, goal)
            self._ports.keys.make(name)
            with self._ports.state.transaction():
                self._table.begin(row)
        self._says[name] = f"policy {policy.policy} waits for the first rows"
        if name not in self._taking or self._taking[name].row.asked != row.asked:
            self._taking[name] = _Taking(
                row,
                policy,
                now + policy.expires - instant.seconds,
                choosing.full(policy.rows_per_day, now),
            )

    # Rows

    def offer(
        self,
        slot: str,
        goal: Goal,
        manifest: Manifest,
        rows: Rows,
        drifting: bool,  # noqa: FBT001 - as the fold calls it
    ) -> None:
        """Take what the slot's policy asks for of rows that its champion answered."""
        taking_ = self._taking.get(slot)
        if taking_ is None or taking_.row.manifest != goal.manifest or not len(rows):
            return
        try:
            self._offered(taking_, manifest, rows, drifting=drifting)
        except (sqlite3.Error, OSError, MusterError, ValueError, KeyError) as error:
            why = f"{type(error).__name__}: {error}"
            if self._says.get(slot) != why:
                log.warning("%s: rows were not sampled: %s", slot, why)
            self._says[slot] = f"policy {taking_.row.policy} takes nothing: {why}"

    def _offered(self, taking_: _Taking, manifest: Manifest, rows: Rows, *, drifting: bool) -> None:
        row, asked = taking_.row, taking_.asked
        assert self._table is not None
        if self._is_over(taking_):
            self._end(row, "expired", for_good=True)
            return
        if taking_.limits is None:
            taking_.limits = self._ports.releases.sampling(row.manifest)
            if why := sampling.excess(asked, taking_.limits):
                self._exceeds(taking_, why)
                return
        limits = taking_.limits
        assert limits is not None
        day = self._ports.day()
        today, total = self._table.counted(row.manifest, day)
        left = min(asked.rows_per_day - today, limits.rows_max - total)
        wanted = min(left, taking_.pace.allowed(self._ports.clock.monotonic()))
        if wanted <= 0:
            reason = "all that its release allows" if total >= limits.rows_max else "enough today"
            said = f"policy {row.policy}: {today} rows today"
            self._says[row.slot] = f"{said}, {reason}" if left <= 0 else said
            return
        layout = RingLayout.of(manifest, row.manifest)
        known = taking.described(layout, manifest, rows, drifting=drifting)
        chosen = choosing.pick(
            known, asked.strata, wanted, confidence_below=asked.confidence_below,
            taken=taking_.by_class, rng=self._ports.rng,
        )  # fmt: skip
        if not chosen:
            return
        places = [place for place, _ in chosen]
        contents = taking.contents(
            asked, limits, layout, rows[places],
            lambda name, value: self._ports.keys.code(row.slot, name, value),
        )  # fmt: skip
        at = stamp(self._ports.clock)
        with self._ports.state.transaction():
            for content, (_, stratum) in zip(contents, chosen, strict=True):
                sample = Sample(sampling.FORMAT, row.policy, row.slot, at, stratum, content)
                sealed = self._ports.keys.seal(row.slot, row.policy, sampling.encode(sample))
                self._ports.outbox.put_sample(_named(row), sealed)
            self._table.captured(row.slot, row.manifest, day, len(chosen))
        taking_.pace.take(len(chosen))
        if known.classes is not None:
            taking_.by_class.update(int(known.classes[place]) for place in places)
        self._says[row.slot] = f"policy {row.policy}: {today + len(chosen)} rows today"

    # Time

    def tick(self, now: float) -> None:
        """End what has expired. Raises sqlite3.Error and OSError; a later tick does it then."""
        if now < self._look_at:
            return
        self._look_at = now + LOOK_SECONDS * self._ports.rng.uniform(0.9, 1.1)
        if self._unobeyed is not None:
            self.obey(self._unobeyed, now)
            return
        for taking_ in list(self._taking.values()):
            if self._is_over(taking_):
                self._end(taking_.row, "expired", for_good=True)
        for row in self._table.in_force() if self._table is not None else ():
            if row.slot not in self._taking:  # Its end could not be made durable.
                self._end(row, "ended")

    def deadline(self) -> float:
        """When ``tick`` is next worth calling."""
        if not self._taking:
            return _NEVER if self._unobeyed is None else self._look_at
        return min(self._look_at, *(taking_.until for taking_ in self._taking.values()))

    def says(self, slot: str) -> str:
        """What becomes of a slot's policy, for the report; empty: it has none."""
        return self._says.get(slot, "")

    def _is_over(self, taking_: _Taking) -> bool:
        expired = self._ports.trusted_now().past(taking_.asked.expires)
        return expired or self._ports.clock.monotonic() >= taking_.until

    # Ends

    def _end(self, row: InForce, why: str, *, for_good: bool = False) -> None:
        """Destroy the key, delete what waits, and say so to the hub, once."""
        assert self._table is not None
        self._taking.pop(row.slot, None)
        self._ports.keys.destroy(row.slot)
        with self._ports.state.transaction():
            deleted = self._ports.outbox.drop_samples(_named(row))
            captured = next(
                (each.captured for each in self._table.in_force() if each.slot == row.slot), 0
            )
            self._table.end(row.slot)
            if for_good:
                self._table.never_again(row.slot, row.policy, why)
            self._report(
                row,
                f"policy {row.policy} is over: {why}; {deleted} rows deleted, key destroyed",
                captured=captured,
                deleted=deleted,
            )
        self._says[row.slot] = f"policy {row.policy} over: {why}"

    def _exceeds(self, taking_: _Taking, why: str) -> None:
        """A policy that no release key has signed: it never takes a row."""
        self._end(taking_.row, f"refused: {why}", for_good=True)

    def _refuse(self, slot: str, goal: Goal, policy: SamplingPolicy, why: str) -> None:
        if self._told.get(slot) != policy.policy:
            self._told[slot] = policy.policy
            row = _row(slot, policy, goal)
            self._report(row, f"policy {policy.policy} {why}", refused=1)

    def _report(self, row: InForce, detail: str, **values: float) -> None:
        self._ports.outbox.put_event(
            Event(
                kind="sampling",
                at=stamp(self._ports.clock),
                slot=row.slot,
                model=row.model,
                version=row.version,
                manifest=row.manifest,
                detail=detail[:EVENT_DETAIL_CHARS_MAX],
                values={name: float(value) for name, value in values.items()},
            )
        )


def _row(slot: str, policy: SamplingPolicy, goal: Goal) -> InForce:
    return InForce(
        slot, policy.policy, msgspec.json.encode(policy), goal.model, goal.version, goal.manifest
    )


def _same(row: InForce, slot: Slot) -> bool:
    policy = slot.sampling
    if not isinstance(policy, SamplingPolicy):
        return False
    return replace(_row(row.slot, policy, slot.champion), captured=row.captured) == row


def _named(row: InForce) -> str:
    """A policy's rows in the outbox: by slot, since it may be in force in several."""
    return f"{row.slot}/{row.policy}"
