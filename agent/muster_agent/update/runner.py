"""The update of one slot: the only writer of its journal. It persists the next state, then acts.

Whatever raises while persisting leaves the old state in force, in memory as on disk; whatever
raises or dies while acting is taken up again from the journal by ``resume``.
"""

import logging
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, assert_never

import msgspec

from muster_agent.storage.content import ChunksMissing, StoreRefused
from muster_agent.storage.rows import JournalRow, Pointer
from muster_agent.update import journal, previous
from muster_agent.update import workers as w
from muster_agent.update.ended import Ended
from muster_agent.update.hold import Hold
from muster_agent.update.ports import SlotPorts, event
from muster_agent.update.preparing import Preparing
from muster_agent.update.proving import Proving
from muster_agent.update.starting import Starting
from muster_agent.update.table import (
    OF_METADATA,
    ON_ENTRY,
    ON_RESUME,
    PASSING,
    Act,
    Cause,
    State,
    following,
    parse,
    resumes,
)
from muster_agent.update.timing import StepTimes
from muster_protocol.wire.directive import Goal
from muster_protocol.wire.errors import Refusal

log = logging.getLogger(__name__)
MARK_SECONDS = 5.0
"""How often progress within a state is written to the journal."""
_NEVER = float("inf")
_AT_REST = frozenset({State.IDLE, State.COMMITTED, State.FAILED})


