"""From pixels to the numbers of a model's input, as its signed manifest says. Pure.

Plain arithmetic on arrays in one order, so that the same pixels give the same numbers everywhere,
in training as on a device.
"""

from collections.abc import Callable, Mapping
from math import ceil
from typing import Any, assert_never

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from muster_protocol.images.decoding import Pixels
from muster_protocol.wire.imaging import InputImage
from muster_protocol.wire.tensors import Datatype, Tensor

Floats = NDArray[np.float32]
LUMA = (0.299, 0.587, 0.114)
"""Of red, green and blue in grey. Source: ITU-R BT.601."""
NUMPY_TYPES: Mapping[Datatype, Any] = {
    "UINT8": np.uint8, "INT8": np.int8, "FP16": np.float16, "FP32": np.float32, "FP64": np.float64,
}  # fmt: skip


def prepared(pixels: Pixels, image: InputImage, tensor: Tensor) -> NDArray[Any]:
    """An element of ``tensor`` from pixels of any size, [height, width] or [height, width, 3].

    Image and tensor are of one manifest, which was checked.
    """
    height, width = image.size(tensor)
    taken = _coloured(_cropped(pixels, image), image)
    numbers = _fitted(taken, image, height, width)
    offset, scale = np.array(image.offset, np.float32), np.array(image.scale, np.float32)
    numbers = np.asarray((numbers - offset) / scale, np.float32)
    if image.layout == "CHW":
        numbers = np.moveaxis(numbers, 2, 0)
    return np.ascontiguousarray(_typed(numbers, tensor))


def _cropped(pixels: Pixels, image: InputImage) -> Pixels:
    if image.crop is UNSET:
        return pixels
    left, top, right, bottom = image.crop
    rows = _span(top, bottom, pixels.shape[0])
    return pixels[rows, _span(left, right, pixels.shape[1])]


def _span(begin: float, end: float, size: int) -> slice:
    """At least one pixel."""
    first = min(round(begin * size), size - 1)
    return slice(first, max(round(end * size), first + 1))


def _coloured(pixels: Pixels, image: InputImage) -> Floats:
    """[height, width, channels] from 0 to 255."""
    numbers = pixels.astype(np.float32)
    grey = numbers.ndim == 2
    match image.colour:
        case "grey":
            if not grey:
                red, green, blue = (numbers[..., place] for place in range(3))
                first, second, third = map(np.float32, LUMA)
                numbers = red * first + green * second + blue * third
            return np.asarray(numbers[..., np.newaxis])
        case "rgb":
            return np.repeat(numbers[..., np.newaxis], 3, axis=2) if grey else numbers
        case "bgr":
            return np.repeat(numbers[..., np.newaxis], 3, axis=2) if grey else numbers[..., ::-1]
        case _:
            assert_never(image.colour)


def _fitted(numbers: Floats, image: InputImage, height: int, width: int) -> Floats:
    """[height, width, channels]"""
    match image.fit:
        case "stretch":
            return _resized(numbers, image, height, width)
        case "cover":
            return _resized(_middle(numbers, height, width), image, height, width)
        case "pad":
            had_height, had_width, channels = numbers.shape
            scale = min(height / had_height, width / had_width)
            inner = (
                min(max(round(had_height * scale), 1), height),
                min(max(round(had_width * scale), 1), width),
            )
            top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
            made = np.full((height, width, channels), image.padding, np.float32)
            made[top : top + inner[0], left : left + inner[1]] = _resized(numbers, image, *inner)
            return made
        case _:
            assert_never(image.fit)


def _middle(numbers: Floats, height: int, width: int) -> Floats:
    """The largest part from the middle that has the wanted shape."""
    had_height, had_width = numbers.shape[:2]
    scale = min(had_height / height, had_width / width)
    rows = min(max(round(height * scale), 1), had_height)
    columns = min(max(round(width * scale), 1), had_width)
    top, left = (had_height - rows) // 2, (had_width - columns) // 2
    return numbers[top : top + rows, left : left + columns]


def _resized(numbers: Floats, image: InputImage, height: int, width: int) -> Floats:
    along: Callable[[Floats, int], Floats]
    match image.resize:
        case "bilinear":
            along = _filtered
        case "nearest":
            along = _nearest
        case _:
            assert_never(image.resize)
    turned = np.swapaxes(along(numbers, height), 0, 1)
    return np.swapaxes(along(turned, width), 0, 1)


def _nearest(numbers: Floats, wanted: int) -> Floats:
    """Along the first axis, the pixel under each new one's middle."""
    had = len(numbers)
    return np.asarray(numbers[((np.arange(wanted) + 0.5) * had / wanted).astype(np.intp)])


def _filtered(numbers: Floats, wanted: int) -> Floats:
    """Along the first axis by a triangle as wide as two pixels of the coarser grid.

    Tap by tap, from the first on: sums have one order everywhere.
    """
    had = len(numbers)
    if had == wanted:
        return numbers
    step = had / wanted
    support = max(step, 1.0)
    middles = (np.arange(wanted) + 0.5) * step
    taps = 2 * ceil(support) + 1
    places = np.floor(middles - support).astype(np.intp)[:, np.newaxis] + np.arange(taps)
    weights = np.clip(1 - np.abs(places + 0.5 - middles[:, np.newaxis]) / support, 0, None)
    weights[(places < 0) | (places >= had)] = 0
    weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    places = np.clip(places, 0, had - 1)
    made = np.zeros((wanted, *numbers.shape[1:]), np.float32)
    for tap in range(taps):
        made += numbers[places[:, tap]] * weights[:, tap, np.newaxis, np.newaxis]
    return made


def _typed(numbers: Floats, tensor: Tensor) -> NDArray[Any]:
    kind = np.dtype(NUMPY_TYPES[tensor.datatype])
    if kind.kind == "f":
        return numbers.astype(kind)
    if tensor.quantisation is not UNSET:
        scale, zero = tensor.quantisation.scale, tensor.quantisation.zero_point
        numbers = numbers / np.float32(scale) + np.float32(zero)
    bounds = np.iinfo(kind)
    return np.clip(np.rint(numbers), bounds.min, bounds.max).astype(kind)
