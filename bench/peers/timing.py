"""Seconds of a call; the standard library only, as every peer's environment imports it."""

import time
from collections.abc import Callable


def best(run: Callable[[], object], repeats: int = 5, seconds: float = 0.1) -> float:
    """Seconds of one call: the least of several means, as noise only ever adds."""
    run()
    begun = time.perf_counter()
    run()
    calls = max(1, int(seconds / max(time.perf_counter() - begun, 1e-9)))
    means = []
    for _ in range(repeats):
        begun = time.perf_counter()
        for _ in range(calls):
            run()
        means.append((time.perf_counter() - begun) / calls)
    return min(means)
