"""One step of every rollout that still moves, within the engine's transaction."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import sqlalchemy
from sqlalchemy import ColumnElement, bindparam, func
from sqlmodel import Session, col, or_, select

from muster_hub.fleet.known import Known
from muster_hub.rollouts import decide, experiment_step, gate_step, kept, load, shadow_step
from muster_hub.rollouts.decide import Decision
from muster_hub.rollouts.evidence import DeviceEvent
from muster_hub.rollouts.kept import Replaced
from muster_hub.rollouts.members import WITHDRAWN, Member, Reached
from muster_hub.storage import models
from muster_hub.storage.care import Care
from muster_hub.storage.tables import target

FOLLOW_SECONDS = 30 * 86_400
"""How long a completed rollout still counts devices that converge later."""
LOOKED_SECONDS = 10.0
"""How exactly it is remembered when a rollout was last decided about."""
QUIET_SECONDS = 10.0
"""A rollout of which nothing changed is decided about this often: time-outs and soaks go on."""
DEVICES_PER_QUERY = 1_000


@dataclass
class Moves:
    """What a step changed: devices that may need another directive, and whether others may."""

    devices: set[str] = field(default_factory=set)
    terms: bool = False
    """A rollout moved or ended: what holds for all devices may differ."""


@dataclass
class _Picture:
    """What is known of a rollout's devices; all of it can be read anew."""

    asked: dict[str, load.Targeted]
    members: dict[str, Member]
    failing: dict[str, list[DeviceEvent]]
    decided: float = float("-inf")

    def reach(self, device: str, asked: load.Targeted) -> None:
        """How far the rollout has come with a device, from now on."""
        self.asked[device] = asked
        member = self.members.get(device)
        if member is not None:
            self.members[device] = replace(member, reached=asked.reached)


class Rollouts:
    """Decides about every rollout that moves. What it knows of devices it keeps between steps, and
    brings up to date with those that changed; only the engine that holds the lease uses it.
    """

    def __init__(self) -> None:
        self._pictures: dict[int, _Picture] = {}

    def forget(self) -> None:
        """Somebody else may have written, or a transaction failed: read everything anew."""
        self._pictures.clear()

    def step(
        self,
        session: Session,
        known: Mapping[str, Known],
        changed: Collection[str],
        now: float,
        window_seconds: float,
        care: Care | None = None,
        *,
        force: bool = True,
    ) -> Moves:
        """Decide and persist what follows from the devices that changed.

        ``window_seconds`` is how long telemetry windows are where a rollout doesn't say. Without
        ``force`` a rollout of which nothing changed is left alone for a while. With care one that
        fails is left as it stands, and the others go on.
        """
        moves = Moves()

        def advance(row: models.Rollout) -> None:
            before = self._pictures.pop(row.id or 0, None)  # back in it once it is right again
            picture, news = self._picture(session, row, before, known, changed)
            quiet = 0 <= now - picture.decided < QUIET_SECONDS
            if news or force or not quiet:
                _advance(session, row, picture, known, now, window_seconds, moves)
            self._pictures[row.id or 0] = picture

        moving = _moving(session, now)
        for gone in self._pictures.keys() - {row.id for row in moving}:
            del self._pictures[gone]
        (care or Care()).each(session, moving, advance, lambda row: f"rollout {row.id}")
        return moves

    def _picture(
        self,
        session: Session,
        row: models.Rollout,
        picture: _Picture | None,
        known: Mapping[str, Known],
        changed: Collection[str],
    ) -> tuple[_Picture, bool]:
        """The rollout's devices as they are now, and whether anything of them is news."""
        failing = load.failing_events(session, row)
        if picture is None:
            asked = load.reached(session, row.id or 0)
            members = load.members(session, row, asked, known.values(), failing)
            return _Picture(asked, {member.device: member for member in members}, failing), True
        failed = {name for name, events in failing.items() if picture.failing.get(name) != events}
        picture.failing = failing
        listed = sorted(failed.union(changed))
        news = False
        for first in range(0, len(listed), DEVICES_PER_QUERY):
            some = listed[first : first + DEVICES_PER_QUERY]
            asked = load.reached(session, row.id or 0, some)
            picture.asked.update(asked)
            there = [known[name] for name in some if name in known]
            found = load.members(session, row, asked, there, failing)
            fresh = {member.device: member for member in found}
            for name in some:
                if picture.members.get(name) == fresh.get(name):
                    continue
                news = True
                if name in fresh:
                    picture.members[name] = fresh[name]
                else:
                    del picture.members[name]
        return picture, news


