"""The windows that virtual devices send, and the version they are of: features by name, watched."""

import numpy as np

from muster_protocol.signals import baseline, binning, features
from muster_protocol.signals.baseline import Baseline
from muster_protocol.signals.summary import Summary, Tally
from muster_protocol.wire.messages import Stamp

FEATURES, KINDS, ROWS = 8, 64, 300
MODEL = "pump"
_AT = Stamp(b"boot", 0.0, 0.0, "unknown")


def fitted() -> Baseline:
    """The same in every process."""
    return baseline.fit(_rows(1, 2_000), features.elements("x", FEATURES))


def windows() -> list[Summary]:
    """Windows in which nothing drifts; who sends one puts its own version and times in."""
    known = fitted()
    return [
        Summary(
            model=MODEL, version="1", manifest="", opened=_AT, closed=_AT,
            counts=Tally(inferences=ROWS), features=binning.count(known, _rows(seed, ROWS)),
        )
        for seed in range(2, 2 + KINDS)
    ]  # fmt: skip


def _rows(seed: int, count: int) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(seed).normal(size=(count, FEATURES)).astype(np.float32)}