class SlotRunner:
    """Drives one slot by the table. Times are monotonic seconds."""

    def __init__(self, slot: str, ports: SlotPorts, workers: w.SlotWorkers) -> None:
        self.slot = slot
        self.workers = workers
        self.pointer: Pointer | None = None
        self.row = JournalRow(state=State.IDLE)
        self.assigned = True
        """Whether the directive names this slot; what runs in one it doesn't name goes on."""
        self._ports = ports
        self._hold = Hold(slot, ports.permits, ports.rng, ports.changed)
        self._retry_at = _NEVER
        self._mark_at = _NEVER
        self._undone: Act | None = None
        """An act that a full or failing disk cut short."""
        self._preparing = Preparing(slot, ports)
        self._proving = Proving(slot, ports)
        self._stopped = False
        self._ended = Ended()
        self._times = StepTimes()
        self._late = previous.Late(ports)
        self._starting = Starting(workers, ports.install, self._hold, self._note)
        self._unresumed = False
        """The journal was read, but a full disk did not take that it was."""
        self._acts = {
            Act.REST: self._rest,
            Act.CLEAN: self._clean,
            Act.FETCH: self._fetch,
            Act.ASSEMBLE: self._assemble,
            Act.WAIT: self._wait,
            Act.START: self._start,
            Act.SWAP: self._swap,
            Act.COMMIT: self._commit,
            Act.RESTORE: self._restore,
        }

    @property
    def state(self) -> State:
        """Where the update stands; what this version doesn't know counts as rolling back."""
        return parse(self.row.state)

    def deadline(self) -> float:
        """When ``tick`` should be called next."""
        if self._stopped:
            return _NEVER
        if self._undone is not None or self._unresumed:
            return 0.0
        if self._ended.waits:
            return min(self._ended.until, self.workers.deadline())
        rooms = (self._preparing.deadline(), self._proving.deadline(), self.workers.deadline())
        timers = (self._retry_at, self._mark_at, self._hold.look_at, self._starting.gap.until)
        return min(*rooms, *timers)

    # What comes from outside

    def resume(self, pointer: Pointer | None, row: JournalRow | None, now: float) -> None:
        """After a restart: the committed champion serves first, then the journal goes on."""
        self.pointer = pointer
        if pointer is not None:
            self.take(self.workers.serve(pointer.goal, now), now)
            self._ports.links.point(self.slot, pointer.goal.manifest)
        if row is None:
            return
        self.row, self._unresumed = row, True
        self._go_on(now)

    def _go_on(self, now: float) -> None:
        """With what the journal says, but not before it is written that it was resumed."""
        row = self.row
        count = resumes(self.state, row.resumes, progressed=row.mark > row.resumed_mark)
        if count is None:
            detail = f"restarted {row.resumes} times while {row.state} without getting further"
            self.fault(Refusal.RESUME_LIMIT, detail, now)
            return
        self._persist(journal.resumed(row, self.state, count))
        self._unresumed = False
        if self.state is State.FAILED:
            self._schedule_retry(now)
        self._do(ON_RESUME[self.state], now)

    def want(self, goal: Goal | None, generation: int, now: float, attempt: str = "") -> None:
        """The directive's goal for this slot; None when it doesn't name the slot any more."""
        asked = {"generation": generation, "attempt": attempt}
        if goal is None:
            self._advance(Cause.WITHDRAWN, now, generation=generation)
        elif journal.in_hand(self.row, self.state, goal, attempt):
            # Under way, committed or refused: only the number of the directive is new.
            row = journal.renumbered(self.row, self.state, generation, attempt)
            if row != self.row:
                self._persist(row)
        elif self.has_committed(goal):
            self._advance(Cause.SATISFIED, now, goal=goal, **asked)
        else:
            self._advance(Cause.GOAL, now, goal=goal, **asked)

    def has_committed(self, goal: Goal) -> bool:
        """Whether the slot's pointer names this goal already."""
        return self.pointer is not None and self.pointer.goal.manifest == goal.manifest

    @property
    def waiting_for(self) -> str:
        """What stands between this state and the next, for the report."""
        if self._undone is not None or self._unresumed:
            return "the disk, which did not take the last step; it is tried again"
        unsigned = "signed metadata that name the version" if self._preparing.unsigned else ""
        gap = "the new model; the old one made room for it" if self.in_gap else ""
        return unsigned or self._hold.reason or gap

    @property
    def in_gap(self) -> bool:
        """No model answers, on purpose."""
        return self._starting.gap.open

    def needs(self) -> set[str]:
        """Manifests whose bundles and chunks must stay."""
        wanted = self.state is not State.FAILED or self._retry_at < _NEVER
        goals = [running.goal for running in self.workers.all()]
        goals += previous.kept(self.pointer, self.row.goal)
        goals += [self.row.goal] if self.row.goal is not None and wanted else []
        return {goal.manifest for goal in goals}

    def link_up(self, now: float) -> None:
        """The hub can be asked again for a permit."""
        self._hold.link_up(now)

    def look(self, now: float) -> None:
        """What a swap waits for may be gone."""
        candidate = self.workers.candidate
        if self.state is State.STAGED:
            self._wait(now)
        elif self.state is State.STARTING and candidate is not None and candidate.ready:
            self._candidate_ready(now)
        elif self._starting.waits:
            self._do(Act.START, now)

    def stop(self) -> None:
        """Every worker ends and nothing is begun any more: the next start goes on."""
        self._stopped = True
        self.workers.stop()

    def fetched(self, now: float) -> None:
        """Every chunk of the goal's bundle is in the store."""
        self._advance(Cause.FETCHED, now)

    def fault(self, refusal: Refusal, detail: str, now: float) -> None:
        """The goal in hand is refused, or rolled back, for this reason; what is committed stays."""
        if self.state is State.COMMITTED:
            return
        self._advance(Cause.FAULT, now, refusal=refusal, detail=journal.short(detail))

    def metadata_came(self, now: float) -> None:
        """The catalogue may sign now what it did not."""
        if self._preparing.unsigned:
            self._fetch(now)
        elif self.row.refusal in OF_METADATA:
            self.retry(now)

    def retry(self, now: float) -> None:
        """What stood in the way may be gone: try before the pause ends."""
        if self._retry_at < _NEVER:
            self._retry_at = _NEVER
            self._advance(Cause.RETRY, now)

    def tick(self, now: float) -> None:
        """Do what is due."""
        if self._stopped:
            return
        self.take(self.workers.tick(now), now)  # First: what serves needs no disk.
        if self._unresumed:
            self._go_on(now)
        if self._undone is not None:
            self._do(self._undone, now)
        self.take(self._ended.due(now), now)
        if now >= self._retry_at:
            self.retry(now)
        if self._preparing.overdue(now):
            self._unsigned(now)
        if now >= self._mark_at:
            self._mark(now)
        if now >= self._hold.look_at:
            self.look(now)
        if now >= self._starting.gap.until:
            self.fault(Refusal.START_TIMEOUT, "not ready within the gap its manifest allows", now)
        self._prepare(now)
        self.judge(now)

    def take(self, notes: Iterable[w.Note], now: float) -> None:
        """What the slot's workers have to say."""
        for note in notes:
            match note:
                case w.CandidateReady():
                    self._candidate_ready(now)
                case w.CandidateFailed(from_outside=True) | w.Crashed(from_outside=True):
                    self._ended.hold(note, now)
                    self._mark_at = _NEVER
                    self.take(self.workers.restore(now), now)  # It answers meanwhile.
                case w.CandidateFailed(refusal, detail):
                    self.fault(refusal, detail, now)
                case w.Crashed(detail):
                    self._crashed(detail, now)
                case w.ChampionServes():
                    self._advance(Cause.RESTORED, now)
                    self._gap_over(now)
                case w.ChampionDied():
                    self._champion_died(note, now)
                case _:
                    assert_never(note)
            if self._starting.waits and isinstance(note, w.ChampionServes | w.ChampionDied):
                self._do(Act.START, now)

    def judge(self, now: float) -> None:
        """Look at the probation, or at what came after, with the latest counts."""
        if self.state is State.COMMITTED:
            self._demote(self._late.look(self.pointer, self.workers.champion), now)
        candidate = self.workers.candidate
        if not self._proving.running or candidate is None:
            return
        verdict = self._proving.judge(candidate.counts, self._goal(), self.pointer, now)
        if verdict is Cause.PASSED:
            self._advance(Cause.PASSED, now, **self._proving.tally(now).changes())
        elif verdict is not None:
            self.fault(*verdict, now)

    # Persist, then act

    def _advance(self, cause: Cause, now: float, **changes: Any) -> None:
        before, target = self.state, following(self.state, cause)
        if target is None:
            return
        row = journal.next_row(self.row, target, cause, changes)
        pointer = previous.next_pointer(self.pointer, before, cause, row.goal, self._ports.stamp())
        kind = journal.event_kind(before, target, self.row, row)
        took = self._times.left(before, now, said=kind is not None)
        with self._taken_up_again(now), self._ports.database.transaction():
            if pointer is not None and pointer is not self.pointer:
                self._ports.database.put_pointer(self.slot, pointer)
            if kind is not None:
                self._ports.report(event(kind, self.slot, row, self._ports.stamp(), **took))
            self._ports.database.put_journal(self.slot, row)
        self.row, self.pointer, self._unresumed = row, pointer, False
        log.debug("%s: %s, %s: %s", self.slot, before, cause, target)
        self._leave(now)
        if target is State.FAILED:
            self._schedule_retry(now)
        self._ports.changed()
        self._do(ON_ENTRY[target], now)

    @contextmanager
    def _taken_up_again(self, now: float) -> Iterator[None]:
        """When a step can't be written, what led to it is done once more at a later tick."""
        try:
            yield
        except sqlite3.Error:
            if self.in_gap:
                self._starting.gap.unbounded()
                self.workers.restore(now)
            if self._unresumed:
                pass  # A later tick resumes it as a whole.
            elif self.state is not State.PROBATION or self.workers.candidate is None:
                self._undone = ON_RESUME[self.state]
                if self._proving.running:
                    # The candidate is gone: the champion answers meanwhile, and no probation runs.
                    self._proving.clear()
                    self.workers.restore(now)
            self._ports.settled()
            raise

    def _do(self, act: Act, now: float) -> None:
        if self._stopped:
            return
        self._undone = act
        self._acts[act](now)
        self._undone = None

    def _persist(self, row: JournalRow) -> None:
        self._ports.database.put_journal(self.slot, row)
        self.row = row

    def _leave(self, now: float) -> None:
        """Whatever the old state had going stops; the new state's act starts its own."""
        self._proving.clear()
        self._ended.clear()
        self._starting.waits = False
        if self.state is not State.PROBATION:
            self._starting.gap.unbounded()
        self._mark_at = self._retry_at = _NEVER
        self._hold.clear()
        self._preparing.clear(now)

    # Acts

    def _rest(self, _now: float) -> None:
        pass

    def _clean(self, now: float) -> None:
        self.take(self.workers.restore(now), now)
        self._ports.settled()

    def _fetch(self, now: float) -> None:
        """Nothing is fetched that the release keys did not sign; metadata may still be coming."""
        goal = self._goal()
        if self.workers.candidate is not None or self.workers.alone:
            # It was started for another goal: its end must not be taken for this one's failure.
            self.take(self.workers.restore(now), now)
        if self._preparing.fetch(goal, self._verdict(), now):
            self._mark_at = now + MARK_SECONDS

    def _unsigned(self, now: float) -> None:
        verdict = self._verdict()
        if verdict is None:
            self._fetch(now)
        elif not self._preparing.ask_again(now):
            self.fault(*verdict, now)

    def _assemble(self, _now: float) -> None:
        self._preparing.assemble(self._goal())

    def _wait(self, now: float) -> None:
        goal = self._goal()
        # A repair of what runs already disturbs nobody.
        if self.has_committed(goal) or self._hold.may_start(goal, self.row.generation, now):
            self._advance(Cause.PERMITTED, now)

    def _candidate_ready(self, now: float) -> None:
        asked = self.state is State.STARTING and not self.has_committed(self._goal())
        if self.in_gap or not asked or self._hold.may_serve(now):
            verdict = self._verdict() if asked else None
            if verdict is not None:  # It may have been retired while it waited.
                self.fault(*verdict, now)
            else:
                self._advance(Cause.READY, now)

    def _start(self, now: float) -> None:
        self._ended.clear()
        verdict = self._verdict() if self.state is State.STARTING else None
        if verdict is not None:
            self.fault(*verdict, now)
            return
        anyhow = self.state is State.PROBATION
        self.take(self._starting.begin(self._goal(), now, anyhow=anyhow), now)

    def _gap_over(self, now: float) -> None:
        if (seconds := self._starting.over(now)) is not None:
            total = self.row.gap_seconds + seconds
            self._persist(msgspec.structs.replace(self.row, gap_seconds=total))

    def _note(self, detail: str, **values: float) -> None:
        row = msgspec.structs.replace(self.row, detail=journal.short(detail))
        self._ports.report(event("note", self.slot, row, self._ports.stamp(), **values))
        self._ports.changed()

    def _swap(self, now: float) -> None:
        try:
            bounds = self._ports.install.manifest(self._goal()).probation
        except (ChunksMissing, StoreRefused) as error:
            self.fault(Refusal.FILE_MISMATCH, str(error), now)
            return
        self.workers.swap()
        champion = self.workers.champion
        self._gap_over(now)
        before = champion.counts if champion is not None else self.workers.replaced
        self._proving.begin(bounds, self.row, now, before)
        self._mark_at = now + MARK_SECONDS
        self.judge(now)

    def _commit(self, now: float) -> None:
        goal = self._goal()
        self._ports.database.checkpoint()
        self._ports.links.point(self.slot, goal.manifest)
        self.take(self.workers.promote(goal, now), now)
        self._ports.settled()

    def _restore(self, now: float) -> None:
        self.take(self._late.restore(self.workers, self.pointer, now), now)

    def _goal(self) -> Goal:
        assert self.row.goal is not None, "every state but IDLE and ROLLING_BACK has a goal"
        return self.row.goal

    # Within a state

    def _prepare(self, now: float) -> None:
        outcome = self._preparing.step()
        if isinstance(outcome, Cause):
            self._advance(outcome, now)
        elif outcome is not None:
            self.fault(*outcome, now)

    def _mark(self, now: float) -> None:
        """Write progress down, so that a restart knows there was some."""
        self._mark_at = now + MARK_SECONDS
        if self._proving.running:
            changes = self._proving.mark(self._goal(), self.pointer, now)
            if isinstance(changes, tuple):
                self.fault(*changes, now)
            else:
                self._persist(msgspec.structs.replace(self.row, **changes))
            return
        done = self._preparing.progress()
        if done > self.row.mark:
            self._persist(msgspec.structs.replace(self.row, mark=done))

    def _crashed(self, detail: str, now: float) -> None:
        """The candidate died after it was ready: the champion takes over at once."""
        crashes = self.row.probation_crashes + 1
        try:
            allowed = self._ports.install.manifest(self._goal()).probation.crashes_max
        except (ChunksMissing, StoreRefused):
            allowed = 0
        if not self._proving.running or crashes > allowed:
            self.fault(Refusal.PROBATION_CRASHED, detail, now)
            return
        tally = self._proving.tally(now).changes()
        row = msgspec.structs.replace(self.row, probation_crashes=crashes, **tally)
        with self._taken_up_again(now):
            self._persist(row)
        self._leave(now)
        self.take(self._starting.again(self._goal(), now), now)

    def _champion_died(self, note: w.ChampionDied, now: float) -> None:
        if note.failures.bit_count() == 1:  # The 1st, 2nd, 4th, … in a row are told.
            row = journal.died(self.row, note.goal, note.refusal, journal.short(note.detail))
            self._ports.report(event("worker_died", self.slot, row, self._ports.stamp()))
        self._ports.changed()
        if self.state is State.COMMITTED:
            self._demote(self._late.died(self.pointer, note), now)
        if note.refusal is not Refusal.FILE_MISMATCH:
            return
        if self.state is State.ROLLING_BACK:
            # Nothing can be restored; at rest, the champion's next failure has it fetched anew.
            self._advance(Cause.DAMAGED, now)
        elif self.state in _AT_REST:
            # The bundle has rotted on the disk: what was committed is fetched anew.
            self._ports.install.store.discard(note.goal.manifest)
            self._advance(Cause.GOAL, now, goal=note.goal, generation=self.row.generation)

    def _demote(self, evidence: tuple[Refusal, str] | None, now: float) -> None:
        if evidence is not None:
            self._advance(Cause.FAULT, now, refusal=evidence[0], detail=journal.short(evidence[1]))

    def _verdict(self) -> tuple[Refusal, str] | None:
        """Why the goal in hand may not be installed; what is committed may be repaired."""
        goal = self._goal()
        return None if self.has_committed(goal) else self._ports.verdict(goal)

    def _schedule_retry(self, now: float) -> None:
        if self.row.refusal not in PASSING:
            return
        pause = journal.retry_pause(self.row, *self._ports.retry_seconds)
        self._retry_at = now + pause * self._ports.rng.uniform(0.75, 1.25)
