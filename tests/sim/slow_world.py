"""A year of a fleet in a seed: certificates, metadata and telemetry age, the hub moves, its
authority is replaced, a card is cloned.

Between two happenings lie hours. A visit of a device stands for its hours of connection: it shows
its certificate, tells and hears, and is renewed. What must hold: nobody falls off who could be
renewed, metadata are signed anew in time, what is kept and added up is exactly what was told, who
has not heard of a change is listed before it cuts them off, and a clone is told of and stays out.
"""

import random
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from sqlalchemy import text

from muster_agent.identity.renewal import Renewal
from muster_hub.fleet.clones import TURNS_MIN
from muster_hub.identity import enrolment
from muster_hub.identity.pki import DEVICE_DAYS
from muster_hub.settings.retention import Telemetry
from sim.scheduler import Scheduler
from sim.slow_device import CHANCES, SlowDevice
from sim.slow_hub import DAY_SECONDS, SlowHub, SlowHubDoubles
from sim.slow_ledger import Ledger
from sim.trace import Trace
from sim.watch import Violation

DEVICES = 6
DAYS = 420.0
HOUR_SECONDS = 3600.0
AGE_DAYS = (0.0, 300.0)
"""Of a device's certificate when the world begins."""
FORGOTTEN_DAYS = (5.0, 9.0)
"""For so long one of the devices lies in a cupboard at first, while its certificate ends."""
MISSES_SHARE = 0.6
"""Of moves and rotations, in which a device is away from their beginning; and from days later."""
MISSED_DAYS = (33.0, 40.0)
VISIT_SECONDS = (6 * HOUR_SECONDS, 66 * HOUR_SECONDS)
TICK_SECONDS = (6 * HOUR_SECONDS, 36 * HOUR_SECONDS)
COUNT_SECONDS = (8 * HOUR_SECONDS, 30 * HOUR_SECONDS)
OUTAGE_DAYS = (0.2, 4.0)
SETTLED_DAYS = 2.0
"""After a hub has come back: until then nothing is asked of what it could not do meanwhile."""
HEARD_VISITS = 5
"""Within which a device has taken what targets and directive say of the hub."""
SHUT_OUT_VISITS = 2
FINISH_DAYS = (15.0, 30.0)
"""For so long a move or a rotation waits for those who have not heard."""
TURN_SECONDS = 50.0
CLONE_SECONDS = (5 * DAY_SECONDS, 15 * DAY_SECONDS)
KEPT = Telemetry(raw_days=14, hour_days=30, day_days=90)
_CLONE_ALERTS = text("SELECT count(*) FROM alert WHERE key = :key AND state != 'resolved'")


@dataclass(frozen=True)
class SlowDoubles:
    """What careless ones would have instead; as they are: the real ones."""

    hub: SlowHubDoubles = field(default_factory=SlowHubDoubles)
    renewal: type[Renewal] = Renewal


@dataclass(frozen=True)
class SlowOutcome:
    """What a world came to."""

    seed: int
    violation: Violation | None
    counts: Counter[str]
    device_seconds: float
    digest: str


