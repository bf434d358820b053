"""Loops in a seed: months of two models that drift, a pipeline and people that can't be relied on.

The real decisions, rows, trainings and database; time, the orchestrator and people are doubles.
"""

import random
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select

from muster_hub.errors import Conflict
from muster_hub.loop import loop_step, loops
from muster_hub.loop.decide import MONTH_SECONDS, seconds_of
from muster_hub.loop.pipelines.base import Order, PipelineFault, Run
from muster_hub.loop.trainings import Trainings
from muster_hub.settings.loop import DAY_SECONDS, ENDED, LoopTerms
from muster_hub.storage.models import Alert, Device, Model, Rollout, Version
from muster_hub.storage.registry import LoopRow
from sim.hub import HubStore, fresh_store
from sim.watch import Violation
from support.tuf_repository import NOW

HOUR_SECONDS = 3600.0
MODELS = ("pump", "fan")
DEVICES = ("dev-0", "dev-1", "dev-2")
STEPS = 220
"""Of hours to a day each: some four months."""
QUIET_DAYS = 40
"""At the end nobody does anything: longer than all deadlines of a loop together."""
PAUSES_SECONDS = (0.3 * HOUR_SECONDS, 2 * HOUR_SECONDS, 8 * HOUR_SECONDS, DAY_SECONDS)


@dataclass(frozen=True)
class LoopDoubles:
    """What a careless hub would have instead; as they are: the real ones."""

    terms: Callable[[LoopTerms], LoopTerms] = lambda terms: terms
    trainings: type[Trainings] = Trainings
    start: Callable[..., LoopRow] = loops.start


@dataclass(frozen=True)
class LoopOutcome:
    """What a world came to."""

    seed: int
    violation: Violation | None
    counts: Counter[str]


class Orchestrator:
    """Runs by their keys. It is down at times, loses answers, and forgets a run or its DAG."""

    asks = True

    def __init__(self, world: "LoopWorld") -> None:
        self._world = world
        self.down = False
        self.states: dict[str, str] = {}
        self.started: dict[int, list[Order]] = {}

    def lacks(self, _terms: LoopTerms) -> str:
        return ""

    def start(self, _terms: LoopTerms, _secret: str, order: Order) -> Run:
        chance = self._world.chance
        if self.down:
            raise PipelineFault("nobody answers")
        if chance.random() < 0.05:
            raise PipelineFault("no such DAG", final=True)
        if order.key not in self.states:
            self.states[order.key] = "running"
            self.started.setdefault(order.body["loop"], []).append(order)
        if chance.random() < 0.2:
            raise PipelineFault("the answer was lost")
        return self.look(_terms, _secret, order.key)

    def look(self, _terms: LoopTerms, _secret: str, run: str) -> Run:
        if self.down:
            raise PipelineFault("nobody answers")
        state = self.states[run]
        return Run(run, "failed" if state == "failed" else
                   "succeeded" if state == "succeeded" else "running")  # fmt: skip


