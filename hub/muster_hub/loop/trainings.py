"""Starts trainings and asks how they stand: one thread, one request at a time.

A start is repeated until it is taken, under the same key, so that an answer that was lost starts
nothing twice; it is given up where the orchestrator's answer is final.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sqlmodel import col, select

from muster_hub.errors import ConfigError
from muster_hub.heartbeats import Heartbeats
from muster_hub.loop.pipelines.base import Order, Pipeline, PipelineFault, Run
from muster_hub.loop.pipelines.registry import PIPELINES
from muster_hub.settings.loop import LoopTerms, PipelineName
from muster_hub.storage.registry import LoopRow
from muster_hub.storage.store import Store

SILENT_SECONDS = 900.0
POLL_SECONDS = 2.0
LOOK_SECONDS = 15.0
RETRY_SECONDS = (5.0, 600.0)
FAULT_CHARS_MAX = 500
NEVER = 1e12

_log = logging.getLogger(__name__)
_random = random.SystemRandom()


class Trainings:
    """Starts and watches while started. Raises ConfigError for a loop that can't be used."""

    def __init__(
        self,
        store: Store,
        loops: Sequence[LoopTerms],
        directory: Path,
        *,
        hub_url: str,
        now: Callable[[], float] = time.time,
        uniform: Callable[[float, float], float] = _random.uniform,
        heartbeats: Heartbeats | None = None,
        changed: Callable[[], None] = lambda: None,
        pipelines: Mapping[PipelineName, Pipeline] = PIPELINES,
    ) -> None:
        """``directory``: what secrets' files are relative to; ``changed`` wakes the engine."""
        self._store = store
        self._terms = {terms.model: terms for terms in loops}
        if len(self._terms) != len(loops):
            raise ConfigError("hub.toml: [[loops]]: a model is listed twice")
        self._pipelines = pipelines
        self._secrets = {
            terms.model: _secret(terms, pipelines[terms.pipeline], directory) for terms in loops
        }
        self._hub_url = hub_url
        self._now = now
        self._uniform = uniform
        self._changed = changed
        self._stopping = threading.Event()
        self._part = (heartbeats or Heartbeats()).part("trainings", SILENT_SECONDS)
        run = self._part.watching(self._run)
        self._thread = threading.Thread(target=run, name="trainings", daemon=True)

    def start(self) -> None:
        """Begin on a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the request in hand."""
        self._stopping.set()
        self._thread.join()

    def do_due(self) -> int:
        """One request for each loop that is due; how many there were."""
        with self._store.read() as session:
            due = session.exec(
                select(LoopRow).where(
                    LoopRow.state == "training",
                    col(LoopRow.ended).is_(None),
                    col(LoopRow.run_state).in_(("", "running")),
                    col(LoopRow.run_due) <= self._now(),
                )
            ).all()
        for row in due:
            if self._stopping.is_set():
                break
            self._do(row)
        return len(due)

    def _do(self, row: LoopRow) -> None:
        terms = self._terms.get(row.model)
        if terms is None:
            self._note(row, None, PipelineFault("hub.toml has no loop of it any more", final=True))
            return
        pipeline = self._pipelines[terms.pipeline]
        secret = self._secrets[row.model]
        try:
            if row.run:
                found = pipeline.look(terms, secret, row.run)
            else:
                found = pipeline.start(terms, secret, self._order(row))
        except PipelineFault as fault:
            self._note(row, None, fault)
        else:
            self._note(row, found, None, asks=pipeline.asks)

    def _order(self, row: LoopRow) -> Order:
        body = {
            "loop": row.id,
            "model": row.model,
            "cause": row.cause,
            "alerts": row.detail.get("alerts", []),
            "approved_by": row.approved_by,
            "candidate": f"{self._hub_url}/api/v1/loops/{row.id}/candidate",
        }
        return Order(f"muster-loop-{row.id}", body, self._now())

    def _note(
        self, seen: LoopRow, run: Run | None, fault: PipelineFault | None, *, asks: bool = True
    ) -> None:
        now = self._now()
        with self._store.write() as session:
            row = session.get(LoopRow, seen.id)
            if row is None or row.state != "training":
                return
            if run is not None:
                row.run, row.run_state, row.run_url = run.id, run.state, run.url
                row.run_fault, row.attempts = "", 0
                if run.state == "failed":
                    row.run_fault = f"the run {run.id} failed"
                row.run_due = now + LOOK_SECONDS if asks else NEVER
            elif fault is not None:
                row.attempts += 1
                row.run_fault = str(fault)[:FAULT_CHARS_MAX]
                least, most = RETRY_SECONDS
                delay = min(least * 2.0 ** min(row.attempts - 1, 10), most)
                row.run_due = now + self._uniform(delay / 2, delay)
                if fault.final and not row.run:
                    row.run_state = "failed"
                _log.warning("loop %s: %s: %s", row.id, row.pipeline, fault)
            session.add(row)
        self._changed()

    def _run(self) -> None:
        while not self._stopping.wait(POLL_SECONDS * _random.uniform(0.8, 1.2)):
            try:
                self.do_due()
            except Exception as error:
                _log.exception("trainings could not be looked after; trying again")
                self._part.retrying(error)
                self._stopping.wait(_random.uniform(1.0, 3.0))
            else:
                self._part.beat()


def _secret(terms: LoopTerms, pipeline: Pipeline, directory: Path) -> str:
    where = f"hub.toml: the loop of {terms.model!r}"
    lacks = pipeline.lacks(terms)
    if lacks:
        raise ConfigError(f"{where} {lacks}")
    if not terms.secret_file:
        return ""
    path = directory / terms.secret_file
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(f"{where}: {path}: {error.strerror}") from None
    if not secret:
        raise ConfigError(f"{where}: {path} is empty")
    return secret