def _advance(
    session: Session,
    row: models.Rollout,
    picture: _Picture,
    known: Mapping[str, Known],
    now: float,
    window_seconds: float,
    moves: Moves,
) -> None:
    members, plan = list(picture.members.values()), load.plan(row)
    if row.state in ("running", "paused"):
        experiment_step.draw(session, row, plan, members)
        window = row.window_seconds or window_seconds
        before = kept.judged(row)
        warned = set(before.warnings) if before and before.wave == row.wave else set()
        if gate_step.look(session, row, plan, members, window, now):
            _remember_look(session, row, now, warned)
        if shadow_step.look(session, row, plan, known, window, now):
            moves.terms = True
    decision = decide.decide(load.rollout(row), members, now)
    moves.terms |= _persist(session, row, known, decision, now)
    moves.devices.update(decision.changed, decision.target)
    picture.decided = now
    for device, after in decision.changed.items():
        picture.reach(device, replace(picture.asked[device], reached=after))
    for device in decision.target:
        picture.reach(device, load.Targeted(0, now, _targeted(decision, known[device], now)))


_STATE, _ID = col(models.Rollout.state), col(models.Rollout.id)


def _having(*states: str) -> ColumnElement[bool]:
    """A rollout with a device in one of these states."""
    reached = models.RolloutDevice
    return (
        sqlalchemy.select(sqlalchemy.literal(1))
        .where(col(reached.rollout) == _ID, col(reached.state).in_(states))
        .correlate(target(models.Rollout))
        .exists()
    )


_MOVES = or_(
    _STATE.in_(("running", "paused")),
    (_STATE == "completed")
    & (col(models.Rollout.updated) > bindparam("followed_since"))
    & _having("targeted", "in_progress"),
    _STATE.in_(tuple(WITHDRAWN)) & _having("targeted", "in_progress", "committed"),
)
_MOVING = select(models.Rollout).where(_MOVES).order_by(_ID).with_for_update()
_ANY_MOVES = sqlalchemy.select(_ID).where(_MOVES).limit(1)
_LATEST = (
    select(models.RolloutStep.state, models.RolloutStep.wave, models.RolloutStep.why)
    .where(
        col(models.RolloutStep.rollout) == bindparam("rollout"),
        col(models.RolloutStep.why) != "warning",
    )
    .order_by(col(models.RolloutStep.id).desc())
    .limit(1)
)


def any_moves(session: Session, now: float) -> bool:
    """Whether some rollout is to be decided about; nothing is written."""
    followed = {"followed_since": now - FOLLOW_SECONDS}
    return session.connection().execute(_ANY_MOVES, followed).first() is not None


def _moving(session: Session, now: float) -> list[models.Rollout]:
    return list(session.exec(_MOVING, params={"followed_since": now - FOLLOW_SECONDS}))


def _persist(
    session: Session,
    row: models.Rollout,
    known: Mapping[str, Known],
    decision: Decision,
    now: float,
) -> bool:
    """Write what was decided; whether it may concern more devices than those it changed."""
    _write_reached(session, row.id or 0, decision, known, now)
    watching = shadow_step.keep(row, decision.shadow, now)
    moved = decision.state != row.state or decision.wave != row.wave
    ended = decision.state == "completed" and row.state != "completed"
    if moved or decision.target:
        _log_event(session, row, decision, now)
    _remember(session, row, decision, now)
    if moved:
        row.updated, row.wave_since = now, None
    if decision.target and row.wave_since is None:
        row.wave_since = now
    row.reason = decision.reason or row.reason
    row.state, row.wave = decision.state, decision.wave
    row.settled_at = decision.settled_at
    if row.looked_at is None or not 0 <= now - row.looked_at < LOOKED_SECONDS:
        row.looked_at = now
    session.add(row)
    if ended:
        assign(session, row, now)
    session.flush()
    return moved or watching


