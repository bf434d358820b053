"""A hint, without labels, that answers may have become worse. It is never an alert. Pure.

Confidence is a poor witness: under heavy noise a model is too sure of itself, so that an accuracy
guessed from it is too high by far. What a screen leaves of it is worth a look: confidence that fell
beyond what its own windows let one expect while the model's inputs drift.
"""

from collections.abc import Collection
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muster_protocol.signals.histogram import CONFIDENCE_BINS

USUAL_WINDOWS = 24
"""Of a device's first windows without drift, from which its usual confidence is learnt."""
LATELY = 0.8
"""What each window leaves of those before it."""
LATELY_WORTH = (1 + LATELY) / (1 - LATELY)
"""Windows that such a running mean is worth."""
FALL_MIN = 0.05
FALL_ERRORS = 4.0
"""Standard errors of the difference."""
_MIDDLES = (np.arange(CONFIDENCE_BINS) + 0.5) / CONFIDENCE_BINS


def follow(
    before: dict[str, Any], confidence: NDArray[np.int64], drifting: Collection[str]
) -> dict[str, Any]:
    """What is known of a device's confidence after a further window; ``hint`` is words, or empty.

    ``drifting``: the features that drift in it.
    """
    known = {"windows": 0, "mean": 0.0, "squares": 0.0, "lately": None, "hint": ""} | before
    total = int(confidence.sum())
    if not total:
        return known
    now = float(confidence @ _MIDDLES) / total
    if known["windows"] < USUAL_WINDOWS:
        if drifting:
            return known
        windows = known["windows"] + 1
        off = now - known["mean"]
        mean = known["mean"] + off / windows
        squares = known["squares"] + off * (now - mean)
        return known | {"windows": windows, "mean": mean, "squares": squares, "lately": mean}
    lately = LATELY * known["lately"] + (1 - LATELY) * now
    error = sqrt(known["squares"] / (USUAL_WINDOWS - 1) * (1 / USUAL_WINDOWS + 1 / LATELY_WORTH))
    fall = known["mean"] - lately
    if not drifting or fall < max(FALL_MIN, FALL_ERRORS * error):
        return known | {"lately": lately, "hint": ""}
    hint = (
        f"confidence fell from {known['mean']:.2f} to {lately:.2f} while {_names(drifting)} "
        "drifts: answers may be worse; label some to know"
    )
    return known | {"lately": lately, "hint": hint}


def _names(drifting: Collection[str]) -> str:
    first, *others = sorted(drifting)
    return f"{first} (and {len(others)} more)" if others else first
