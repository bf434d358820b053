"""Watching a device's log: it is asked to send lines for a while, and they are kept for a day."""

from typing import Any

from sqlmodel import Session, col, delete, select

from muster_hub.audit import log
from muster_hub.fleet import understanding
from muster_hub.storage import models
from muster_protocol.wire.directive import LOG_WATCH

KIND = "log"
WATCH_SECONDS = 120.0
"""How long a device sends once it was asked; one that hears of it later sends nothing."""
AGAIN_SECONDS = 60.0
"""A device that was asked within this time goes on sending: it is not asked anew."""
KEPT_SECONDS = 86_400.0


def ask(session: Session, device: models.Device, *, by: str, now: float) -> int:
    """Have a device send its log for two minutes; the number of the request. Audited. Lines of
    more than a day ago are deleted.

    Raises Conflict when its agent can't be told.
    """
    understanding.require(
        device, LOG_WATCH, lacks="sends no log",
        instead="run `journalctl -u muster-agent` there",
    )  # fmt: skip
    if device.log_watched is not None and 0 <= now - device.log_watched < AGAIN_SECONDS:
        return device.log_watches
    row = models.EventRow
    session.exec(
        delete(row).where(
            col(row.device) == device.id,
            col(row.kind) == KIND,
            col(row.received) < now - KEPT_SECONDS,
        )
    )
    device.log_watches += 1
    device.log_watched = now
    session.add(device)
    log.append(
        session, actor=by, action="device.watch-log", subject=device.id, now=now,
        request=device.log_watches,
    )  # fmt: skip
    return device.log_watches


def lines(session: Session, device: str, after: int, limit: int) -> list[dict[str, Any]]:
    """Lines behind the number ``after``, the oldest first; the latest ``limit`` for 0."""
    row = models.EventRow
    found = select(row).where(col(row.device) == device, col(row.kind) == KIND, col(row.id) > after)
    if after:
        rows = list(session.exec(found.order_by(col(row.id)).limit(limit)))
    else:
        rows = list(session.exec(found.order_by(col(row.id).desc()).limit(limit)))[::-1]
    return [_line(each) for each in rows]


def _line(event: models.EventRow) -> dict[str, Any]:
    """``WARNING link: lost`` as its parts; what a device says otherwise is all ``line``."""
    head, colon, text = event.detail.partition(": ")
    level, space, logger = head.partition(" ")
    fits = bool(colon and space and level.isupper())
    at = event.data.get("happened", event.received)
    return {
        "number": event.id,
        "received": event.received,
        "at": at,
        "level": level if fits else "",
        "logger": logger if fits else "",
        "line": text if fits else event.detail,
    }
