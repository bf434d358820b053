"""From a seed that fails to the fewest faults that still break the same promise."""

import math
from collections.abc import Sequence

from sim.doubles import HONEST, Doubles
from sim.faults import Fault
from sim.trace import clock
from sim.world import World

TRIES_MAX = 120
LATER = 1.5
"""A world with fewer faults may fail later than the whole one did, at most so many times."""


def _fails(
    seed: int, plan: Sequence[Fault], invariant: str, doubles: Doubles, seconds: float = math.inf
) -> World | None:
    world = World(seed, plan=plan, doubles=doubles)
    found = world.run(seconds).violation
    return world if found is not None and found.invariant == invariant else None


def shrink(
    seed: int, plan: Sequence[Fault], invariant: str, *, doubles: Doubles | None = None
) -> World:
    """Leave out ever smaller parts of the plan while the world still fails that way."""
    doubles = doubles or HONEST
    best = _fails(seed, plan, invariant, doubles)
    assert best is not None, "a world is the same each time it is lived"
    # What came after the violation played no part, and a world that has outlived it is not one
    # that fails: it needn't be lived to its end.
    seconds = best.clock.now * LATER
    kept = [item for item in plan if item.at <= best.clock.now]
    parts, tries = 2, 0
    while kept and tries < TRIES_MAX:
        size = max(1, len(kept) // parts)
        for start in range(0, len(kept), size):
            fewer = kept[:start] + kept[start + size :]
            tries += 1
            world = _fails(seed, fewer, invariant, doubles, seconds)
            if world is not None:
                kept, best = fewer, world
                parts = max(parts - 1, 2)
                break
            if tries >= TRIES_MAX:
                break
        else:
            if size == 1:
                break
            parts = min(parts * 2, len(kept))
    best.plan = kept
    return best


def in_words(world: World, commit: str, plant: str | None = None) -> str:
    """A violation as a person can follow it: what was broken, by which faults, step by step."""
    planted = f" ARGS='--plant \"{plant}\"'" if plant else ""
    last = world.trace.lines[-1][2]
    about = next((name for name in world.devices if name in last), None)
    faults = "\n".join(f"  {clock(item.at)}  {item}" for item in world.plan) or "  none"
    return (
        f"seed {world.seed}, commit {commit}: {last}\n"
        f"faults that are needed ({len(world.plan)} of those drawn):\n{faults}\n"
        f"what {about or 'the fleet'} went through:\n{world.trace.text(last=40, about=about)}\n"
        f"replay it: make sim SEED={world.seed}{planted}"
    )
