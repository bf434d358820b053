"""What can't be taken is set aside under its sender: counted, with a sample, all others served."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import bindparam
from sqlmodel import Session, col, delete, select, update

from muster_hub.storage.models import Device, Stream, SummaryWindow
from muster_hub.storage.quarantine import (
    FAULT_CHARS_MAX,
    PAYLOAD_BYTES_KEPT,
    ROWS_MAX,
    ROWS_PER_DEVICE_MAX,
    SetAside,
)
from muster_hub.storage.tables import target
from muster_protocol.wire import bounds, limits

SAMPLE_SECONDS = 60.0
"""A device's messages are sampled at most this often for each leaf."""
EPOCH_KEPT_SECONDS = 400 * 86_400.0
"""An epoch of which nothing came for so long is a wiped outbox, or a device that is gone."""
SENDERS_SHOWN = 10
SENDERS_MAX = 1_000
_COUNTED = (
    update(target(Device))
    .where(col(Device.id) == bindparam("of"), col(Device.set_aside) < limits.INTEGER_MAX)
    .values(
        set_aside=col(Device.set_aside) + bindparam("more"),
        set_aside_at=bindparam("at"),
        set_aside_fault=bindparam("why"),
    )
)
_KNOWN = select(Device.id).where(col(Device.id).in_(bindparam("devices", expanding=True)))


@dataclass(frozen=True)
class MessageFault:
    """Something of a device that the hub could not take, and why."""

    device: str
    leaf: str
    why: str
    payload: bytes = b""


@dataclass
class MessageSender:
    """How often a device sent something that the hub could not take, and the latest."""

    count: int = 0
    at: float = 0.0
    why: str = ""


@dataclass
class Senders:
    """Who sent what was set aside since the start, the latest first; bounded."""

    _known: dict[str, MessageSender] = field(default_factory=dict)
    _sampled: dict[tuple[str, str], float] = field(default_factory=dict)

    def note(self, fault: MessageFault, now: float) -> None:
        """Count one fault of a device."""
        sender = self._known.pop(fault.device, None) or MessageSender()
        sender.count, sender.at, sender.why = sender.count + 1, now, fault.why
        self._known[fault.device] = sender
        while len(self._known) > SENDERS_MAX:
            del self._known[next(iter(self._known))]

    def is_sample(self, fault: MessageFault, now: float) -> bool:
        """Whether to keep this one: not more than one a minute of a device and leaf."""
        key = fault.device, fault.leaf
        if 0 <= now - self._sampled.get(key, float("-inf")) < SAMPLE_SECONDS:
            return False
        if len(self._sampled) >= SENDERS_MAX:
            self._sampled.clear()
        self._sampled[key] = now
        return True

    def latest(self) -> dict[str, int]:
        """Device → how many, of the few that sent last."""
        names = list(self._known)[: -SENDERS_SHOWN - 1 : -1]
        return {name: self._known[name].count for name in names}


def record(session: Session, faults: Sequence[MessageFault], senders: Senders, now: float) -> None:
    """Count faults of known devices under them and keep a few, within the caller's transaction."""
    if not faults:
        return
    names = {fault.device for fault in faults}
    known = set(session.exec(_KNOWN, params={"devices": list(names)}))
    counted: dict[str, list[MessageFault]] = {}
    for fault in faults:
        if fault.device in known:
            counted.setdefault(fault.device, []).append(fault)
    if not counted:
        return
    session.flush()
    session.connection().execute(
        _COUNTED,
        [
            {"of": device, "more": len(found), "at": now, "why": clipped(found[-1].why)}
            for device, found in sorted(counted.items())
        ],
    )
    for device, found in sorted(counted.items()):
        kept = [fault for fault in found if senders.is_sample(fault, now)]
        for fault in kept:
            session.add(
                SetAside(
                    device=device,
                    leaf=fault.leaf,
                    received=now,
                    fault=clipped(fault.why),
                    size_bytes=len(fault.payload),
                    payload=fault.payload[:PAYLOAD_BYTES_KEPT],
                )
            )
        if kept:
            session.flush()
            _forget_older(session, device)


def name_of(row: SummaryWindow) -> str:
    """A window in words."""
    return f"window {row.sequence} of {row.device}"


def windows(session: Session, rows: Iterable[SummaryWindow], why: str, now: float) -> None:
    """Set aside windows that a step of the engine fails at: kept, marked, and counted."""
    listed = list(rows)
    for row in listed:
        row.fault = clipped(why) or "could not be taken in"
        row.folded = row.rolled = True
        session.add(row)
    faults = [MessageFault(row.device, "window", why, row.payload) for row in listed]
    record(session, faults[:SENDERS_SHOWN], Senders(), now)


def clipped(why: str) -> str:
    """A reason that is clean and short enough to be kept."""
    return bounds.clean(why)[:FAULT_CHARS_MAX]


def forget(session: Session) -> None:
    """Keep the newest samples of all devices together."""
    newest = select(SetAside.id).order_by(col(SetAside.id).desc()).limit(1).offset(ROWS_MAX)
    last = session.exec(newest).first()
    if last is not None:
        session.exec(delete(SetAside).where(col(SetAside.id) <= last))


def forget_epochs(session: Session, now: float) -> None:
    """Keep the marks of epochs that are in use; it looks through all of them."""
    session.exec(delete(Stream).where(col(Stream.updated) < now - EPOCH_KEPT_SECONDS))


def _forget_older(session: Session, device: str) -> None:
    ids: Iterable[int | None] = session.exec(
        select(SetAside.id)
        .where(col(SetAside.device) == device)
        .order_by(col(SetAside.id).desc())
        .limit(ROWS_PER_DEVICE_MAX + 1)
    ).all()
    listed = [number for number in ids if number is not None]
    if len(listed) > ROWS_PER_DEVICE_MAX:
        session.exec(
            delete(SetAside).where(col(SetAside.device) == device, col(SetAside.id) <= listed[-1])
        )


def kept(session: Session, device: str, limit: int) -> list[SetAside]:
    """The samples of a device, the newest first."""
    return list(
        session.exec(
            select(SetAside)
            .where(col(SetAside.device) == device)
            .order_by(col(SetAside.id).desc())
            .limit(limit)
        )
    )
