"""Answer devices that ask for a permit to swap, in the engine's transaction."""

from collections.abc import Mapping, Sequence

from sqlmodel import Session, col, or_, select

from muster_hub.fleet.assignments import AssignedRelease, Override, choose
from muster_hub.fleet.known import Known
from muster_hub.rollouts import load, permits
from muster_hub.rollouts.budgets import BudgetUnit
from muster_hub.rollouts.members import WITHDRAWN
from muster_hub.rollouts.permits import Answer, Goal, Permit, PermitRequest
from muster_hub.storage import models
from muster_hub.storage.care import Care
from muster_protocol.wire import limits, messages, topics
from muster_protocol.wire.messages import Grant

ANSWERS_MAX = 500
"""Requests answered in one transaction; the others wait for the next."""
_OPEN = (
    select(models.SwapGrant)
    .where(
        or_(col(models.SwapGrant.answered).is_(False), col(models.SwapGrant.given_at).is_not(None))
    )
    .order_by(col(models.SwapGrant.asked_at), col(models.SwapGrant.device))
)


def is_due(session: Session, known: Mapping[str, Known], now: float) -> bool:
    """Whether somebody waits for an answer, or has shown that it is through."""
    rows = session.exec(_OPEN).all()
    down = still_down(rows, known)
    return any(
        not row.answered
        or (row.given_at is not None and (row.given_at > now or (row.device, row.slot) not in down))
        for row in rows
    )


def step(session: Session, known: Mapping[str, Known], now: float, care: Care | None = None) -> int:
    """Persist answers with the messages that carry them; how many. With care a request that can't
    be answered is taken for refused.
    """
    rows = session.exec(_OPEN).all()
    asking = [row for row in rows if not row.answered][:ANSWERS_MAX]
    for row in rows:
        if row.given_at is not None and row.given_at > now:
            row.given_at = now  # the clock was ahead: a report from now on may still end it
            session.add(row)
    down = still_down(rows, known)
    for row in rows:
        if row.given_at is not None and (row.device, row.slot) not in down:
            row.given_at = None
            session.add(row)
    if not asking:
        return 0
    desk = _Desk(session, known)

    def settle(row: models.SwapGrant) -> None:
        down.discard((row.device, row.slot))
        answer = desk.answer(row, {device for device, _ in down}, now)
        if answer.given:
            down.add((row.device, row.slot))
            row.given_manifest = row.manifest
        row.answered, row.reason = True, answer.reason
        row.given_at = now if answer.given else None
        session.add(row)
        session.add(_message(row, answer, now))

    def refuse(row: models.SwapGrant, why: str) -> None:
        row.answered, row.reason, row.given_at = True, f"the hub failed: {why}", None
        session.add(row)

    (care or Care()).each(
        session, asking, settle, lambda row: f"the request of {row.device} for {row.slot}", refuse
    )
    session.flush()
    return len(asking)


def still_down(
    rows: Sequence[models.SwapGrant], known: Mapping[str, Known]
) -> set[tuple[str, str]]:
    """(device, slot) of each permit whose device hasn't shown that it is through."""
    found = set()
    for row in rows:
        device = known.get(row.device)
        if row.given_at is None or device is None or not device.active:
            continue
        permit = Permit(
            device=row.device, slot=row.slot, manifest=row.given_manifest, given_at=row.given_at
        )
        if permits.is_down(permit, device.report, device.reported):
            found.add((row.device, row.slot))
    return found


class _Desk:
    """What answers need, read once for all that ask."""

    def __init__(self, session: Session, known: Mapping[str, Known]) -> None:
        self._session = session
        self._known = known
        self._assignments: list[AssignedRelease] = load.assignments(session)
        self._overrides: Mapping[str, list[Override]] = load.rolling(session).overrides
        self._units: dict[int, list[BudgetUnit]] = {}
        self._rollouts: dict[int, models.Rollout | None] = {}

    def answer(self, row: models.SwapGrant, down: set[str], now: float) -> Answer:
        asked = PermitRequest(
            device=row.device, slot=row.slot, manifest=row.manifest, generation=row.generation
        )
        goal, rollout = self._goal(row)
        units = self._concerned(rollout, row.device) if rollout is not None else []
        return permits.answer(asked, goal, units, down, now)

    def _goal(self, row: models.SwapGrant) -> tuple[Goal | None, models.Rollout | None]:
        device = self._known.get(row.device)
        directive = self._session.get(models.DirectiveRow, row.device)
        if device is None or not device.active or directive is None:
            return None, None
        overrides = self._overrides.get(device.id, ())
        choice = choose(device.labels, self._assignments, overrides).get(row.slot)
        if choice is None:
            return None, None
        rollout = self._rollout(choice.rollout) if choice.rollout is not None else None
        free = rollout is None or self._goes_back(row, rollout)
        goal = Goal(
            manifest=choice.release.manifest,
            generation=directive.generation,
            plan=None if free or rollout is None else load.plan(rollout),
            held=f"rollout {rollout.id} is paused" if rollout and rollout.state == "paused" else "",
        )
        return goal, rollout

    def _rollout(self, number: int) -> models.Rollout | None:
        if number not in self._rollouts:
            self._rollouts[number] = self._session.get(models.Rollout, number)
        return self._rollouts[number]

    def _goes_back(self, row: models.SwapGrant, rollout: models.Rollout) -> bool:
        """A later release was withdrawn from this device: going back needs no permit."""
        found = self._session.exec(
            select(models.RolloutDevice.rollout).where(
                col(models.RolloutDevice.device) == row.device,
                col(models.RolloutDevice.state).in_(("failed", "withdrawn")),
                col(models.RolloutDevice.rollout) == col(models.Rollout.id),
                col(models.Rollout.slot) == row.slot,
                col(models.Rollout.state).in_(tuple(WITHDRAWN)),
                col(models.Rollout.id) > (rollout.id or 0),
            )
        ).first()
        return found is not None

    def _concerned(self, rollout: models.Rollout, device: str) -> list[BudgetUnit]:
        number = rollout.id or 0
        if number not in self._units:
            concerns = load.concerned(rollout)
            self._units[number] = [
                BudgetUnit(device_known.id, device_known.labels, device_known.online)
                for device_known in self._known.values()
                if concerns(device_known)
            ]
        units = self._units[number]
        if any(unit.device == device for unit in units):
            return units
        item = self._known[device]
        return [*units, BudgetUnit(item.id, item.labels, item.online)]


def _message(row: models.SwapGrant, answer: Answer, now: float) -> models.OutboxMessage:
    grant = Grant(
        nonce=bytes.fromhex(row.nonce),
        slot=row.slot,
        given=answer.given,
        valid_seconds=permits.VALID_SECONDS if answer.given else 0.0,
        retry_seconds=0.0 if answer.given else permits.RETRY_SECONDS,
        reason=answer.reason[: limits.GRANT_REASON_CHARS_MAX],
    )
    return models.OutboxMessage(
        topic=topics.down(row.device, "grant"),
        payload=messages.encode(grant),
        retain=False,
        expiry_seconds=int(permits.VALID_SECONDS),
        created=now,
    )
