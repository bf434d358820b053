"""The engine's tick and its thread."""

import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Protocol, TypeVar

from sqlmodel import Session, col, delete

from muster_hub.alerts import open_step
from muster_hub.alerts import step as telling_step
from muster_hub.alerts.claims import Claims
from muster_hub.alerts.doubts import Doubts
from muster_hub.alerts.rules import AlertChanges
from muster_hub.alerts.troubles import Troubles
from muster_hub.fleet import set_aside
from muster_hub.fleet.fleet import Fleet
from muster_hub.fleet.known import HEARD_SECONDS, Known
from muster_hub.heartbeats import Heartbeats
from muster_hub.loop import loop_step
from muster_hub.monitoring import drift_step, rollup_step
from muster_hub.reconcile import behind, lease
from muster_hub.reconcile.behind import Behind
from muster_hub.reconcile.directives import Directives, SignsDirectives
from muster_hub.reconcile.terms import DirectiveTerms
from muster_hub.registry.published import Bundles
from muster_hub.rollouts import permit_step
from muster_hub.rollouts import step as rollout_step
from muster_hub.rollouts.gates import readings
from muster_hub.rollouts.step import Moves, Rollouts
from muster_hub.sampling import policies
from muster_hub.settings.alerts import Alerts
from muster_hub.settings.loop import LoopTerms
from muster_hub.settings.retention import Telemetry
from muster_hub.signing.catching_up import CaughtUp
from muster_hub.storage import faults, models, partitions
from muster_hub.storage.care import Care
from muster_hub.storage.store import Store

TICK_SECONDS = 1.0
STEP_SECONDS_MIN = 0.05
CALM_SECONDS = 0.5
"""Between steps while nothing moves: each looks at all that was said in the last seconds, and what
devices say on a usual day needs no answer at once. An operator's change doesn't wait for it."""
"""Between two steps at least, however much devices tell."""
LEASE = "engine"
REVIEW_SECONDS = 30.0
"""Directives are looked through this often even when nothing is known to have changed."""
ALERTS_SECONDS = 5.0
"""Alerts are brought in line with what is known this often."""
ROLLUP_SECONDS = 10.0
HOUSEKEEPING_SECONDS = 60.0
DAY_SECONDS = 86_400.0
FORGET_SECONDS = 5.0
"""Of a minute at most, what is old is deleted."""
SILENT_SECONDS = 300.0
"""A step that takes longer hangs; housekeeping comes once a minute."""
CAREFUL_SECONDS = 60.0
"""For so long after something failed its part takes every row by itself."""
PARTS = (
    "fleet", "rollouts", "grants", "directives", "drift", "alerts", "notices", "rollup",
    "loops", "sampling",
    "catalogue", "claims", "housekeeping",
)  # fmt: skip
Done = TypeVar("Done")
PUBLISHED_KEPT_SECONDS = 3600.0

_log = logging.getLogger(__name__)
_random = random.SystemRandom()


class Catalogue(Protocol):
    """The catalogue, as far as the engine keeps it going."""

    @property
    def director_epoch(self) -> int:
        """Devices ignore directives of any other epoch."""
        ...

    def refresh(self, now: float) -> bool:
        """Sign what is due; True when something was."""
        ...

    def ahead(self, reported: Mapping[str, int]) -> dict[str, int]:
        """Roles of which devices report a version above the hub's, and by how much."""
        ...

    def caught_up(self) -> CaughtUp | None:
        """When the hub last took over such versions; None: never."""
        ...


class _Standby(Exception):
    """Another engine holds the lease."""


