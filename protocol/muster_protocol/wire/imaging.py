"""How a picture becomes a model's input: crop, size, colours, numbers, layout. Pure.

It is signed with the model, so that training and edge can't differ; ``muster_protocol.images`` does
what it says on both sides. Where pictures come from is the device's own affair.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from muster_protocol.wire import limits
from muster_protocol.wire.bounds import Finite
from muster_protocol.wire.errors import ProtocolError
from muster_protocol.wire.feeding import FeatureName, InputQuality, InputWindow
from muster_protocol.wire.tensors import Datatype, Tensor

PICTURE_TYPES: frozenset[Datatype] = frozenset({"UINT8", "INT8", "FP16", "FP32", "FP64"})
"""Types that a picture's numbers may have."""
Share = Annotated[float, Meta(ge=0, le=1)]
Channels = Annotated[tuple[Finite, ...], Meta(min_length=1, max_length=3)]
Scales = Annotated[
    tuple[Annotated[float, Meta(gt=0, le=limits.NUMBER_MAX)], ...], Meta(min_length=1, max_length=3)
]


class InputImage(Struct, frozen=True, forbid_unknown_fields=True):
    """A picture as the whole of a model's input. Its height and width are the tensor's own.

    In this order: crop, colours, size, ``(number - offset) / scale`` of numbers from 0 to 255, and
    the tensor's type: whole numbers are rounded and kept in their range, after its quantisation.
    """

    signal: FeatureName = "image"
    """What is seen, by the name that devices map a source to."""
    crop: tuple[Share, Share, Share, Share] | UnsetType = UNSET
    """Left, top, right and bottom of what is taken, as shares of the picture. Absent: all of it."""
    colour: Literal["rgb", "bgr", "grey"] = "rgb"
    """Order of the channels; grey is one channel, 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601)."""
    fit: Literal["stretch", "cover", "pad"] = "stretch"
    """Of a picture of another shape: it is stretched, its middle is taken so that all of the input
    is covered, or it is padded on both sides."""
    padding: Annotated[float, Meta(ge=0, le=255)] = 0.0
    """What ``pad`` fills the sides with, in every channel."""
    resize: Literal["bilinear", "nearest"] = "bilinear"
    """``bilinear``: a triangle filter, widened when the picture gets smaller, so that nothing is
    skipped. ``nearest``: single pixels."""
    offset: Channels = (0.0,)
    """Of all channels, or of each in their order."""
    scale: Scales = (1.0,)
    layout: Literal["HWC", "CHW"] = "HWC"
    """Whether the tensor's channels come last or first."""

    @property
    def channels(self) -> int:
        """How many the model is given."""
        return 1 if self.colour == "grey" else 3

    def size(self, tensor: Tensor) -> tuple[int, int]:
        """Height and width of the tensor's element."""
        shape = tensor.element_shape
        height, width = shape[:2] if self.layout == "HWC" else shape[1:]
        return height, width


def check(
    image: InputImage,
    window: InputWindow | UnsetType,
    quality: InputQuality | UnsetType,
    inputs: Sequence[Tensor],
    where: str,
) -> None:
    """Check what types can't say; raises ProtocolError."""
    tensor = pictured_input(image, inputs, where)
    if image.crop is not UNSET:
        left, top, right, bottom = image.crop
        if left >= right or top >= bottom:
            raise ProtocolError(
                f"{where}: image.crop {list(image.crop)} is empty: left and top come first, as "
                "shares from 0 to 1"
            )
    for name in ("offset", "scale"):
        count = len(getattr(image, name))
        if count not in {1, image.channels}:
            raise ProtocolError(
                f"{where}: image.{name} has {count} numbers: give 1, or {image.channels} as "
                f"input {tensor.name!r} has channels"
            )
    if window is not UNSET and (window.samples is not UNSET or window.seconds is not UNSET):
        raise ProtocolError(
            f"{where}: a picture is judged by itself: no window.samples or .seconds"
        )
    if quality is not UNSET and quality.bad != "skip":
        raise ProtocolError(
            f"{where}: quality.bad {quality.bad!r} is for numbers: no picture stands in for another"
        )


def pictured_input(image: InputImage, inputs: Sequence[Tensor], where: str) -> Tensor:
    """The input that the picture is; raises ProtocolError when it can't be one."""
    if len(inputs) != 1:
        named = ", ".join(repr(tensor.name) for tensor in inputs)
        raise ProtocolError(f"{where}: a picture is the only input of a model, not one of {named}")
    tensor = inputs[0]
    if tensor.datatype not in PICTURE_TYPES:
        known = ", ".join(sorted(PICTURE_TYPES))
        raise ProtocolError(
            f"{where}: a picture is of {known}, input {tensor.name!r} is {tensor.datatype}"
        )
    shape = tensor.element_shape
    fits = len(shape) == 3 and shape[2 if image.layout == "HWC" else 0] == image.channels
    if not fits or not all(1 <= size <= limits.PICTURE_SIDE_MAX for size in image.size(tensor)):
        wanted = "height, width, channels" if image.layout == "HWC" else "channels, height, width"
        raise ProtocolError(
            f"{where}: an element of input {tensor.name!r} has the shape {list(shape)}: a "
            f"{image.colour} picture as {image.layout} is {wanted}, with {image.channels} channels "
            f"and fixed sizes up to {limits.PICTURE_SIDE_MAX}"
        )
    return tensor
