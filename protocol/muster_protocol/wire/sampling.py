"""Raw data that may leave a device: what a release allows at most, what a policy asks, a sample.

The limits are a file of the bundle. The signed manifest names its hash, so they are what release
keys signed, and an agent that has never heard of them fetches a file and does nothing with it. A
policy is a field of a directive's slot, and a device takes no more of it than the limits allow.
Pure.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from muster_protocol.wire import limits
from muster_protocol.wire.bounds import Finite, Format, Integer, Line, Name
from muster_protocol.wire.chunks import sha256_hex
from muster_protocol.wire.errors import LimitError, ProtocolError
from muster_protocol.wire.manifest import Manifest, Sha256
from muster_protocol.wire.messages import Stamp
from muster_protocol.wire.tensors import Label, Tensor
from muster_protocol.wire.usable import is_recorded

FILE = "sampling.json"
"""Of the bundle, with ``SamplingLimits``."""
UNDERSTANDS = "sampling"
"""What an agent that knows policies names among its facts; a hub tells no other of one."""
FORMAT = 1
NUMBER_BYTES = 9
"""Of a number with a fraction in a sample's content."""

UNDERSTANDS_BLUR = "sampling-blur"
"""What an agent names that knows the privacy ``blur``, too."""

Privacy = Literal["plain", "blur", "hash"]
"""``plain``: the numbers as they are. ``blur``: an image as the means of coarse cells, whose number
the release signed. ``hash``: a code that only tells equal from different, by a
key that never leaves the device and is destroyed with the policy. What a policy doesn't name is
dropped."""
Stratum = Literal["random", "low_confidence", "drifting", "by_class"]
"""Which rows are taken: any; those whose best score is low; all while the model drifts; each class
as often as the others."""
Edge = Annotated[int, Meta(ge=1, le=limits.BLUR_CELLS_MAX)]
RowsPerDay = Annotated[int, Meta(ge=1, le=limits.SAMPLES_PER_DAY_MAX)]


class Blur(Struct, frozen=True, forbid_unknown_fields=True):
    """The grid of cells that an image is averaged over, and where it has its height and width."""

    rows: Edge
    columns: Edge
    height_axis: Annotated[int, Meta(ge=0, le=8)] = 0
    """Of a row's dimensions, without the batch."""
    width_axis: Annotated[int, Meta(ge=0, le=8)] = 1


class SampledFeature(Struct, frozen=True, forbid_unknown_fields=True):
    """Numbers of an input that go together, and the least that must be done to them."""

    tensor: Label
    first: Annotated[int, Meta(ge=0, le=limits.SAMPLE_NUMBERS_MAX)] = 0
    """Of a row's numbers in that tensor, in C order."""
    count: Annotated[int, Meta(ge=0, le=limits.SAMPLE_NUMBERS_MAX)] = 0
    """0: all from ``first`` on."""
    privacy: Privacy = "plain"
    blur: Blur | UnsetType = UNSET
    """For an input that is an image, taken as a whole."""