def _targeted(decision: Decision, device: Known, now: float) -> Reached:
    return Reached(
        wave=decision.wave,
        state="targeted",
        online_since=now if device.online else None,
        changed_at=now,
    )


_REACHED = models.RolloutDevice
_ADD = sqlalchemy.insert(target(_REACHED))
_CHANGE = (
    sqlalchemy.update(target(_REACHED))
    .where(col(_REACHED.rollout) == bindparam("of"), col(_REACHED.device) == bindparam("who"))
    .values(
        {
            name: bindparam(name)
            for name in ("state", "online_since", "online_seconds", "changed_at", "detail")
        }
    )
)


def _write_reached(
    session: Session, rollout: int, decision: Decision, known: Mapping[str, Known], now: float
) -> None:
    """One statement for all that changed, and one for all that are newly asked."""
    session.flush()
    if decision.changed:
        session.connection().execute(
            _CHANGE,
            [
                {
                    "of": rollout,
                    "who": device,
                    "state": after.state,
                    "online_since": after.online_since,
                    "online_seconds": after.online_seconds,
                    "changed_at": after.changed_at,
                    "detail": after.detail,
                }
                for device, after in sorted(decision.changed.items())
            ],
        )
    if decision.target:
        session.connection().execute(
            _ADD,
            [
                {"rollout": rollout, "device": device, "generation": 0, "targeted_at": now}
                | vars(_targeted(decision, known[device], now))
                for device in sorted(decision.target)
            ],
        )


def _remember(session: Session, row: models.Rollout, decision: Decision, now: float) -> None:
    """Write history: whom it asks, what it waits for now, how it ended."""
    if not decision.reason:
        return
    latest = session.exec(_LATEST, params={"rollout": row.id}).first()
    same = latest is not None and tuple(latest) == (decision.state, decision.wave, decision.why)
    if same and not decision.target:
        return
    session.add(
        models.RolloutStep(
            rollout=row.id or 0,
            at=now,
            state=decision.state,
            wave=decision.wave,
            why=decision.why,
            reason=decision.reason,
            devices=list(decision.target),
        )
    )


def _remember_look(session: Session, row: models.Rollout, now: float, warned: set[str]) -> None:
    """Write down what the gate said, and of what it warns for the first time."""
    judged = kept.judged(row)
    assert judged is not None, "it has just been looked at"
    lines = [("gate", f"Look {judged.look}: {judged.reason}")]
    lines += [
        ("warning", f"Look {judged.look} warns: {words}")
        for name, words in judged.warnings.items()
        if name not in warned
    ]
    for why, reason in lines:
        session.add(
            models.RolloutStep(
                rollout=row.id or 0, at=now, state=row.state, wave=row.wave, why=why, reason=reason
            )
        )
    session.flush()


def assign(session: Session, row: models.Rollout, now: float) -> None:
    """Make a completed rollout's release what its selector gets, devices to come included."""
    found = session.exec(
        select(models.Assignment).where(
            col(models.Assignment.slot) == row.slot, col(models.Assignment.selector) == row.selector
        )
    ).first()
    highest = session.exec(select(func.max(models.Assignment.precedence))).one() or 0
    assignment = found or models.Assignment(
        slot=row.slot,
        selector=row.selector,
        model=row.model,
        version=row.version,
        precedence=0,
        created=now,
    )
    if found is not None:
        before = Replaced(
            model=found.model, version=found.version, rollout=found.rollout,
            window_seconds=found.window_seconds,
        )  # fmt: skip
        kept.put_replaced(row, before)
    assignment.model, assignment.version = row.model, row.version
    assignment.precedence = highest + 1
    assignment.window_seconds = row.window_seconds
    assignment.rollout = row.id
    session.add(assignment)


def _log_event(session: Session, row: models.Rollout, decision: Decision, now: float) -> None:
    session.add(
        models.EventRow(
            kind="rollout",
            received=now,
            slot=row.slot,
            model=row.model,
            version=row.version,
            manifest=row.manifest,
            detail=f"rollout {row.id}: {decision.reason or decision.state}",
            data={"rollout": row.id, "state": decision.state, "wave": decision.wave},
        )
    )
