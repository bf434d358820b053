"""Bugs of challengers and experiments planted on purpose; a trial world must find each."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import msgspec
from sqlmodel import Session, select

from muster_agent.observe.telemetry import Recording
from muster_hub.storage import models
from sim.disk import DiskState
from sim.doubles import HONEST, Doubles
from sim.hub import HubStore
from sim.workers import Challenger, Launcher, Worker


class _Answers(Challenger):
    """What has started answers, as every other model does."""

    def _started(self, habit: str) -> None:
        super()._started(habit)
        self.accept()


class _Trusting(Challenger):
    trusting = True


class _Stays(Challenger):
    def stop(self, grace_seconds: float) -> None:
        """It goes on comparing."""


class AnswersToo(Launcher):
    challenger: type[Worker] = _Answers


class ComparesUnchecked(Launcher):
    challenger: type[Worker] = _Trusting


class NeverLeaves(Launcher):
    challenger: type[Worker] = _Stays


class ComparesAgain(DiskState):
    """Only the beginning of a challenger's recording is written down."""

    def put_recording(self, ring: str, row: bytes) -> None:
        known = msgspec.msgpack.decode(row, type=Recording)
        if known.champion is None or ring not in self.recordings():
            super().put_recording(ring, row)


class ForgetsStarts(DiskState):
    def challenger_begins(self, slot: str, manifest: str) -> None:
        """Nothing is written down before it starts."""


class _Meddles(HubStore):
    """Changes something of the rollouts under way with each transaction."""

    @contextmanager
    def write(self) -> Iterator[Session]:
        with super().write() as session:
            yield session
            session.flush()
            running = models.Rollout.state == "running"
            for row in session.exec(select(models.Rollout).where(running)).all():
                self.meddle(session, row)

    def meddle(self, session: Session, row: models.Rollout) -> None:
        raise NotImplementedError


class DrawsAgain(_Meddles):
    """Who takes part is drawn anew whenever somebody looks."""

    def meddle(self, session: Session, row: models.Rollout) -> None:
        kept = (row.judged or {}).get("experiment")
        if kept and len(kept["a"]) > 1:
            first, *others = kept["a"]
            row.judged = {**(row.judged or {}), "experiment": {**kept, "a": [*others, first]}}
            session.add(row)


class AsksBothArms(_Meddles):
    """The release goes to those who are to keep what they run."""

    def meddle(self, session: Session, row: models.Rollout) -> None:
        kept = (row.judged or {}).get("experiment")
        if kept and row.wave == 0 and kept["a"]:
            key = row.id, kept["a"][0]
            if session.get(models.RolloutDevice, key) is None:
                asked = models.RolloutDevice(
                    rollout=row.id or 0, device=kept["a"][0], wave=0, state="targeted",
                    targeted_at=row.updated, changed_at=row.updated,
                )  # fmt: skip
                session.add(asked)


class SwapsWhileWatched(_Meddles):
    """Who watches a release is asked to run it meanwhile."""

    def meddle(self, session: Session, row: models.Rollout) -> None:
        kept = row.shadow or {}
        if kept.get("devices") and kept.get("action", "wait") == "wait":
            key = row.id, kept["devices"][0]
            if session.get(models.RolloutDevice, key) is None:
                asked = models.RolloutDevice(
                    rollout=row.id or 0, device=kept["devices"][0], wave=0, state="targeted",
                    targeted_at=row.updated, changed_at=row.updated,
                )  # fmt: skip
                session.add(asked)


TRIAL_PLANTS: dict[str, Doubles] = {
    "a challenger answers": replace(HONEST, launcher=AnswersToo),
    "a rotten challenger compares": replace(HONEST, launcher=ComparesUnchecked),
    "a challenger never leaves": replace(HONEST, launcher=NeverLeaves),
    "comparisons counted again": replace(HONEST, state=ComparesAgain),
    "a deadly challenger without bound": replace(HONEST, state=ForgetsStarts),
    "arms drawn again": replace(HONEST, hub_store=DrawsAgain),
    "arm A asked too": replace(HONEST, hub_store=AsksBothArms),
    "a shadow that swaps": replace(HONEST, hub_store=SwapsWhileWatched),
}