class SlowWorld:
    """One seed. ``run`` lives it to its end, or to the first broken promise."""

    def __init__(
        self,
        seed: int,
        doubles: SlowDoubles | None = None,
        days: float = DAYS,
        devices: int = DEVICES,
    ) -> None:
        self.seed, self.days = seed, days
        self.rng = random.Random(f"{seed}/slow")
        self.doubles = doubles or SlowDoubles()
        self.clock = Scheduler()
        self.trace = Trace(self.clock)
        self.counts: Counter[str] = Counter()
        self.hub = SlowHub(self, KEPT)
        self.ledger = Ledger(self, KEPT)
        self.devices = [
            SlowDevice(self, f"dev-{n}", place=f"10.0.0.{n}", synchronised=self.rng.random() < 0.7)
            for n in range(devices)
        ]
        self.clone: SlowDevice | None = None
        self._listed: set[str] = set()
        """Who is cut off by a move or a rotation, as the hub said before it was finished."""
        self._changed_at = 0.0
        self._authorities = 1

    def run(self) -> SlowOutcome:
        violation = None
        try:
            self._begin()
            while self.clock.step(self.days * DAY_SECONDS):
                pass
        except Violation as found:
            violation = found
            self.trace.add("VIOLATION", str(found))
        except Exception as fault:
            violation = Violation("nothing crashes", traceback.format_exc())
            self.trace.add("VIOLATION", f"{type(fault).__name__}: {fault}")
        seconds = self.clock.now * len(self.devices)
        return SlowOutcome(self.seed, violation, self.counts, seconds, self.trace.digest)

    def expect(self, holds: object, promise: str, found: str) -> None:
        if not holds:
            raise Violation(promise, found)

    def _begin(self) -> None:
        forgotten = self.rng.choice(self.devices)
        for device in self.devices:
            age = DEVICE_DAYS - 1.0 if device is forgotten else self.rng.uniform(*AGE_DAYS)
            device.enrol(self.hub.now() - age * DAY_SECONDS)
            self._again(VISIT_SECONDS, partial(self._visit, device))
            self._again(COUNT_SECONDS, partial(self._count, device))
        self._away(forgotten, self.rng.uniform(*FORGOTTEN_DAYS))
        self.hub.tick()
        self._again(TICK_SECONDS, self.hub.tick)
        self._at(0.10, 0.30, self._move)
        self._at(0.45, 0.60, self._rotate)
        self._at(0.05, 0.35, self._begin_clone)
        for _ in range(round(self.days / 40)):
            self._at(0.0, 1.0, self._outage)
        self._at(0.2, 0.9, lambda: self._someone_away(self.rng.uniform(5.0, 60.0)))

    def _at(self, first: float, last: float, act: Callable[[], None]) -> None:
        self.clock.at(self.rng.uniform(first, last) * self.days * DAY_SECONDS, act)

    def _again(self, seconds: tuple[float, float], act: Callable[[], object]) -> None:
        def once() -> None:
            act()
            self._again(seconds, act)

        self.clock.after(self.rng.uniform(*seconds), once)

    # What goes wrong

    def _outage(self) -> None:
        if not self.hub.running:
            return
        days = self.rng.uniform(*OUTAGE_DAYS)
        self.hub.running = False
        self.counts["outages"] += 1
        self.trace.add("hub", f"down for {days:.1f} days")
        self.clock.after(days * DAY_SECONDS, self._back)

    def _back(self) -> None:
        self.hub.running, self.hub.up_since = True, self.clock.now
        self.hub.restart()
        self.hub.tick()

    def _someone_away(self, days: float) -> None:
        here = [each for each in self.devices if each.off_until <= self.clock.now]
        self._away(self.rng.choice(here or self.devices), days)

    def _misses(self) -> None:
        """Someone is away while something changes, from its beginning or from a few days later."""
        for after_days in (0.0, 5.0):
            days = self.rng.uniform(*MISSED_DAYS)
            if self.rng.random() < MISSES_SHARE:
                away = partial(self._someone_away, days)
                self.clock.after(after_days * DAY_SECONDS, away)

    def _away(self, device: SlowDevice, days: float) -> None:
        """A device lies in a cupboard."""
        device.off_until = self.clock.now + days * DAY_SECONDS
        self.counts["away"] += 1
        self.trace.add(device.name, f"is off for {days:.0f} days")

    # What people do

    def _move(self) -> None:
        if not self.hub.running:
            self.clock.after(DAY_SECONDS, self._move)
            return
        self.hub.move()
        self._told_anew(f"moves to place {self.hub.place}")
        self._misses()
        patience = self.clock.now + self.rng.uniform(*FINISH_DAYS) * DAY_SECONDS
        self.clock.after(3 * DAY_SECONDS, lambda: self._end_move(patience))

    def _end_move(self, patience: float) -> None:
        """The old place is given up when all have heard, or when nobody waits any longer."""
        deaf = [each.device for each in self.hub.deaf()]
        if not self.hub.running or (deaf and self.clock.now < patience):
            self.clock.after(DAY_SECONDS, lambda: self._end_move(patience))
            return
        self._cut_off(deaf)
        self.hub.live = {self.hub.place}
        self.trace.add("operator", f"the old place is given up; not heard: {deaf}")
        self.counts["moved"] += 1

    def _rotate(self) -> None:
        if not self.hub.running:
            self.clock.after(DAY_SECONDS, self._rotate)
            return
        self._authorities += 1
        self.hub.begin_authority(self._authorities)
        self._told_anew("is to have another authority")
        self._misses()
        patience = self.clock.now + self.rng.uniform(*FINISH_DAYS) * DAY_SECONDS
        self.clock.after(3 * DAY_SECONDS, lambda: self._end_rotation(patience))

    def _end_rotation(self, patience: float) -> None:
        strangers = [each.device for each in self.hub.strangers()]
        if not self.hub.running or (strangers and self.clock.now < patience):
            self.clock.after(DAY_SECONDS, lambda: self._end_rotation(patience))
            return
        self._cut_off(strangers)
        self.hub.finish_authority()
        self._told_anew(f"has another authority; not heard: {strangers}")
        self.counts["rotated"] += 1

    def _told_anew(self, what: str) -> None:
        self.trace.add("hub", what)
        self._changed_at = self.clock.now
        for device in self.devices:
            device.heard_since = 0

    def _cut_off(self, names: list[str]) -> None:
        self.counts["cut off"] += len(names)
        self._listed |= set(names)

    # Two machines with one identity

    def _begin_clone(self) -> None:
        """Someone copies a card; both machines connect, and take the connection from each other."""
        here = [each for each in self.devices if each.off_until <= self.clock.now and
                not each.refused and each.name not in self._listed]  # fmt: skip
        if not here or not self._settled():
            self.clock.after(DAY_SECONDS, self._begin_clone)
            return
        victim = self.rng.choice(here)
        self.clone = victim.clone("10.9.9.9")
        self.counts["cloned"] += 1
        self.trace.add(victim.name, "its card was copied")
        for turn in range(2 * TURNS_MIN):
            machine = self.clone if turn % 2 else victim
            self.clock.after(turn * TURN_SECONDS, partial(self._takes, machine))
        after = 2 * TURNS_MIN * TURN_SECONDS
        self.clock.after(after, self.hub.tick)
        self.clock.after(after + 180.0, lambda: self._clone_seen(victim))

    def _takes(self, machine: SlowDevice) -> None:
        """A connection, as the broker's log tells of it."""
        if not self.hub.running:
            return
        name = machine.name
        self.hub.takeovers(f"Client {name} already connected, closing old connection.")
        self.hub.takeovers(f"New client connected from {machine.place}:40001 as {name} (p5, c0)")

    def _clone_seen(self, victim: SlowDevice) -> None:
        if not self._settled():
            return  # The hub has stopped in between.
        with self.hub.store.read() as session:
            key = {"key": f"clone/{victim.name}"}
            (alerts,) = session.connection().execute(_CLONE_ALERTS, key).one()
        self.expect(alerts == 1, "two machines with one identity are told of",
                    f"there are {alerts} alerts about {victim.name}")  # fmt: skip
        with self.hub.store.write() as session:
            enrolment.replace(session, victim.name, self.hub.now())
        self.hub.tick()
        self._enrol_again(victim, "two machines had its card")
        self.clock.after(HOUR_SECONDS, self._clone_tries)
        self._again(CLONE_SECONDS, self._clone_tries)

    def _clone_tries(self) -> None:
        assert self.clone is not None
        let_in = self.clone.visit()
        self.counts["clone refused"] += not let_in
        self.expect(not let_in, "a clone stays out", f"{self.clone.name} of {self.clone.place}")

    # Visits, and what must hold

    def _settled(self) -> bool:
        """Whether the hub has been there for long enough to have done what it should."""
        return self.hub.running and self.clock.now - self.hub.up_since > SETTLED_DAYS * DAY_SECONDS

    def _count(self, device: SlowDevice) -> None:
        if device.off_until <= self.clock.now:
            device.count()

    def _visit(self, device: SlowDevice) -> None:
        if device.off_until > self.clock.now or not self.hub.running:
            return
        renewable, issued = device.renewable(), device.renewal.who.issued
        expired = device.days_left() <= 0
        let_in = device.visit()
        self.counts["visits"] += 1
        if not let_in:
            self._shut_out(device)
            return
        device.shut_out = 0
        if device.renewal.who.issued != issued:
            self.counts["renewed late" if expired else "renewed"] += 1
            self.trace.add(device.name, f"renewed for {device.days_left():.0f} days")
            device.chances = 0
        elif renewable and self._settled():
            device.chances += 1
        self.expect(
            device.chances <= CHANCES,
            "a certificate is renewed while it can be",
            f"{device.name} has {device.days_left():.0f} days left, and was there for "
            f"{device.chances} times since it should have asked",
        )
        if self._settled():
            self._fresh(device)
            self._heard(device)

    def _fresh(self, device: SlowDevice) -> None:
        trusted = device.trust.trusted()
        late = ("everything",) if trusted is None else trusted.expired(int(self.hub.now()))
        self.expect(not late, "metadata are signed anew in time",
                    f"{device.name} holds expired {', '.join(late)}")  # fmt: skip

    def _heard(self, device: SlowDevice) -> None:
        said = self.hub.catalogue.contact
        if said is None or said.digest == device.contacts.digest:
            return
        if self.clock.now - max(self._changed_at, self.hub.up_since) > SETTLED_DAYS * DAY_SECONDS:
            device.heard_since += 1
        self.expect(
            device.heard_since <= HEARD_VISITS,
            "who is there hears where the hub is",
            f"{device.name} was there {device.heard_since} times and seeks it at "
            f"{device.contacts.brokers()[0]}",
        )

    def _shut_out(self, device: SlowDevice) -> None:
        """Listed before: it is enrolled again. Else it may be out for a moment only."""
        device.shut_out += 1
        self.trace.add(device.name, f"not let in: {device.refused}")
        if device.name in self._listed:
            self._enrol_again(device, device.refused)
            return
        self.expect(
            device.reachable,
            "who has not heard of a move is listed",
            f"{device.name} seeks the hub where it was, and nobody said so",
        )
        self.expect(
            device.shut_out <= SHUT_OUT_VISITS,
            "who may come in comes in",
            f"{device.name} was not let in {device.shut_out} times: {device.refused}; its "
            f"certificate has {device.days_left():.0f} days left",
        )

    def _enrol_again(self, device: SlowDevice, why: str) -> None:
        """Someone walks there with a token."""
        device.enrol(self.hub.now())
        device.shut_out = device.heard_since = 0
        self._listed.discard(device.name)
        self.counts["enrolled again"] += 1
        self.trace.add(device.name, f"enrolled again: {why}")
