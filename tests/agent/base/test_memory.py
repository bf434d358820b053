"""Memory that is free goes back to the system."""

import subprocess
import sys

SCRIPT = """
from muster_agent.base import memory
def resident():
    with open("/proc/self/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Anonymous:"))
held = [bytes(60_000) for _ in range(1000)]
kept = held[::10]
full = resident()
del held
freed = resident()
memory.give_back()
print(full - freed, freed - resident())
"""
MOST_KIB = 1000 * 60_000 // 1024


def test_what_the_allocator_keeps_between_blocks_that_are_used_is_given_back():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=60,
        env={"PYTHONPATH": ":".join(filter(None, sys.path)), "MALLOC_ARENA_MAX": "1"},
    )  # fmt: skip
    by_itself, trimmed = map(int, done.stdout.split())
    assert by_itself + trimmed > MOST_KIB / 2
    assert trimmed > MOST_KIB / 4
