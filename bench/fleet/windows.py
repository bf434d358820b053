"""The windows that virtual devices send, and the version they are of: features by name, watched."""

import numpy as np

from muster_protocol.signals import binning, learning
from muster_protocol.signals.baseline import Baseline
from muster_protocol.signals.features import elements
from muster_protocol.signals.learning import InTime
from muster_protocol.signals.summary import Summary, Tally
from muster_protocol.wire.messages import Stamp

KINDS, ROWS, TRAINING_WINDOWS = 64, 300, 200
WINDOW_SECONDS = 300.0
WIDE = "wide"
FEATURES = {"1": 8, "2": 8, WIDE: 50}
"""Of each version."""
DRIFT_SHIFT = 3.0
"""Standard deviations."""
MODEL = "pump"
_AT = Stamp(b"boot", 0.0, 0.0, "unknown")


class Windows:
    """Those of all versions, made once for all devices of a process."""

    def __init__(self) -> None:
        self._made = {
            (features, drifts): windows(features, DRIFT_SHIFT if drifts else 0.0)
            for features in set(FEATURES.values())
            for drifts in (False, True)
        }

    def of(self, version: str, *, drifts: bool) -> list[Summary]:
        """Some to choose from; who sends one puts its own version and times in."""
        return self._made[FEATURES[version], drifts]


def fitted(features: int) -> Baseline:
    """As packing makes it of rows in order of time; the same in every process."""
    rows = _rows(1, TRAINING_WINDOWS * ROWS, features)
    return learning.fit(rows, elements("x", features), InTime(ROWS, WINDOW_SECONDS))


def windows(features: int, shift: float = 0.0) -> list[Summary]:
    """Windows in which nothing drifts but by ``shift`` standard deviations."""
    known = fitted(features)
    return [
        Summary(
            model=MODEL, version="1", manifest="", opened=_AT, closed=_AT,
            counts=Tally(inferences=ROWS),
            features=binning.count(known, _rows(seed, ROWS, features, shift)),
        )
        for seed in range(2, 2 + KINDS)
    ]  # fmt: skip


def _rows(seed: int, count: int, features: int, shift: float = 0.0) -> dict[str, np.ndarray]:
    normal = np.random.default_rng(seed).normal(shift, size=(count, features))
    return {"x": normal.astype(np.float32)}
