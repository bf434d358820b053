"""Devices that go by an older directive than they were sent: it is sent to them again.

The broker keeps each device's latest directive, so this hardly ever happens: a broker that was set
back to what it had kept before, somebody with rights there who has published an old one, a message
that was lost between the two. Nothing is decided anew; the same envelope goes out once more.
"""

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import bindparam, insert, select
from sqlmodel import Session, col

from muster_hub.reconcile.generations import Held
from muster_hub.storage.models import DirectiveRow, OutboxMessage
from muster_hub.storage.tables import target
from muster_protocol.wire import topics

GRACE_SECONDS = 120.0
"""A directive that is younger than this when the device reports may still be on its way."""
AGAIN_SECONDS = 300.0, 43_200.0
"""Between two times at least, doubling: one that refuses what it gets costs its link little."""
_random = random.SystemRandom()
_ENVELOPES = select(col(DirectiveRow.device), col(DirectiveRow.envelope)).where(
    col(DirectiveRow.device).in_(bindparam("devices", expanding=True))
)


class Reporting(Protocol):
    """A device, as far as this looks at it."""

    @property
    def report(self) -> Mapping[str, Any] | None:
        """What it reported last."""
        ...

    @property
    def reported(self) -> float | None:
        """When."""
        ...

    @property
    def online(self) -> bool:
        """Whether it is there."""
        ...


@dataclass
class _Sent:
    epoch: int
    generation: int
    times: int
    next_at: float


class Behind:
    """Remembers to whom it was sent again, and when it may be next.

    ``look`` finds them, ``sent`` is to be called once that is durable.
    """

    def __init__(self) -> None:
        self._sent: dict[str, _Sent] = {}

    def look(
        self,
        names: Iterable[str],
        known: Mapping[str, Reporting],
        held: Mapping[str, Held],
        now: float,
    ) -> list[str]:
        """Of devices of which something is new, those to send it to again, now."""
        for gone in self._sent.keys() - held.keys():
            del self._sent[gone]
        found = []
        for name in names:
            device, latest = known.get(name), held.get(name)
            if device is None or latest is None or not _goes_by_less(device, latest):
                self._sent.pop(name, None)
            elif device.online and now >= self._of(name, latest, now).next_at:
                found.append(name)
        return sorted(found)

    def sent(self, names: Iterable[str], now: float) -> None:
        """Not again for a while."""
        least, most = AGAIN_SECONDS
        for name in names:
            before = self._sent[name]
            pause = min(most, least * 2.0 ** min(before.times, 16))
            before.times += 1
            before.next_at = now + pause * _random.uniform(0.8, 1.2)

    def _of(self, name: str, latest: Held, now: float) -> _Sent:
        before = self._sent.get(name)
        if before is None or (before.epoch, before.generation) != (latest.epoch, latest.generation):
            before = self._sent[name] = _Sent(latest.epoch, latest.generation, 0, now)
        return before


def send(session: Session, devices: list[str], now: float) -> int:
    """Put their directives on the way once more; how many."""
    rows = session.connection().execute(_ENVELOPES, {"devices": devices}).all()
    if rows:
        session.connection().execute(
            insert(target(OutboxMessage)),
            [
                {
                    "topic": topics.down(device, "directive"), "payload": envelope,
                    "retain": True, "created": now,
                }
                for device, envelope in rows
            ],
        )  # fmt: skip
    return len(rows)


def _goes_by_less(device: Reporting, latest: Held) -> bool:
    report, reported = device.report, device.reported
    if report is None or reported is None or reported < latest.issued + GRACE_SECONDS:
        return False
    goes_by = int(report.get("epoch", 0)), int(report.get("generation", 0))
    return goes_by < (latest.epoch, latest.generation)
