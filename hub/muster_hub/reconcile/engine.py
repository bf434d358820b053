"""The engine's tick and its thread."""

import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

from sqlmodel import Session, col, delete

from muster_hub.alerts import open_step
from muster_hub.alerts import step as telling_step
from muster_hub.alerts.claims import Claims
from muster_hub.alerts.doubts import Doubts
from muster_hub.alerts.rules import Condition
from muster_hub.fleet import set_aside
from muster_hub.fleet.fleet import Fleet
from muster_hub.fleet.known import Known
from muster_hub.heartbeats import Heartbeats
from muster_hub.monitoring import drift_step, rollup_step
from muster_hub.reconcile import directives, lease
from muster_hub.reconcile.directives import DirectiveTerms, SignsDirectives
from muster_hub.registry.published import Bundles
from muster_hub.rollouts import permit_step
from muster_hub.rollouts import step as rollout_step
from muster_hub.rollouts.gates import readings
from muster_hub.settings.alerts import Alerts
from muster_hub.settings.retention import Telemetry
from muster_hub.signing.catching_up import CaughtUp
from muster_hub.storage import faults, models
from muster_hub.storage.care import Care
from muster_hub.storage.store import Store

TICK_SECONDS = 1.0
STEP_SECONDS_MIN = 0.05
"""Between two steps at least, however much devices tell."""
LEASE = "engine"
REVIEW_SECONDS = 30.0
"""Directives are looked through this often even when nothing is known to have changed."""
HOUSEKEEPING_SECONDS = 60.0
SILENT_SECONDS = 300.0
"""A step that takes longer hangs; housekeeping comes once a minute."""
CAREFUL_SECONDS = 60.0
"""For so long after something failed its part takes every row by itself."""
PARTS = (
    "fleet", "rollouts", "grants", "directives", "drift", "alerts", "notices", "rollup",
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

    ``holder`` names this engine in the lease, the same after a restart. ``on_published`` is called
    when messages wait to be published. Without ``telemetry`` no window is ever deleted.
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
        now: Callable[[], float] = time.time,
        heartbeats: Heartbeats | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.bundles = bundles
        self._store = store
        self._catalogue = catalogue
        self._signing = signing
        self._settings = settings
        self._on_published = on_published
        self._alerts = alerts or Alerts()
        self._expiries = expiries
        self._telemetry = telemetry
        self._now = now
        self._holder = holder
        self._fleet = Fleet()
        self._dirty = threading.Event()
        self._dirty.set()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._roles: dict[str, float] = {}
        self._reviewed = self._kept_house = float("-inf")
        self._monotonic = monotonic
        beats = heartbeats or Heartbeats(monotonic)
        self._part = beats.part("engine", SILENT_SECONDS)
        self._parts = {name: beats.part(f"engine/{name}", SILENT_SECONDS) for name in PARTS}
        self._careful: dict[str, float] = {}
        self._changed: set[str] = set()
        self._doubts = Doubts()
        self._claims = Claims()
        run = self._part.watching(self._run)
        self._thread = threading.Thread(target=run, name="engine", daemon=True)

    def start(self) -> None:
        """Begin to act while it holds the lease, on a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and give the lease back."""
        self._stopping.set()
        self._wake.set()
        self._thread.join()
        with self._store.write() as session:
            lease.release(session, LEASE, self._holder)

    def wake(self) -> None:
        """Something was committed that may change a decision. Never blocks."""
        self._wake.set()

    def step(self) -> bool:
        """Load, decide, persist; then let the publisher know. False while another engine acts.

        Each part of it is a transaction of its own, so that one that fails holds up no other. What
        passes, such as a busy database, is raised.
        """
        now = self._now()
        review = now - self._reviewed >= REVIEW_SECONDS or now < self._reviewed
        dirty = self._dirty.is_set()
        self._dirty.clear()
        try:
            known = self._do(
                "fleet", lambda session, _: self._follow(session, now, dirty or review)
            )
            if known is None:
                self._dirty.set()
                return True
            self._decide(known, dirty or review, now)
            if review:
                self._reviewed = now
            self._watch(known, now)
        except _Standby:
            self._dirty.set()
            self._part.beat()
            return False
        except BaseException:
            self._dirty.set()
            raise
        self._keep_house(known, now)
        self._part.beat()
        return True

    def _follow(self, session: Session, now: float, everything: bool) -> Mapping[str, Known]:  # noqa: FBT001 (internal)
        self._changed |= self._fleet.follow(session, now, everything=everything)
        return self._fleet.known

    def _decide(self, known: Mapping[str, Known], due: bool, now: float) -> None:  # noqa: FBT001 (internal)
        """Rollouts, leave to swap, and the directives that follow."""
        window_seconds = self._settings.window_seconds
        moved = self._do(
            "rollouts",
            lambda session, care: rollout_step.step(session, known, now, window_seconds, care),
        )
        issued = self._do(
            "grants", lambda session, care: permit_step.step(session, known, now, care)
        )
        if due or moved or moved is None:
            epoch = self._catalogue.director_epoch
            directed = self._do(
                "directives",
                lambda session, care: directives.step(
                    session, known, self._signing, epoch, self._settings, now, care
                ),
            )
            if directed is None:
                self._dirty.set()
            issued = (issued or 0) + (directed or 0)
        if issued:
            self._on_published()

    def _watch(self, known: Mapping[str, Known], now: float) -> None:
        """Drift, alerts, who is notified of them, hours and days."""
        self._do("drift", lambda session, care: drift_step.step(session, self.bundles, now, care))
        self._do(
            "alerts",
            lambda session, care: open_step.step(
                session, known, now, self._roles, self._doubted(session, known), care
            ),
        )
        self._do("notices", lambda session, _: telling_step.step(session, self._alerts, now))
        self._do("rollup", lambda session, care: rollup_step.step(session, self.bundles, now, care))

    def _doubted(self, session: Session, known: Mapping[str, Known]) -> list[Condition]:
        """What devices claim and don't prove; looked at anew where something changed."""
        self._doubts.look(session, known, self._changed)
        self._changed = set()
        return self._doubts.conditions() + self._claims.conditions(self._now())

    def _do(self, name: str, work: Callable[[Session, Care], Done]) -> Done | None:
        """One part of a step in a transaction, again with care when its data make it fail.

        None when it fails even so: then it is undone as a whole, and said. Raises what passes.
        """
        part = self._parts[name]
        moment = self._monotonic()
        lately = moment - self._careful.get(name, float("-inf")) < CAREFUL_SECONDS
        for careful in (True,) if lately else (False, True):
            care = Care(careful)
            try:
                with self._store.write() as session:
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
        if not lease.hold(session, LEASE, self._holder, self._now()):
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

    def _forget(self, session: Session, now: float) -> None:
        session.exec(
            delete(models.OutboxMessage).where(
                col(models.OutboxMessage.published_at) < now - PUBLISHED_KEPT_SECONDS
            )
        )
        readings.forget(session, now)
        telling_step.forget(session, now)
        set_aside.forget(session, now)
        if self._telemetry is not None:
            rollup_step.forget(session, self._telemetry, now)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.step()
            except Exception as error:
                _log.exception("the engine's step failed; trying again")
                self._part.retrying(error)
                self._stopping.wait(_random.uniform(1.0, 3.0))
            self._stopping.wait(STEP_SECONDS_MIN)
            self._wake.wait(TICK_SECONDS * _random.uniform(0.8, 1.2))
            self._wake.clear()
