"""Asking a device what is wrong on it, and reading what it answered."""

from typing import Any

from sqlmodel import Session, col, select

from muster_hub.audit import log
from muster_hub.fleet import understanding
from muster_hub.storage import models
from muster_protocol.wire.directive import DIAGNOSES

KIND = "diagnosis"
LINES_MAX = 100
"""More than a device tells in one answer."""


def ask(session: Session, device: models.Device, *, by: str, now: float) -> int:
    """Have its agent look at everything there; the number of the request. Audited.

    Raises Conflict when its agent can't be told.
    """
    understanding.require(
        device, DIAGNOSES, lacks="knows no diagnosis from afar",
        instead="run `muster-agent doctor` there",
    )  # fmt: skip
    device.diagnoses += 1
    session.add(device)
    log.append(
        session, actor=by, action="device.diagnose", subject=device.id, now=now,
        request=device.diagnoses,
    )  # fmt: skip
    return device.diagnoses


def answer(session: Session, device: models.Device) -> dict[str, Any]:
    """What was asked last, what was answered last, and when; no lines when nothing was."""
    row = models.EventRow
    found = session.exec(
        select(row)
        .where(col(row.device) == device.id, col(row.kind) == KIND)
        .order_by(col(row.id).desc())
        .limit(LINES_MAX)
    ).all()
    numbers = [int(_request(each)) for each in found]
    latest = max(numbers, default=0)
    lines = [each for each, number in zip(found, numbers, strict=True) if number == latest]
    return {
        "device": device.id,
        "asked": device.diagnoses,
        "answered": latest,
        "received": lines[0].received if lines else None,
        "lines": [_line(each.detail) for each in reversed(lines)],
    }


def _request(event: models.EventRow) -> float:
    values = event.data.get("values") or {}
    return float(values.get("request", 0))


def _line(detail: str) -> dict[str, str]:
    """``fail broker: no answer`` as its parts; what a device says otherwise is all ``line``."""
    head, colon, line = detail.partition(": ")
    grade, _, check = head.partition(" ")
    if colon and grade in {"ok", "warn", "fail", "log"}:
        return {"grade": grade, "check": check, "line": line}
    return {"grade": "log", "check": "", "line": detail}
