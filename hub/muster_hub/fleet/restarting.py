"""Asking a device's agent to start anew."""

from sqlmodel import Session

from muster_hub.audit import log
from muster_hub.fleet import understanding
from muster_hub.storage import models
from muster_protocol.wire.directive import RESTART

VALID_SECONDS = 3600.0
"""A device that hears of it later does nothing: by then nobody expects it to stop serving."""
AGAIN_SECONDS = 60.0
"""Within this time a second request is the first one, asked twice."""


def ask(session: Session, device: models.Device, *, by: str, now: float) -> tuple[int, float]:
    """Have its agent start anew, once; the number of the request and until when it is obeyed.
    Audited.

    Raises Conflict when its agent can't be told.
    """
    understanding.require(
        device, RESTART, lacks="can't be restarted from afar",
        instead="run `systemctl restart muster-agent` there",
    )  # fmt: skip
    until = device.restart_until
    if until is not None and 0 <= now - (until - VALID_SECONDS) < AGAIN_SECONDS:
        return device.restarts, until
    device.restarts += 1
    device.restart_until = float(int(now + VALID_SECONDS))
    session.add(device)
    log.append(
        session, actor=by, action="device.restart", subject=device.id, now=now,
        request=device.restarts,
    )  # fmt: skip
    return device.restarts, device.restart_until
