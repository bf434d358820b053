"""Waiting for another process or thread whose change nothing announces: it is looked for."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE_SECONDS = 60.0
"""Bounds a failure; no machine that works takes as long."""
POLL_SECONDS = 0.02


def eventually(fact: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> bool:
    """Whether it holds now or within that time."""
    ends = time.monotonic() + seconds
    while not fact():
        if time.monotonic() > ends:
            return False
        time.sleep(POLL_SECONDS)  # The other side gives no sign.
    return True


def until(
    look: Callable[[], T], holds: Callable[[T], bool], seconds: float = PATIENCE_SECONDS
) -> T:
    """What was seen once it held; fails with the last of it when it doesn't in that time."""
    seen = look()

    def now() -> bool:
        nonlocal seen
        seen = look()
        return holds(seen)

    assert eventually(now, seconds), f"did not come in {seconds:.0f} s: {str(seen)[:3000]}"
    return seen
