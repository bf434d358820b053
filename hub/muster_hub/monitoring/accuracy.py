"""Whether a model's mistakes, as late labels show them, have become more frequent. Pure.

The Page–Hinkley test over a device's labels (``signals.concept``); without labels nothing is said:
accuracy guessed from confidences alone is far too optimistic just when it matters.
"""

from dataclasses import asdict
from typing import Any

from muster_protocol.signals.concept import PageHinkley

LABELS_PER_WINDOW_MAX = 10_000
"""Of a window's labels more are scaled down to this: the test goes through them one by one."""
LATELY = 0.9
"""What each labelled window leaves of those before it."""
RECOVERED_MARGIN = 0.02
"""Above the usual error rate, at which the alert is over."""
LABELS_MIN = 30


def follow(before: dict[str, Any], right: int, wrong: int, start: float) -> dict[str, Any]:
    """What is known after a further window's labels; ``since`` when mistakes have risen."""
    known: dict[str, Any] = {"test": {}, "lately": [0.0, 0.0], "usual": 0.0, "since": None} | before
    if not right + wrong:
        return known
    if (labels := right + wrong) > LABELS_PER_WINDOW_MAX:
        right, wrong = (count * LABELS_PER_WINDOW_MAX // labels for count in (right, wrong))
    lately = [LATELY * known["lately"][0] + wrong, LATELY * known["lately"][1] + right + wrong]
    test = PageHinkley(**known["test"])
    usual, since = known["usual"], known["since"]
    after = test.feed(right, wrong)
    if since is None:
        if after.drifting:
            usual, since, after = test.mean, start, test.restarted()
            lately = [float(wrong), float(right + wrong)]
    elif lately[1] >= LABELS_MIN and lately[0] <= (usual + RECOVERED_MARGIN) * lately[1]:
        since, after = None, test.restarted()
    return {"test": asdict(after), "lately": lately, "usual": usual, "since": since}


def error_rate(known: dict[str, Any]) -> float:
    """Of the latest labels."""
    return float(known["lately"][0] / max(known["lately"][1], 1.0))
