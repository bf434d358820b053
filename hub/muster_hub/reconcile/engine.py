"""The engine's tick and its thread."""

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from sqlmodel import col, delete

from muster_hub.alerts import open_step
from muster_hub.alerts import step as telling_step
from muster_hub.fleet.fleet import Fleet
from muster_hub.fleet.known import Known
from muster_hub.monitoring import drift_step, rollup_step
from muster_hub.reconcile import directives, lease
from muster_hub.reconcile.directives import DirectiveTerms, SignsDirectives
from muster_hub.registry.published import Bundles
from muster_hub.rollouts import permit_step
from muster_hub.rollouts import step as rollout_step
from muster_hub.rollouts.gates import readings
from muster_hub.settings.alerts import Alerts
from muster_hub.settings.retention import Telemetry
from muster_hub.storage import models
from muster_hub.storage.store import Store

TICK_SECONDS = 1.0
STEP_SECONDS_MIN = 0.05
"""Between two steps at least, however much devices tell."""
LEASE = "engine"
REVIEW_SECONDS = 30.0
"""Directives are looked through this often even when nothing is known to have changed."""
HOUSEKEEPING_SECONDS = 60.0
PUBLISHED_KEPT_SECONDS = 3600.0

_log = logging.getLogger(__name__)
_random = random.SystemRandom()


class Catalogue(Protocol):
    @property
    def director_epoch(self) -> int: ...

    def refresh(self, now: float) -> bool: ...

    def continue_from(self, reported: Mapping[str, int], now: float) -> bool: ...


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
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._wake.set()
        self._thread.join()
        with self._store.write() as session:
            lease.release(session, LEASE, self._holder)

    def wake(self) -> None:
        """Something was committed that may change a decision. Never blocks."""
        self._wake.set()

    def step(self) -> bool:
        """Load, decide, persist; then let the publisher know. False while another engine acts."""
        now = self._now()
        review = now - self._reviewed >= REVIEW_SECONDS or now < self._reviewed
        dirty = self._dirty.is_set()
        self._dirty.clear()
        try:
            with self._store.write() as session:
                if not lease.hold(session, LEASE, self._holder, now):
                    self._dirty.set()
                    return False
                self._fleet.follow(session, now, everything=dirty or review)
                known = self._fleet.known
                window_seconds = self._settings.window_seconds
                moved = rollout_step.step(session, known, now, window_seconds)
                issued = permit_step.step(session, known, now)
                if dirty or moved or review:
                    epoch = self._catalogue.director_epoch
                    issued += directives.step(
                        session, known, self._signing, epoch, self._settings, now
                    )
        except BaseException:
            self._dirty.set()
            raise
        if review:
            self._reviewed = now
        if issued:
            self._on_published()
        with self._store.write() as session:
            if not lease.hold(session, LEASE, self._holder, now):
                return False
            drift_step.step(session, self.bundles, now)
            open_step.step(session, known, now, self._roles)
            telling_step.step(session, self._alerts, now)
            rollup_step.step(session, self.bundles, now)
        self._keep_house(known, now)
        return True

    def changed(self) -> None:
        """Someone committed a change of devices, assignments or rollouts. Never blocks."""
        self._dirty.set()
        self._wake.set()

    def _keep_house(self, known: Mapping[str, Known], now: float) -> None:
        if 0 <= now - self._kept_house < HOUSEKEEPING_SECONDS:
            return
        self._kept_house = now
        ahead = self._catalogue.continue_from(_trusted_versions(known), now)
        if self._catalogue.refresh(now) or ahead:
            self._on_published()
        self._roles = self._expiries()
        with self._store.write() as session:
            session.exec(
                delete(models.OutboxMessage).where(
                    col(models.OutboxMessage.published_at) < now - PUBLISHED_KEPT_SECONDS
                )
            )
            readings.forget(session, now)
            telling_step.forget(session, now)
            if self._telemetry is not None:
                rollup_step.forget(session, self._telemetry, now)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.step()
            except Exception:
                _log.exception("the engine's step failed; trying again")
                self._stopping.wait(_random.uniform(1.0, 3.0))
            self._stopping.wait(STEP_SECONDS_MIN)
            self._wake.wait(TICK_SECONDS * _random.uniform(0.8, 1.2))
            self._wake.clear()


def _trusted_versions(known: Mapping[str, Known]) -> dict[str, int]:
    """Role → the highest version of its metadata that any device trusts."""
    highest: dict[str, int] = {}
    for device in known.values():
        trust = (device.report or {}).get("trust") or {}
        for role, version in (trust.get("versions") or {}).items():
            highest[role] = max(version, highest.get(role, 0))
    return highest
