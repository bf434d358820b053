"""The people of a world: what they release and roll out, and what they do when it sticks."""

from typing import TYPE_CHECKING, Any

from sim.catalogue import DOOMED, FINAL, RELEASES, WATCHED

if TYPE_CHECKING:
    from sim.world import World

SLOTS = {"digits": "main", "sounds": "aux"}
LOOK_SECONDS = 30.0
AT_ONCE: dict[str, Any] = {"most_down": 0, "canary": 0, "in_flight_max": 0}
GRACE_SECONDS = 80.0
"""A rollout older than this that still moves is aborted when another one waits."""


class Operator:
    def __init__(self, world: "World") -> None:
        self.world = world
        self.waiting: list[tuple[str, str]] = []
        """Releases to be rolled out, first come first."""
        self.hasty: set[tuple[str, str]] = set()
        """Those that somebody in a hurry rolls out to all at once."""
        self.started: dict[int, float] = {}
        self.budgets: dict[int, int] = {}
        """Rollout → most devices under way at once, as it was asked."""
        self.most_down: dict[int, int] = {}
        """Rollout → most devices of a site that may swap at once, 0 for no such budget."""

    def look(self) -> None:
        """Every now and then: start what waits for each slot, abort what sticks."""
        if self.world.faults_over:
            return
        first = {SLOTS[model]: (model, version) for model, version in reversed(self.waiting)}
        for release in first.values():
            self._try(*release)
        self.world.clock.after(LOOK_SECONDS * self.world.rng.uniform(0.8, 1.2), self.look)

    def _try(self, model: str, version: str) -> None:
        live = [row for row in self.world.hub.rollouts() if row.state in ("running", "paused")]
        for row in live:
            age = self.world.clock.now - self.started.get(row.id or 0, 0.0)
            if row.slot == SLOTS[model] and age > GRACE_SECONDS:
                self._command("abort", row.id or 0)
                return
        release = model, version
        plan = AT_ONCE if release in self.hasty else {}
        if self.roll_out(*release, **plan) is not None:
            self.waiting.remove(release)
            self.hasty.discard(release)

    def next_rollout(self, size: float) -> None:
        """On a whim: another release, or one that was there before."""
        candidates = [
            item
            for item in RELEASES
            if item[1] != FINAL[item[0]]
            and item not in (DOOMED, WATCHED)
            and not (self.world.watching and item[0] == WATCHED[0])
        ]
        chosen = candidates[int(size * (len(candidates) - 1))]
        if len(self.waiting) < 4:
            self.waiting.append(chosen)

    def roll_out(
        self, model: str, version: str, *, most_down: int | None = None, **plan: Any
    ) -> int | None:
        """Its number; None when the hub refuses. ``most_down`` is drawn unless it is given."""
        world = self.world
        world.hub.release(RELEASES.index((model, version)) + 1)
        settled: dict[str, Any] = {
            "selector": "", "canary": world.rng.choice([0, 1, 2, 0.25]), "min_soak_seconds": 5.0,
            "timeout_seconds": 300.0, "in_flight_max": world.rng.choice([0, 0, 2, 3]),
        } | plan  # fmt: skip
        if most_down is None:
            most_down = world.rng.choice([0, 1, 1, 2])
        if most_down:
            settled["budgets"] = [{"group_by": ["site"], "max_unavailable": most_down}]
        number = world.hub.roll_out(model, version, SLOTS[model], **settled)
        if number is not None:
            self.started[number] = world.clock.now
            self.budgets[number] = settled["in_flight_max"]
            self.most_down[number] = most_down
            world.trace.add(
                "operator",
                f"rollout {number}: {model} {version} ({world.habit_of(model, version)}), "
                f"canary {settled['canary']}, at most {settled['in_flight_max'] or 'all'} at once, "
                f"{most_down or 'all'} of a site may swap",
            )
        return number

    def revoke(self, device: str, seconds: float) -> None:
        world = self.world
        if device in world.broker.revoked or not world.hub.change(device, revoked=True):
            return
        world.trace.add("operator", f"revokes {device}")
        world.broker.revoked.add(device)
        world.watch.revoked(device)
        world.broker.cut(device, 0.0, "revoked")
        world.clock.after(seconds, lambda: self.pardon(device))

    def pardon(self, device: str) -> None:
        if device in self.world.broker.revoked:
            if not self.world.hub.change(device, revoked=False):
                self.world.clock.after(5.0, lambda: self.pardon(device))
                return
            self.world.trace.add("operator", f"enrols {device} again")
            self.world.broker.revoked.discard(device)

    def settle(self, release: tuple[str, str], **plan: Any) -> bool:
        """After the faults: end what moves, then roll out one release to all; True when begun."""
        for device in sorted(self.world.broker.revoked):
            self.pardon(device)
        for row in self.world.hub.rollouts():
            if row.state in ("running", "paused"):
                self._command("abort", row.id or 0)
        self.waiting.clear()
        return self.roll_out(*release, **plan) is not None

    def _command(self, verb: str, rollout: int) -> None:
        if self.world.hub.move(verb, rollout):
            self.world.trace.add("operator", f"{verb}s rollout {rollout}")
