"""Tensors as a manifest declares them: type, shape, and what the shape's dimensions mean. Pure."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from muster_protocol.wire import bounds, limits
from muster_protocol.wire.errors import ProtocolError

Datatype = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64",
    "FP16", "FP32", "FP64", "BYTES", "BF16",
]  # fmt: skip
"""Tensor types as the Open Inference Protocol V2 names them. BF16 came with manifest format 2."""

FLOATS: frozenset[Datatype] = frozenset({"FP16", "FP32", "FP64", "BF16"})
"""Types that have a value for what is missing."""

Label = Annotated[
    str, Meta(min_length=1, max_length=limits.LINE_CHARS_MAX, pattern=bounds.LINE_PATTERN)
]
"""Of a tensor or a class, in the model's own words."""
Dimension = Annotated[int, Meta(ge=-1, le=2**31 - 1)]
Size = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Shape = Annotated[tuple[Dimension, ...], Meta(max_length=limits.RANK_MAX)]
Sizes = Annotated[tuple[Size, ...], Meta(max_length=limits.RANK_MAX)]
Axis = Annotated[int, Meta(ge=0, lt=limits.RANK_MAX)]


class Quantisation(Struct, frozen=True, forbid_unknown_fields=True):
    """What a quantised tensor's whole numbers stand for: ``scale * (number - zero_point)``."""

    scale: Annotated[float, Meta(gt=0, le=limits.NUMBER_MAX)]
    zero_point: Annotated[int, Meta(ge=-(2**31), le=2**32 - 1)] = 0


class Tensor(Struct, frozen=True, forbid_unknown_fields=True):
    """A named input or output; -1 in ``shape`` is a dimension of variable size.

    All fields after ``shape`` came with manifest format 2.
    """

    name: Label
    datatype: Datatype
    shape: Shape
    batch_axis: Axis | UnsetType | None = UNSET
    """The dimension along which a request's elements lie, each a row of its own to the recorder.
    None: the tensor belongs to the request as a whole. Absent: the first dimension; a scalar has
    none."""
    missing: bool | UnsetType = UNSET
    """Whether NaN, and ``null`` in JSON, may stand for a missing value. Absent: no; in format 1
    they may."""
    shape_min: Sizes | UnsetType = UNSET
    """The smallest sizes that the model takes or gives. Absent: 1 for each variable dimension of an
    input, 0 for those of an output."""
    shape_max: Sizes | UnsetType = UNSET
    """The largest. A version is checked at these sizes, and they bound what a request may hold.
    Absent: no bound but those of the device."""
    quantisation: Quantisation | UnsetType = UNSET
    """Shown to clients; the tensor itself travels as the model has it."""

    @property
    def batch(self) -> int | None:
        """The batch axis, None where the tensor has none."""
        if self.batch_axis is UNSET:
            return 0 if self.shape else None
        return self.batch_axis

    @property
    def element_shape(self) -> tuple[int, ...]:
        """The shape of one batch element; of a tensor without a batch axis, its whole shape."""
        axis = self.batch
        if axis is None:
            return self.shape
        return self.shape[:axis] + self.shape[axis + 1 :]

    @property
    def smallest(self) -> tuple[int, ...]:
        """The least size of each dimension."""
        if self.shape_min is not UNSET:
            return self.shape_min
        return tuple(1 if size == -1 else size for size in self.shape)


def format_of(tensor: Tensor) -> int:
    """The first manifest format that can say this."""
    later = (
        tensor.batch_axis,
        tensor.missing,
        tensor.shape_min,
        tensor.shape_max,
        tensor.quantisation,
    )
    return 1 if all(value is UNSET for value in later) and tensor.datatype != "BF16" else 2


def check_tensor(tensor: Tensor, what: str) -> None:
    """Check what types can't say of one tensor; ``what`` names it. Raises ProtocolError."""
    axis = tensor.batch
    if axis is not None and axis >= len(tensor.shape):
        raise ProtocolError(
            f"{what}: batch_axis {axis} is no dimension of the shape {list(tensor.shape)}"
        )
    if tensor.missing is True and tensor.datatype not in FLOATS:
        raise ProtocolError(f"{what}: a {tensor.datatype} has no value for what is missing")
    if tensor.quantisation is not UNSET and tensor.datatype in FLOATS | {"BOOL", "BYTES"}:
        raise ProtocolError(f"{what}: a {tensor.datatype} is not quantised")
    _check_bound("shape_min", tensor.shape_min, tensor, what)
    _check_bound("shape_max", tensor.shape_max, tensor, what)
    if tensor.shape_max is not UNSET and any(
        least > most for least, most in zip(tensor.smallest, tensor.shape_max, strict=True)
    ):
        raise ProtocolError(
            f"{what}: shape_max {list(tensor.shape_max)} is below the smallest shape "
            f"{list(tensor.smallest)}"
        )
    if axis is not None and tensor.smallest[axis] == 0:
        raise ProtocolError(f"{what}: a batch must have an element at least")


def _check_bound(name: str, bound: tuple[int, ...] | UnsetType, tensor: Tensor, what: str) -> None:
    if bound is UNSET:
        return
    if len(bound) != len(tensor.shape) or any(
        size not in (-1, limit) for size, limit in zip(tensor.shape, bound, strict=True)
    ):
        raise ProtocolError(
            f"{what}: {name} {list(bound)} is no instance of the shape {list(tensor.shape)}"
        )


class ModelState(Struct, frozen=True, forbid_unknown_fields=True):
    """What a model remembers from one request to the next."""

    kind: Literal["none", "explicit", "internal"] = "none"
    """``explicit``: the caller sends back what it was given, in the tensors named below.
    ``internal``: the model itself remembers, so that clients must not share it."""
    tensors: Annotated[dict[Label, Label], Meta(max_length=limits.TENSORS_MAX)] = {}
    """Of an explicit state: the input that takes what an output gave, by the input's name."""
    sessions: Literal["per_connection", "single"] = "per_connection"
    """Of an internal state: each connection has a model of its own, which begins afresh; or all
    requests, from whomever, go on with one state."""


def check_state(
    state: ModelState, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...], where: str
) -> None:
    """Check a state against the tensors; raises ProtocolError."""
    if (state.kind == "explicit") != bool(state.tensors):
        raise ProtocolError(
            f"{where}: state: an explicit state names its tensors, any other names none"
        )
    taken = {tensor.name: tensor for tensor in inputs}
    given = {tensor.name: tensor for tensor in outputs}
    for name, source in state.tensors.items():
        if name not in taken or source not in given:
            what, missing = ("input", name) if name not in taken else ("output", source)
            raise ProtocolError(f"{where}: state: {missing!r} is no {what}")
        if taken[name].datatype != given[source].datatype:
            raise ProtocolError(
                f"{where}: state: input {name!r} is {taken[name].datatype}, "
                f"output {source!r} is {given[source].datatype}"
            )
