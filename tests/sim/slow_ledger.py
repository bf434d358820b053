"""What a slow world's devices have told, and what the hub must still hold of it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from muster_hub.monitoring.rollup_step import FLEET, LEVEL_SECONDS, SETTLED_SECONDS
from muster_hub.settings.retention import Telemetry
from muster_hub.storage.models import RollupLevel
from sim.slow_hub import DAY_SECONDS

if TYPE_CHECKING:
    from sim.slow_world import SlowWorld

_WINDOWS = text("SELECT count(*), coalesce(sum(n), 0), min(start) FROM summary_window")
_ROLLUPS = text(
    "SELECT device, sum(windows), sum(n), min(start) FROM rollup WHERE level = :level "
    "GROUP BY device"
)


@dataclass(frozen=True)
class Told:
    """A window that the hub has taken: ``start`` in seconds since 1970, ``n`` inferences."""

    device: str
    start: float
    n: int


class Ledger:
    def __init__(self, world: "SlowWorld", kept: Telemetry) -> None:
        self._world, self._kept = world, kept
        self._rows: list[Told] = []

    def add(self, device: str, start: float, n: int) -> None:
        self._rows.append(Told(device, start, n))

    def check(self) -> None:
        """The engine has just kept house: what must be there is, and nothing else."""
        now = self._world.hub.now()
        self._world.counts["looks"] += 1
        with self._world.hub.store.read() as session:
            count, total, oldest = session.connection().execute(_WINDOWS).one()
        since = now - self._kept.raw_days * DAY_SECONDS
        self._old(oldest, since, "windows")
        wanted = [each for each in self._rows if each.start >= since]
        self._alike("windows", (count, total), (len(wanted), sum(each.n for each in wanted)))
        for level in LEVEL_SECONDS:
            self._rolled(level, now)
        ends = _floor(now - self._kept.day_days * DAY_SECONDS, DAY_SECONDS)
        self._rows = [each for each in self._rows if each.start >= ends]

    def _rolled(self, level: RollupLevel, now: float) -> None:
        days = self._kept.hour_days if level == "hour" else self._kept.day_days
        since = _floor(now - days * DAY_SECONDS, DAY_SECONDS)
        settled = _floor(now - SETTLED_SECONDS, LEVEL_SECONDS["hour"])
        due = [each for each in self._rows if since <= each.start < settled]
        wanted: dict[str, tuple[int, int]] = {}
        for each in due:
            for name in (each.device, FLEET):
                windows, n = wanted.get(name, (0, 0))
                wanted[name] = windows + 1, n + each.n
        with self._world.hub.store.read() as session:
            rows = session.connection().execute(_ROLLUPS, {"level": level}).all()
        for _, _, _, oldest in rows:
            self._old(oldest, since, f"{level}s")
        found = {name: (windows, n) for name, windows, n, _ in rows}
        for name in sorted(found.keys() | wanted.keys()):
            had, due_to = found.get(name, (0, 0)), wanted.get(name, (0, 0))
            self._world.expect(
                had == due_to,
                f"{level}s add up to what was told",
                f"{name or 'the fleet'}: windows and inferences {had}, told were {due_to}",
            )

    def _old(self, oldest: float | None, since: float, what: str) -> None:
        self._world.expect(
            oldest is None or oldest >= since,
            "what is older than is kept is gone",
            f"{what} of {(since - (oldest or since)) / DAY_SECONDS:.1f} days before that are left",
        )

    def _alike(self, what: str, found: tuple[int, int], wanted: tuple[int, int]) -> None:
        self._world.expect(
            found == wanted,
            "nothing younger than is kept is gone",
            f"{what} and their inferences are {found}, and should be {wanted}",
        )


def _floor(at: float, seconds: float) -> float:
    return at - at % seconds