class Engine:
    """One acts per database, by a lease; others stand by. ``step`` is the whole of a tick.

    ``holder`` names this engine in the lease: one of the same name that is started later takes over
    at once. The lease goes by ``lease_clock``, else by ``now``. ``on_published`` is called when
    messages wait to be published. Without ``telemetry`` no window is ever deleted.
    ``listening_seconds``: for how long all that devices said has been heard, without a break.
    """

    def __init__(
        self,
        store: Store,
        catalogue: Catalogue,
        signing: SignsDirectives,
        bundles: Bundles,
        settings: DirectiveTerms,
        *,
        holder: str = "engine",
        on_published: Callable[[], None] = lambda: None,
        alerts: Alerts | None = None,
        expiries: Callable[[], dict[str, float]] = dict,
        telemetry: Telemetry | None = None,
        loops: Sequence[LoopTerms] = (),
        now: Callable[[], float] = time.time,
        lease_clock: lease.Clock | None = None,
        heartbeats: Heartbeats | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        listening_seconds: Callable[[], float] = lambda: float("inf"),
    ) -> None:
        self.bundles = bundles
        self._store = store
        self._catalogue = catalogue
        self._settings = settings
        self._on_published = on_published
        self._alerts = alerts or Alerts()
        self._expiries = expiries
        self._telemetry = telemetry
        self._loops = tuple(loops)
        self._now = now
        self._holder = holder
        self._lease_clock = lease_clock or (lambda _session: now())
        self._epoch = lease.NONE
        self._fleet = Fleet()
        self._rollouts = Rollouts()
        self._directives = Directives(signing, settings)
        self._leading = False
        self._dirty = threading.Event()
        self._dirty.set()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._roles: dict[str, float] = {}
        self._reviewed = self._alerted = self._rolled = self._kept_house = float("-inf")
        self._monotonic = monotonic
        beats = heartbeats or Heartbeats(monotonic)
        self._part = beats.part("engine", SILENT_SECONDS)
        self._parts = {name: beats.part(f"engine/{name}", SILENT_SECONDS) for name in PARTS}
        self._epochs_forgotten = float("-inf")
        self._careful: dict[str, float] = {}
        self._changed: set[str] = set()
        self._doubtful: set[str] = set()
        self._doubts = Doubts()
        self._behind = Behind()
        self._troubles = Troubles()
        self._calm = False
        """Nothing moved in the last step."""
        self._listening_seconds = listening_seconds
        self._claims = Claims()
        run = self._part.watching(self._run)
        self._thread = threading.Thread(target=run, name="engine", daemon=True)

    def start(self) -> None:
        """Begin to act while it holds the lease, on a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and give the lease back."""
        self._stopping.set()
        self.changed()
        self._thread.join()
        with self._store.write() as session:
            lease.release(session, LEASE, self._epoch)

    @property
    def epoch(self) -> int:
        """The number of its term; ``lease.NONE`` while another engine acts."""
        return self._epoch if self._leading else lease.NONE

    def wake(self) -> None:
        """Something was committed that may change a decision. Never blocks."""
        self._wake.set()

    def step(self) -> bool:
        """Look, decide, persist; then let the publisher know. False while another engine acts.

        Each part of it is a transaction of its own, so that one that fails holds up no other; a
        part that has nothing to do only reads, and what it reads is what changed. What passes, such
        as a busy database, is raised.
        """
        now = self._now()
        review = now - self._reviewed >= REVIEW_SECONDS or now < self._reviewed
        dirty = self._dirty.is_set()
        self._dirty.clear()
        try:
            dirty |= self._lead()
            judges = self._listening_seconds() >= HEARD_SECONDS
            fresh = self._do(
                "fleet",
                lambda session, _: self._fleet.follow(session, now, judges_silence=judges),
                reads=True,
            )
            if fresh is None:
                self._dirty.set()
                return True
            self._changed |= fresh
            self._doubtful |= fresh
            known, force = self._fleet.known, dirty or review
            self._decide(known, now, force=force)
            if review:
                self._reviewed = now
            self._watch(known, now, force=force)
        except _Standby:
            self._forget_all()
            self._part.beat()
            for part in self._parts.values():
                part.alive()
            return False
        except BaseException:
            self._forget_all()
            raise
        self._keep_house(known, now)
        self._part.beat()
        return True

    def _lead(self) -> bool:
        """Take or keep the lease; whether another may have had it, so that nothing is known.

        Raises _Standby while another engine has it.
        """
        with self._store.read() as session:
            clock = self._lease_clock(session)
            if self._leading and lease.kept(session, LEASE, self._holder, self._epoch, clock):
                return False
        with self._store.write() as session:
            epoch = self._take(session)
        if epoch == lease.NONE:
            raise _Standby
        anew = epoch != self._epoch or not self._leading
        if anew:
            self._forget_all()
            self._dirty.clear()
            self._epoch, self._leading = epoch, True
        return anew

    def _take(self, session: Session) -> int:
        clock = self._lease_clock(session)
        return lease.take(session, LEASE, self._holder, self._epoch, clock)

    def _forget_all(self) -> None:
        """What is known may be wrong: read it anew in the next step."""
        self._leading = False
        self._fleet.forget()
        self._rollouts.forget()
        self._directives.forget()
        self._troubles.forget()
        self._dirty.set()

    def _decide(self, known: Mapping[str, Known], now: float, *, force: bool) -> None:
        """Rollouts, leave to swap, and the directives that follow."""
        window_seconds = self._settings.window_seconds
        changed, self._changed = self._changed, set()
        moves: Moves | None = Moves()
        if self._do(
            "rollouts", lambda session, _: rollout_step.any_moves(session, now), reads=True
        ):
            moves = self._do(
                "rollouts",
                lambda session, care: self._rollouts.step(
                    session, known, changed, now, window_seconds, care, force=force
                ),
            )
        if moves is None:
            self._rollouts.forget()
            moves = Moves(terms=True)
        issued = None
        if self._do(
            "grants", lambda session, _: permit_step.is_due(session, known, now), reads=True
        ):
            issued = self._do(
                "grants", lambda session, care: permit_step.step(session, known, now, care)
            )
        self._directives.changed(changed | moves.devices)
        issued = (issued or 0) + self._direct(known, now, review=force or moves.terms)
        issued += self._send_again(changed, known, now)
        self._calm = not (issued or force or moves.devices or moves.terms)
        if issued:
            self._on_published()

    def _send_again(self, changed: Collection[str], known: Mapping[str, Known], now: float) -> int:
        """Of devices of which something is new, to those that go by an older one; how many."""
        late = self._behind.look(changed, known, self._directives.held, now)
        if not late:
            return 0
        done = self._do("directives", lambda session, _: behind.send(session, late, now))
        if done:
            self._behind.sent(late, now)
        return done or 0

    def _direct(self, known: Mapping[str, Known], now: float, *, review: bool) -> int:
        """Directives for all that need another, a few in each transaction; how many."""
        held, epoch = self._directives, self._catalogue.director_epoch
        if review and not self._do(
            "directives", lambda session, _: held.review(session, known, epoch, now), reads=True
        ):
            self._dirty.set()
            return 0
        issued = 0
        while held.waiting:
            draft = self._do(
                "directives", lambda session, care: held.look(session, known, now, care), reads=True
            )
            if draft is not None and draft.writes:
                done = self._do("directives", partial(held.persist, draft=draft, now=now))
            else:
                done = 0 if draft is not None else None
            if draft is None or done is None:
                self._dirty.set()
                break
            # Rollouts hear in the next step of the generations that asked their devices.
            self._changed.update(held.committed(draft))
            if done:
                self._on_published()
                issued += done
        return issued

    def _watch(self, known: Mapping[str, Known], now: float, *, force: bool) -> None:
        """Drift, alerts, who is notified of them, hours and days."""
        if self._do("drift", lambda session, _: drift_step.is_due(session), reads=True):
            self._judge(now)
        if force or not 0 <= now - self._alerted < ALERTS_SECONDS:
            self._alerted = now
            changes = self._do(
                "alerts",
                lambda session, care: self._troubled(session, care, known, now),
                reads=True,
            )
            if changes:
                self._do("alerts", lambda session, _: open_step.persist(session, changes, now))
            self._do("notices", lambda session, _: telling_step.step(session, self._alerts, now))
            if self._do(
                "loops", lambda session, _: loop_step.is_due(session, self._loops), reads=True
            ):
                self._do("loops", lambda session, _: loop_step.step(session, self._loops, now))
            if self._do("sampling", lambda session, _: policies.is_due(session, now), reads=True):
                self._do("sampling", lambda session, _: policies.expire(session, now))
                self._dirty.set()
        if force or not 0 <= now - self._rolled < ROLLUP_SECONDS:
            added = self._do(
                "rollup", lambda session, care: rollup_step.step(session, self.bundles, now, care)
            )
            self._rolled = float("-inf") if added else now

    def _judge(self, now: float) -> None:
        """Windows that came in, a few in each transaction; what failed is said before more is."""
        for _ in range(0, drift_step.STEP_ROWS_MAX, drift_step.ROWS_MAX):
            taken = self._do(
                "drift", lambda session, care: drift_step.step(session, self.bundles, now, care)
            )
            if taken != drift_step.ROWS_MAX or not self._parts["drift"].standing().ok:
                return

    def _troubled(
        self, session: Session, care: Care, known: Mapping[str, Known], now: float
    ) -> AlertChanges:
        """Troubles are looked for anew only where something changed; the claims of devices too."""
        self._troubles.look(known, self._doubtful, care)
        self._doubts.look(session, known, self._doubtful)
        self._doubtful = set()
        doubts = self._doubts.conditions() + self._claims.conditions(now)
        return open_step.look(
            session, self._troubles, known, now, roles=self._roles, doubts=doubts,
            listening_seconds=self._listening_seconds(),
        )  # fmt: skip

    def _do(
        self, name: str, work: Callable[[Session, Care], Done], *, reads: bool = False
    ) -> Done | None:
        """One part of a step, again with care when its data make it fail: in a transaction, or in
        a session that only ``reads``.

        None when it fails even so: then it is undone as a whole, and said. Raises what passes.
        """
        part = self._parts[name]
        moment = self._monotonic()
        lately = moment - self._careful.get(name, float("-inf")) < CAREFUL_SECONDS
        for careful in (True,) if lately else (False, True):
            care = Care(careful)
            try:
                with self._store.read() if reads else self._store.write() as session:
                    if not reads:
                        self._hold(session)
                    done = work(session, care)
            except _Standby:
                part.beat()
                raise
            except Exception as error:
                part.retrying(error)
                if faults.passes(error):
                    raise
                self._careful[name] = moment
                _log.error("the engine's %s failed", name, exc_info=error)
            else:
                if care.failed:
                    self._careful[name] = moment
                    named = "; ".join(f"{who}: {why}" for who, why in care.failed.items())
                    part.lagging(f"{len(care.failed)} left out: {named}")
                else:
                    part.beat()
                return done
        return None

    def _hold(self, session: Session) -> None:
        """Nothing is committed under an epoch that is over."""
        if self._take(session) != self._epoch:
            raise _Standby

    def changed(self) -> None:
        """Someone committed a change of devices, assignments or rollouts. Never blocks."""
        self._dirty.set()
        self._wake.set()

    def _keep_house(self, known: Mapping[str, Known], now: float) -> None:
        if 0 <= now - self._kept_house < HOUSEKEEPING_SECONDS:
            return
        self._kept_house = now
        try:
            if self._catalogue.refresh(now):
                self._on_published()
            self._roles = self._expiries()
            self._claims.look(known, self._catalogue, now)
        except Exception as error:
            _log.exception("the catalogue could not be kept fresh")
            self._parts["catalogue"].retrying(error)
        else:
            self._parts["catalogue"].beat()
        with contextlib.suppress(_Standby):
            if self._do("claims", lambda session, _: self._claims.ask(session, now)):
                self._on_published()
            self._do("housekeeping", lambda session, _: self._forget(session, now))
            self._forget_telemetry(now)

    def _forget(self, session: Session, now: float) -> None:
        session.exec(
            delete(models.OutboxMessage).where(
                col(models.OutboxMessage.published_at) < now - PUBLISHED_KEPT_SECONDS
            )
        )
        readings.forget(session, now)
        telling_step.forget(session, now)
        set_aside.forget(session)
        if not 0 <= now - self._epochs_forgotten < DAY_SECONDS:
            self._epochs_forgotten = now
            set_aside.forget_epochs(session, now)

    def _forget_telemetry(self, now: float) -> None:
        """A little in each transaction, for as long as there is more and it doesn't take long."""
        kept, until = self._telemetry, self._monotonic() + FORGET_SECONDS
        if kept is not None:
            days = kept.raw_days
            self._do(
                "housekeeping", lambda session, _: partitions.step(session.connection(), days, now)
            )
        while kept is not None:
            gone = self._do(
                "housekeeping", lambda session, _: rollup_step.forget(session, kept, now)
            )
            if not gone or gone < rollup_step.DELETED_ROWS_MAX or self._monotonic() >= until:
                return

    def _run(self) -> None:
        while not self._stopping.is_set():
            begun = self._monotonic()
            try:
                self.step()
            except Exception as error:
                _log.exception("the engine's step failed; trying again")
                self._part.retrying(error)
                self._stopping.wait(_random.uniform(1.0, 3.0))
            # Others have work to do as well: after a long step comes as long a pause.
            took = min(self._monotonic() - begun, TICK_SECONDS)
            self._stopping.wait(max(STEP_SECONDS_MIN, took))
            if self._calm:
                self._dirty.wait(CALM_SECONDS * _random.uniform(0.8, 1.2))
            self._wake.wait(TICK_SECONDS * _random.uniform(0.8, 1.2))
            self._wake.clear()
