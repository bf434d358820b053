"""What a model needs of a machine: features by name, unit and order, window, quality. Pure.

It is signed with the model, so that training and edge can't differ; where the numbers come from is
the device's own affair. Agents without feeds read these fields and do nothing with them.
"""

from collections.abc import Collection, Sequence
from math import prod
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from muster_protocol.wire import bounds, limits
from muster_protocol.wire.bounds import Finite, Line
from muster_protocol.wire.errors import ProtocolError
from muster_protocol.wire.tensors import FLOATS, Tensor

Statistic = Literal["last", "mean", "min", "max", "std", "rms", "slope", "each"]
"""How the samples of a window become a number. ``std`` divides by their count; ``slope`` is that of
the least-squares line, per second; ``each`` is no number but all of them, oldest first."""

FeatureName = Annotated[
    str, Meta(min_length=1, max_length=limits.NAME_CHARS_MAX, pattern=bounds.LINE_PATTERN)
]
Span = Annotated[float, Meta(gt=0, le=86_400)]
"""Seconds, at most a day."""


class InputFeature(Struct, frozen=True, forbid_unknown_fields=True):
    """A number of the model's input. The model is given ``(number - offset) / scale``."""

    name: FeatureName
    unit: Line = ""
    signal: FeatureName | UnsetType = UNSET
    """What is measured, by the name that devices map a tag to. Absent: as the feature."""
    statistic: Statistic = "last"
    least: Finite | UnsetType = UNSET
    """The smallest value a sample can have, in the unit. What is outside is bad: ``range``."""
    most: Finite | UnsetType = UNSET
    offset: Finite = 0.0
    scale: Annotated[float, Meta(gt=0, le=limits.NUMBER_MAX)] = 1.0

    @property
    def source(self) -> str:
        """Name of the signal it is made of."""
        return self.name if self.signal is UNSET else self.signal


class InputWindow(Struct, frozen=True, forbid_unknown_fields=True):
    """Which samples of each signal an answer rests on: the last ``samples``, or those of the last
    ``seconds``; and how often it is asked.
    """

    every_seconds: Span = 1.0
    samples: Annotated[int, Meta(ge=1, le=limits.WINDOW_SAMPLES_MAX)] | UnsetType = UNSET
    seconds: Span | UnsetType = UNSET
    clock: Literal["source", "arrival"] = "source"
    """Whose time a sample has: its source's where that says it, or the device's."""


class InputQuality(Struct, frozen=True, forbid_unknown_fields=True):
    """What is done with values that are bad, uncertain or old."""

    bad: Literal["skip", "hold", "pass"] = "skip"
    """``skip``: the model isn't asked. ``hold``: the last good value stands in. ``pass``: the model
    is given NaN, which its input must allow."""
    hold_seconds: Annotated[float, Meta(ge=0, le=86_400)] = 0.0
    """How old a held value may be."""
    stale_seconds: Span = 10.0
    """After so long without a sign of life from its source a value is bad: ``stale``."""
    uncertain: Literal["use", "bad"] = "use"
    """Whether a value that its source calls uncertain is used, and the answer called so too."""


def check(
    features: Sequence[InputFeature],
    window: InputWindow | UnsetType,
    quality: InputQuality | UnsetType,
    inputs: Sequence[Tensor],
    state_inputs: Collection[str],
    where: str,
) -> None:
    """Check what types can't say; raises ProtocolError."""
    names = [feature.name for feature in features]
    for name in names:
        if names.count(name) > 1:
            raise ProtocolError(f"{where}: feature {name!r} is listed twice")
    for feature in features:
        if (
            feature.least is not UNSET
            and feature.most is not UNSET
            and feature.least > feature.most
        ):
            raise ProtocolError(
                f"{where}: feature {feature.name!r}: least {feature.least:g} is above most "
                f"{feature.most:g}"
            )
    _check_signals(features, where)
    samples = _check_window(features, window, where)
    tensor = fed_input(inputs, state_inputs, where)
    wanted = len(features) * samples
    if -1 in tensor.element_shape or prod(tensor.element_shape) != wanted:
        raise ProtocolError(
            f"{where}: {len(features)} features"
            + (f" of {samples} samples" if samples > 1 else "")
            + f" are {wanted} numbers, an element of input {tensor.name!r} has the shape "
            f"{list(tensor.element_shape)}"
        )
    if quality is not UNSET and quality.bad == "pass" and tensor.missing is not True:
        raise ProtocolError(
            f"{where}: quality.bad 'pass' gives the model NaN: input {tensor.name!r} must say "
            "missing true"
        )


def fed_input(inputs: Sequence[Tensor], state_inputs: Collection[str], where: str) -> Tensor:
    """The input that the features make up; raises ProtocolError when there isn't exactly this."""
    fed = [tensor for tensor in inputs if tensor.name not in state_inputs]
    if len(fed) != 1 or state_inputs:
        raise ProtocolError(
            f"{where}: features make up one input of a model without explicit state, not "
            f"{', '.join(repr(tensor.name) for tensor in inputs)}"
        )
    if fed[0].datatype not in FLOATS - {"BF16"}:
        raise ProtocolError(
            f"{where}: features are FP16, FP32 or FP64, input {fed[0].name!r} is {fed[0].datatype}"
        )
    return fed[0]


def _check_signals(features: Sequence[InputFeature], where: str) -> None:
    """Features of one signal measure the same thing."""
    known: dict[str, InputFeature] = {}
    for feature in features:
        first = known.setdefault(feature.source, feature)
        same = (first.unit, first.least, first.most)
        if (feature.unit, feature.least, feature.most) != same:
            raise ProtocolError(
                f"{where}: features {first.name!r} and {feature.name!r} are of signal "
                f"{feature.source!r}, with another unit or range"
            )


def _check_window(
    features: Sequence[InputFeature], window: InputWindow | UnsetType, where: str
) -> int:
    """How many numbers a feature is; raises ProtocolError."""
    each = [feature.name for feature in features if feature.statistic == "each"]
    if window is not UNSET and window.samples is not UNSET and window.seconds is not UNSET:
        raise ProtocolError(f"{where}: a window has 'samples' or 'seconds', not both")
    counted = window is not UNSET and window.samples is not UNSET
    if each and not counted:
        raise ProtocolError(
            f"{where}: feature {each[0]!r}: statistic 'each' needs a window of 'samples'"
        )
    if each and len(each) != len(features):
        raise ProtocolError(f"{where}: statistic 'each' is for all features or for none")
    if each and window is not UNSET and window.samples is not UNSET:
        return window.samples
    return 1
