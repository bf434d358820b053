"""An operator's fresh try at what a device has refused: its next directive says so."""

import msgspec
from sqlalchemy import bindparam
from sqlmodel import Session, col, select

from muster_hub.audit import log
from muster_hub.errors import Conflict, NotFound
from muster_hub.storage import models
from muster_protocol.wire import agent_release, directive

FIELD = "attempt"
_FAILED = (
    select(models.RolloutDevice, models.Rollout.slot)
    .join(models.Rollout, col(models.RolloutDevice.rollout) == col(models.Rollout.id))
    .where(
        col(models.RolloutDevice.device) == bindparam("device"),
        col(models.RolloutDevice.state) == "failed",
        col(models.Rollout.state).in_(("running", "paused")),
    )
)


def retry(
    session: Session, device: models.Device, *, slot: str | None, by: str, now: float
) -> list[str]:
    """Have one slot, or each that is asked to hold something, tried anew; which. Audited.

    What is under way or committed there goes on; a rollout that still runs, and counts the device
    as failed, asks it once more. Raises NotFound when the device is asked to hold nothing there,
    Conflict when its agent can't be told.
    """
    row = session.get(models.DirectiveRow, device.id)
    payload = msgspec.json.decode(row.payload) if row is not None else {}
    asked = set(payload.get("slots", ()))
    if directive.AGENT in payload:
        asked.add(agent_release.NAME)
    failed = session.exec(_FAILED, params={"device": device.id}).all()
    asked |= {slot_of for _, slot_of in failed}
    slots = [name for name in sorted(asked) if slot in (None, name)]
    if not slots:
        where = f"slot {slot!r} of {device.id!r}" if slot is not None else repr(device.id)
        raise NotFound(f"{where} is asked to hold nothing, so there is nothing to try again")
    facts = (device.report or {}).get("facts") or {}
    if FIELD not in (facts.get("understands") or ()):
        version = facts.get("agent_version", "unknown")
        raise Conflict(
            f"the agent on {device.id!r} ({version}) knows no retries: update it, or assign "
            "another version"
        )
    device.retries = {**device.retries, **{name: device.retries.get(name, 0) + 1 for name in slots}}
    session.add(device)
    for member, slot_of in failed:
        if slot_of in slots:
            member.state, member.generation, member.targeted_at = "targeted", 0, now
            member.changed_at, member.detail = now, ""
            session.add(member)
    log.append(
        session, actor=by, action="device.retry", subject=device.id, now=now, slots=slots
    )  # fmt: skip
    return slots