class LoopWorld:
    """One seed. ``run`` lives it to its end, or to the first broken promise."""

    def __init__(self, seed: int, doubles: LoopDoubles | None = None) -> None:
        self.chance = random.Random(seed)
        self.now = NOW
        self.counts: Counter[str] = Counter()
        self._seed = seed
        self._doubles = doubles or LoopDoubles()
        self._honest = {model: self._drawn(model) for model in MODELS}
        self._terms = tuple(map(self._doubles.terms, self._honest.values()))
        self._orchestrator = Orchestrator(self)
        self._known: dict[int, tuple[str, float | None]] = {}
        self._versions = 0

    def run(self) -> LoopOutcome:
        self.store = fresh_store(HubStore)
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "secret").write_text("s")
            self._folder = Path(folder)
            self._restart()
            violation = None
            try:
                self._live()
            except Violation as found:
                violation = found
        return LoopOutcome(self._seed, violation, self.counts)

    def _drawn(self, model: str) -> LoopTerms:
        uniform = self.chance.uniform
        return LoopTerms(
            model=model, pipeline="airflow3", url="http://airflow.test", dag="train",
            secret_file="secret", approval=self.chance.random() < 0.7,
            drift_devices=self.chance.randint(1, 2),
            drift_after_seconds=uniform(0, 12) * HOUR_SECONDS,
            cooldown_seconds=uniform(2, 8) * DAY_SECONDS,
            runs_per_30_days=self.chance.randint(1, 3),
            approval_seconds=uniform(1, 4) * DAY_SECONDS, training_seconds=DAY_SECONDS,
            checking_seconds=0.5 * DAY_SECONDS, signing_seconds=5 * DAY_SECONDS,
            rollout_seconds=8 * DAY_SECONDS,
        )  # fmt: skip

    def _restart(self) -> None:
        self._trainings = self._doubles.trainings(
            self.store, self._terms, self._folder, hub_url="https://hub.test",
            now=lambda: self.now, uniform=self.chance.uniform,
            pipelines={"airflow3": self._orchestrator},
        )  # fmt: skip

    def _live(self) -> None:
        with self.store.write() as session:
            session.add_all(Device(id=name, created=self.now) for name in DEVICES)
            session.add_all(Model(name=model, created=self.now) for model in MODELS)
        acts: Sequence[tuple[float, Callable[[str], None]]] = (
            (0.12, self._drifts), (0.12, self._drift_goes), (0.5, self._approves),
            (0.04, self._abandons), (0.06, self._opens_by_hand), (0.5, self._trains),
            (0.7, self._checks), (0.4, self._signs), (0.4, self._rolls_out),
            (0.5, self._rollout_ends), (0.04, self._weather),
        )  # fmt: skip
        for _ in range(STEPS):
            self.now += self.chance.choice(PAUSES_SECONDS) * self.chance.uniform(0.5, 1.0)
            for model in MODELS:
                for odds, act in acts:
                    if self.chance.random() < odds:
                        act(model)
            if self.chance.random() < 0.05:
                self._restart()
            self._step()
        for _ in range(2 * QUIET_DAYS):
            self.now += DAY_SECONDS / 2
            self._step()
        with self.store.read() as session:
            left = session.exec(select(LoopRow).where(col(LoopRow.ended).is_(None))).all()
        # Drift that stands may have opened one lately, which still waits for its approval.
        stuck = [row.id for row in left if self.now - row.opened > QUIET_DAYS * DAY_SECONDS]
        self._expect(not stuck, "each loop ends", f"loops {stuck} are open after {QUIET_DAYS} days")

    def _step(self) -> None:
        with self.store.write() as session:
            loop_step.step(session, self._terms, self.now)
        self._trainings.do_due()
        self._check()

    # What the world does

    def _drifts(self, model: str) -> None:
        with self.store.write() as session:
            for name in self.chance.sample(DEVICES, self.chance.randint(1, len(DEVICES))):
                self.counts["drift"] += 1
                session.add(
                    Alert(key=f"{model}/{name}/{self.counts['drift']}", kind="drift",
                          severity="warning", state="open", opened=self.now, updated=self.now,
                          title="flow", device=name, detail={"model": model})
                )  # fmt: skip

    def _drift_goes(self, model: str) -> None:
        with self.store.write() as session:
            for row in session.exec(select(Alert).where(col(Alert.state) == "open")):
                if row.detail["model"] == model and self.chance.random() < 0.8:
                    row.state = "resolved"
                    session.add(row)

    def _weather(self, _model: str) -> None:
        self._orchestrator.down = not self._orchestrator.down

    def _trains(self, model: str) -> None:
        """A run ends: with a candidate, with one that nobody names, or with none."""
        with self.store.write() as session:
            row = loops.open_of(session, model)
            if row is None or row.state != "training" or row.id not in self._orchestrator.started:
                return
            key = self._orchestrator.started[row.id][0].key
            match self.chance.choice(("works", "works", "fails", "is lost", "hangs")):
                case "works":
                    version = self._pushed(session, model)
                    session.flush()
                    loops.name_candidate(session, row, version, "token:ci", self.now)
                    self._orchestrator.states[key] = "succeeded"
                case "fails":
                    self._orchestrator.states[key] = "failed"
                case "is lost":
                    self._pushed(session, model)
                    self._orchestrator.states[key] = "succeeded"

    def _pushed(self, session: object, model: str) -> str:
        self._versions += 1
        name = str(self._versions)
        session.add(  # type: ignore[attr-defined]  # a Session
            Version(model=model, version=name, manifest_sha256=f"{self._versions:064}",
                    manifest=b"{}", status="checking", size_bytes=1, created=self.now,
                    created_by="token:ci")
        )  # fmt: skip
        return name

    def _checks(self, model: str) -> None:
        self._moves(model, "checking", ("awaiting_signatures", "awaiting_signatures", "rejected"))

    # What people do, or don't

    def _signs(self, model: str) -> None:
        self._moves(model, "awaiting_signatures", ("published",))

    def _moves(self, model: str, before: str, after: Sequence[str]) -> None:
        with self.store.write() as session:
            for row in session.exec(
                select(Version).where(Version.model == model, Version.status == before)
            ):
                row.status = self.chance.choice(after)
                session.add(row)

    def _approves(self, model: str) -> None:
        with self.store.write() as session:
            row = loops.open_of(session, model)
            if row is not None and row.state == "wanted" and not row.approved_by:
                loops.approve(session, row, "person:olga", self.now)

    def _abandons(self, model: str) -> None:
        with self.store.write() as session:
            row = loops.open_of(session, model)
            if row is not None:
                loops.abandon(session, row, "person:olga", "not now", self.now)

    def _opens_by_hand(self, model: str) -> None:
        terms = next(terms for terms in self._terms if terms.model == model)
        try:
            with self.store.write() as session:
                self._doubles.start(session, terms, reason="by hand", by="person:olga",
                                    now=self.now)  # fmt: skip
        except Conflict:
            self.counts["refused by hand"] += 1
        except IntegrityError as error:
            raise Violation("one loop a model", f"the database refused: {error}") from None

    def _rolls_out(self, model: str) -> None:
        with self.store.write() as session:
            row = loops.open_of(session, model)
            if row is not None and row.state == "rollout" and row.rollout is None:
                session.add(
                    Rollout(model=model, version=row.version, manifest="", slot="main",
                            selector="", state="running", created=self.now, created_by="olga",
                            updated=self.now)
                )  # fmt: skip

    def _rollout_ends(self, model: str) -> None:
        with self.store.write() as session:
            for row in session.exec(
                select(Rollout).where(Rollout.model == model, col(Rollout.state) == "running")
            ):
                row.state = self.chance.choice(("completed", "completed", "stopped", "rolled_back"))
                session.add(row)

    # What must hold

    def _check(self) -> None:
        with self.store.read() as session:
            rows = session.exec(select(LoopRow).order_by(col(LoopRow.id))).all()
            rollouts = {row.id: row.state for row in session.exec(select(Rollout))}
        for model, terms in self._honest.items():
            own = [row for row in rows if row.model == model]
            still = [row.id for row in own if row.ended is None]
            self._expect(len(still) <= 1, "one loop a model", f"{model}: loops {still} are open")
            for row in own:
                before = [other for other in own if other.id < row.id]
                if row.id not in self._known:
                    self._opened(terms, row, before)
                self._stands(terms, row, rollouts)

    def _opened(self, terms: LoopTerms, row: LoopRow, before: Sequence[LoopRow]) -> None:
        self.counts["opened"] += 1
        last = max((other.ended or 0.0 for other in before), default=0.0)
        self._expect(row.opened - last >= terms.cooldown_seconds, "the cool-down is kept",
                     f"loop {row.id} opened {row.opened - last:.0f} s after the last")  # fmt: skip
        recent = [o for o in before if o.run and o.opened >= row.opened - MONTH_SECONDS]
        self._expect(len(recent) < terms.runs_per_30_days, "the budget is kept",
                     f"loop {row.id} opened after {len(recent)} trainings")  # fmt: skip

    def _stands(self, terms: LoopTerms, row: LoopRow, rollouts: dict[int | None, str]) -> None:
        known = self._known.get(row.id)
        if known is not None and known[1] is not None:
            self._expect(known == (row.state, row.ended), "what has ended stays as it is",
                         f"loop {row.id} was {known[0]} and is {row.state}")  # fmt: skip
        elif row.ended is not None:
            self.counts[row.state] += 1
            done = row.state != "closed" or rollouts.get(row.rollout) == "completed"
            self._expect(done, "a loop closes with its rollout", f"loop {row.id}")
        if row.state not in ENDED:
            over = self.now - row.since - seconds_of(terms, row.state)
            self._expect(over <= 0, "no state outlasts its deadline",
                         f"loop {row.id} is {row.state}, {over:.0f} s too long")  # fmt: skip
        runs = self._orchestrator.started.get(row.id, [])
        self._expect(len(runs) <= 1, "a loop trains once",
                     f"loop {row.id}: {[order.key for order in runs]}")  # fmt: skip
        people = [order.body["approved_by"] for order in runs if terms.approval]
        self._expect(all(name.startswith("person:") for name in people),
                     "a person approves each training", f"loop {row.id}: {people}")  # fmt: skip
        self._known[row.id] = row.state, row.ended

    def _expect(self, holds: bool, promise: str, found: str) -> None:
        if not holds:
            raise Violation(promise, found)
