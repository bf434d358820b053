"""Pixels of a picture's file: PNG, JPEG or BMP, of one frame, grey or RGB with 8 bits. Pure.

Needs Pillow. A file is hostile until it is decoded: its format must be one of these, and its size
is known from the head before any pixel is.
"""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muster_protocol.wire.errors import MusterError

Pixels = NDArray[np.uint8]
"""[height, width] of grey, [height, width, 3] of red, green and blue."""
FORMATS = ("PNG", "JPEG", "BMP")
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp"})
MODES = frozenset({"L", "RGB"})
PIXELS_MAX = 32_000_000
"""Of a picture, unless told otherwise: 96 MB as RGB."""
WORDS_MAX = 200


class ImageError(MusterError):
    """A file is no picture that can be taken; the message says why."""


def decoded(data: bytes, *, pixels_max: int = PIXELS_MAX) -> Pixels:
    """Pixels of a file's bytes, as the file has them: no rotation by EXIF. Raises ImageError."""
    from PIL import Image, UnidentifiedImageError  # noqa: PLC0415 - of an extra

    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check(image, pixels_max)
            image.load()
            return np.asarray(image, np.uint8)
    except ImageError:
        raise
    except Exception as error:  # decoders of hostile bytes raise whatever they trip over
        words = "unknown" if isinstance(error, UnidentifiedImageError) else str(error)
        raise ImageError(f"no {', '.join(FORMATS)} that can be read: {words[:WORDS_MAX]}") from None


def _check(image: Any, pixels_max: int) -> None:
    """Raise ImageError by what the file's head says."""
    width, height = image.size
    if width * height > pixels_max:
        raise ImageError(f"{width}×{height} pixels, the limit is {pixels_max} in all")
    frames = getattr(image, "n_frames", 1)
    if frames != 1:
        raise ImageError(f"{frames} frames: a picture has one")
    if image.mode not in MODES:
        raise ImageError(
            f"mode {image.mode}: have the camera's software write 8-bit grey (L) or RGB"
        )