class SamplingLimits(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The most that may be sampled of a version on one device, whoever asks for it."""

    features: Annotated[
        dict[Label, SampledFeature], Meta(min_length=1, max_length=limits.FEATURES_MAX)
    ]
    rows_per_day: RowsPerDay
    rows_max: Annotated[int, Meta(ge=1, le=limits.SAMPLES_MAX)]
    """Over all policies that there will ever be."""
    answers: bool = False
    """Whether a policy may take what the model answered, too."""


class SamplingPolicy(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a hub asks a device to send of the rows that a slot's champion sees."""

    policy: Name
    features: Annotated[
        dict[Label, Privacy], Meta(min_length=1, max_length=limits.SAMPLED_FEATURES_MAX)
    ]
    rows_per_day: RowsPerDay
    strata: Annotated[tuple[Stratum, ...], Meta(min_length=1, max_length=4)]
    expires: Integer
    """Seconds since 1970. A device that doesn't know the time counts its own from the policy's
    arrival."""
    answers: bool = False
    confidence_below: Annotated[float, Meta(ge=0, le=1)] = 0.6
    """Of the stratum ``low_confidence``."""


class Content(Struct, frozen=True, array_like=True):
    """What was seen, without where and when: its SHA-256 is the sample's name."""

    version: Format
    manifest: Sha256
    features: Annotated[
        dict[Label, tuple[Finite | None, ...]], Meta(max_length=limits.SAMPLED_FEATURES_MAX)
    ]
    """Numbers; None for what was missing."""
    codes: Annotated[dict[Label, Line], Meta(max_length=limits.SAMPLED_FEATURES_MAX)] = {}
    """Of hashed features. Not in one mapping with the numbers: msgspec 0.22 frees the type of a
    union of both twice."""
    answers: Annotated[
        dict[Label, tuple[Finite | None, ...]], Meta(max_length=limits.TENSORS_MAX)
    ] = {}


class Sample(Struct, frozen=True, array_like=True):
    """A row on its way to the hub: the payload of a row of the stream ``sample``."""

    version: Format
    policy: Name
    slot: Name
    at: Stamp
    stratum: Stratum
    content: Annotated[bytes, Meta(max_length=limits.SAMPLE_BYTES_MAX)]
    """An encoded ``Content``."""

    @property
    def sha256(self) -> str:
        """The name of the content."""
        return sha256_hex(self.content)


_OPENNESS: Mapping[Privacy, int] = {"hash": 0, "blur": 1, "plain": 2}
"""How much each shows: a policy may ask for no more than was signed."""


def excess(policy: SamplingPolicy, allowed: SamplingLimits | None) -> str:
    """What a policy asks beyond what release keys signed, in words; empty: nothing."""
    if allowed is None:
        return f"this version's release allows no sampling: its bundle has no {FILE}"
    for name, privacy in policy.features.items():
        if over := _feature_excess(name, privacy, allowed):
            return over
    if policy.rows_per_day > allowed.rows_per_day:
        return f"{policy.rows_per_day} rows a day, the release allows {allowed.rows_per_day}"
    if policy.answers and not allowed.answers:
        return "the release lets no answers be sampled"
    return ""


def _feature_excess(name: str, privacy: Privacy, allowed: SamplingLimits) -> str:
    known = allowed.features.get(name)
    if known is None:
        names = ", ".join(list(allowed.features)[:8])
        return f"the release lets no feature {name!r} be sampled, only {names}"
    if _OPENNESS[privacy] > _OPENNESS[known.privacy]:
        return f"the release lets the feature {name!r} leave as {known.privacy} only"
    if privacy == "blur" and known.blur is UNSET:
        return f"the release names no grid that the feature {name!r} is blurred to"
    return ""


def encode_limits(allowed: SamplingLimits) -> bytes:
    """The bundle's file; raises ProtocolError for what ``decode_limits`` would refuse."""
    data = msgspec.json.encode(allowed, order="deterministic")
    decode_limits(data)
    return data


def decode_limits(data: bytes) -> SamplingLimits:
    """The bundle's file; raises ProtocolError."""
    if len(data) > limits.SAMPLING_FILE_BYTES_MAX:
        raise LimitError(
            f"{FILE} is {len(data)} bytes, the limit is {limits.SAMPLING_FILE_BYTES_MAX}"
        )
    try:
        return msgspec.json.decode(data, type=SamplingLimits)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ProtocolError(f"{FILE}: {error}") from None


def check_limits(allowed: SamplingLimits, manifest: Manifest) -> None:
    """Raise ProtocolError for a feature that the manifest's inputs don't have."""
    inputs = {tensor.name: tensor for tensor in manifest.inputs}
    for name, feature in allowed.features.items():
        tensor = inputs.get(feature.tensor)
        if tensor is None:
            raise ProtocolError(f"{FILE}: feature {name!r}: no input {feature.tensor!r}")
        if not is_recorded(tensor):
            raise ProtocolError(
                f"{FILE}: feature {name!r}: input {feature.tensor!r} has no fixed size, so no row "
                "of it is recorded"
            )
        _check_blur(name, feature, tensor)
        size = prod(tensor.element_shape)
        if feature.first + max(feature.count, 1) > size:
            raise ProtocolError(
                f"{FILE}: feature {name!r}: a row of input {feature.tensor!r} has {size} numbers"
            )


def _check_blur(name: str, feature: SampledFeature, tensor: Tensor) -> None:
    where = f"{FILE}: feature {name!r}"
    if feature.blur is UNSET:
        if feature.privacy == "blur":
            raise ProtocolError(f"{where}: 'blur' needs the grid that it is blurred to")
        return
    blur, shape = feature.blur, tensor.element_shape
    axes = {blur.height_axis, blur.width_axis}
    if feature.first or feature.count or len(axes) != 2 or max(axes) >= len(shape):
        raise ProtocolError(
            f"{where}: only an image as a whole is blurred, by two dimensions of its "
            f"{len(shape)} that are its height and width"
        )
    height, width = shape[blur.height_axis], shape[blur.width_axis]
    cell = (height // blur.rows) * (width // blur.columns)
    if cell < limits.BLUR_CELL_PIXELS_MIN:
        raise ProtocolError(
            f"{where}: {blur.rows} × {blur.columns} cells of {height} × {width} pixels have "
            f"{cell} pixels each at least, a cell must have {limits.BLUR_CELL_PIXELS_MIN}: name a "
            "coarser grid"
        )
    numbers = blur.rows * blur.columns * prod(shape) // (height * width)
    if numbers * NUMBER_BYTES > limits.SAMPLE_BYTES_MAX:
        raise ProtocolError(
            f"{where}: blurred to {blur.rows} × {blur.columns} cells a row has {numbers} numbers, "
            f"a sample holds {limits.SAMPLE_BYTES_MAX // NUMBER_BYTES}: name a coarser grid"
        )


def encode_content(content: Content) -> bytes:
    """As it is hashed and sent; raises LimitError when a row is larger than a sample may be."""
    data = msgspec.msgpack.encode(content, order="deterministic")
    if len(data) > limits.SAMPLE_BYTES_MAX:
        raise LimitError(
            f"a row of {len(data)} bytes, a sample may have {limits.SAMPLE_BYTES_MAX}: sample "
            "fewer features"
        )
    return data


def encode(sample: Sample) -> bytes:
    """As a row of the stream."""
    return msgspec.msgpack.encode(sample)


def decode(data: bytes) -> tuple[Sample, Content]:
    """A row of the stream and what is in it; raises ProtocolError."""
    try:
        sample = msgspec.msgpack.decode(data, type=Sample)
        content = msgspec.msgpack.decode(sample.content, type=Content)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ProtocolError(f"not a sample: {error}") from None
    if (sample.version, content.version) != (FORMAT, FORMAT):
        raise ProtocolError(f"sample version {sample.version} is not known here (know {FORMAT})")
    return sample, content


def columns(numbers: Mapping[str, Sequence[float | None]]) -> Iterator[tuple[str, float | None]]:
    """Features as columns: one of several numbers as ``name[0]``, ``name[1]``, …"""
    for name, values in numbers.items():
        if len(values) == 1:
            yield name, values[0]
        else:
            yield from ((f"{name}[{place}]", number) for place, number in enumerate(values))
