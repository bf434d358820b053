"""Pictures of stamped discs, from first principles: a lit, brushed surface, scratched or not.

A surface throws back light in proportion to its albedo and to the light on it. A disc is bright,
the belt under it dark; brushing makes its albedo vary along one direction; a scratch is a thin
line that throws back less. The camera adds noise of its own and counts from 0 to 255.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HEIGHT, WIDTH = 120, 160
RADIUS = 47.0
DISC, BELT = 0.70, 0.08
"""Albedo."""
SHIFT = 2.0
"""How far a disc may lie off the middle; pixels."""
SCRATCHED_SHARE = 0.3
CLASSES = ("ok", "scratched")
Picture = NDArray[np.uint8]


@dataclass
class Line:
    """Discs one after another under a lamp; ``seed`` chooses them."""

    seed: int
    light: float = 1.0
    """Of the lamp; 1 is new."""

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)

    def next(self) -> tuple[Picture, str]:
        """The picture [120, 160, 3] of the next disc, and what it truly is."""
        rng = self._rng
        scratched = bool(rng.random() < SCRATCHED_SHARE)
        y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float64)
        middle_y, middle_x = (
            HEIGHT / 2 + rng.uniform(-SHIFT, SHIFT),
            WIDTH / 2 + rng.uniform(-SHIFT, SHIFT),
        )
        inside = np.hypot(y - middle_y, x - middle_x) <= RADIUS
        brushed = 1 + 0.02 * rng.standard_normal((HEIGHT, 1))
        albedo = np.where(inside, DISC * brushed * rng.normal(1.0, 0.015), BELT)
        if scratched:
            albedo *= 1 - self._scratch(x - middle_x, y - middle_y)
        lamp = self.light * (1 + 0.1 * (x - WIDTH / 2) / WIDTH)
        grey = 255 * albedo * lamp + rng.normal(0, 1.5, (HEIGHT, WIDTH))
        colour = grey[..., np.newaxis] * np.array([1.0, 0.98, 0.94])
        return np.clip(np.rint(colour), 0, 255).astype(np.uint8), CLASSES[scratched]

    def _scratch(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        """How much less each place throws back: a line of some length, depth and width."""
        rng = self._rng
        angle, depth = rng.uniform(0, np.pi), rng.uniform(0.14, 0.30)
        off_x, off_y = rng.uniform(-12, 12, 2)
        along = (x - off_x) * np.cos(angle) + (y - off_y) * np.sin(angle)
        across = (y - off_y) * np.cos(angle) - (x - off_x) * np.sin(angle)
        length = rng.uniform(12, 20)
        profile = np.exp(-((across / 1.2) ** 2)) * (np.abs(along) <= length)
        return depth * profile
