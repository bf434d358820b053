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


def windows(shift: float = 0.0) -> list[Summary]:
    """Windows in which nothing drifts but by ``shift`` standard deviations; who sends one puts its
    own version and times in."""
    known = fitted()
    return [
        Summary(
            model=MODEL, version="1", manifest="", opened=_AT, closed=_AT,
            counts=Tally(inferences=ROWS), features=binning.count(known, _rows(seed, ROWS, shift)),
        )
        for seed in range(2, 2 + KINDS)
    ]  # fmt: skip


def _rows(seed: int, count: int, shift: float = 0.0) -> dict[str, np.ndarray]:
    normal = np.random.default_rng(seed).normal(shift, size=(count, FEATURES))
    return {"x": normal.astype(np.float32)}
