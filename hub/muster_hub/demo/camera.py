"""What a camera makes of a digit: dirt on the lens blurs, a failing lamp dims, light leaks in."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

INK_MAX = 16.0


@dataclass(frozen=True)
class Camera:
    """``blur`` 0 to 1 mixes in a 3x3 mean; ink is then scaled by ``gain``, raised by ``glow``.

    A ``frozen`` camera shows one picture, whatever is before it.
    """

    blur: float = 0.0
    gain: float = 1.0
    glow: float = 0.0
    frozen: bool = False

    def see(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Images ``[n, h, w]`` as this camera sees them, in whole steps of ink as scanned."""
        if self.frozen:
            picture = np.linspace(0.0, INK_MAX, images[0].size).reshape(images[0].shape)
            images = np.broadcast_to(picture.astype(np.float32), images.shape)
        mixed = (1.0 - self.blur) * images + self.blur * _mean_3x3(images)
        ink = np.clip(mixed * self.gain + self.glow, 0.0, INK_MAX)
        return np.round(ink).astype(np.float32)


CLEAN = Camera()
DEGRADED = Camera(blur=1.0, gain=0.5, glow=6.0)
"""The demo's failing camera."""
FROZEN = Camera(blur=1.0, gain=0.5, glow=6.0, frozen=True)
"""The same camera when its picture no longer changes."""


def _mean_3x3(images: NDArray[np.float32]) -> NDArray[np.float32]:
    height, width = images.shape[1:]
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)), mode="edge")
    shifted = [
        padded[:, down : down + height, right : right + width]
        for down in range(3)
        for right in range(3)
    ]
    return np.asarray(np.mean(shifted, axis=0), dtype=np.float32)
