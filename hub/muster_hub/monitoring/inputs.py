"""Requests refused because of their input: how many lately, and how many is usual. Pure.

A caller that begins to send NaN, text or a wrong shape is refused before the model is asked, so
that nothing of it is seen in any feature.
"""

from typing import Any

from muster_protocol.signals.summary import Tally

LATELY, USUALLY = 0.7, 0.995
"""What each window leaves of those before it."""
REFUSED_MIN = 5.0
SHARE_MIN = 0.05
RISE = 3.0
"""Times the usual share, from which on it has risen."""
CLEARED = 0.5
"""Of the share that raises the alert, below which it is over."""


def follow(before: dict[str, Any], counts: Tally, start: float) -> dict[str, Any]:
    """What is known after a further window: refused and all requests, decayed; ``since`` when."""
    known = {"lately": [0.0, 0.0], "usually": [0.0, 0.0], "since": None} | before
    refused, asked = counts.errors_input, counts.errors_input + counts.inferences
    if not asked:
        return known
    lately = [LATELY * known["lately"][0] + refused, LATELY * known["lately"][1] + asked]
    share, usual = lately[0] / lately[1], known["usually"][0] / max(known["usually"][1], 1.0)
    limit = max(SHARE_MIN, RISE * usual)
    since = known["since"]
    if since is None:
        since = start if lately[0] >= REFUSED_MIN and share >= limit else None
    elif share < CLEARED * limit:
        since = None
    usually = known["usually"]
    if since is None:
        usually = [USUALLY * usually[0] + refused, USUALLY * usually[1] + asked]
    return {"lately": lately, "usually": usually, "since": since}


def share(known: dict[str, Any]) -> float:
    """Of the latest requests, the refused ones."""
    return float(known["lately"][0] / max(known["lately"][1], 1.0))
