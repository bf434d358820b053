"""Arrays against the manifest's tensors: what fits, and what doesn't. Pure."""

from collections.abc import Callable, Mapping
from math import prod

import numpy as np

from muster_agent.runtimes.base import NUMPY_TYPES, Array
from muster_agent.worker.http1 import BODY_BYTES_MAX
from muster_protocol.wire.errors import ProtocolError
from muster_protocol.wire.manifest import Manifest
from muster_protocol.wire.tensors import FLOATS, Tensor

_UNBOUNDED = 2**62


class InvalidInput(ProtocolError):
    """Inputs that don't fit the model's declared tensors."""

    status = 400
    """Of HTTP: whose fault it is."""


class TooLarge(InvalidInput):
    """Inputs that fit, but are more than this device can answer at once."""

    status = 413


class TensorCheck:
    """One input as its tensor declares it."""

    def __init__(self, tensor: Tensor, *, missing: bool) -> None:
        """``missing``: NaN may stand in it."""
        self.name = tensor.name
        self.axis = tensor.batch
        self.dtype = NUMPY_TYPES[tensor.datatype]
        self.refuses_nan = tensor.datatype in FLOATS and not missing
        self._tensor = tensor
        self._least = tensor.smallest
        largest = tensor.shape_max or tuple(
            _UNBOUNDED if size == -1 else size for size in tensor.shape
        )
        self._most = largest

    def __call__(self, array: Array) -> Array:
        """The array, C-contiguous; raises InvalidInput."""
        tensor = self._tensor
        if array.dtype != self.dtype:
            raise InvalidInput(
                f"input {self.name!r} must be {tensor.datatype}, not {array.dtype.name}"
            )
        shape = array.shape
        if len(shape) != len(self._least) or any(
            got < least for got, least in zip(shape, self._least, strict=True)
        ):
            raise self._unfit(InvalidInput, shape)
        if any(got > most for got, most in zip(shape, self._most, strict=True)):
            fixed = any(got > size >= 0 for got, size in zip(shape, tensor.shape, strict=True))
            raise self._unfit(InvalidInput if fixed else TooLarge, shape)
        if self.refuses_nan and holds_nan(array):
            raise InvalidInput(
                f"input {self.name!r} holds NaN or null, and its manifest allows no missing values"
            )
        return array if array.flags.c_contiguous else np.ascontiguousarray(array)

    def _unfit(self, kind: type[InvalidInput], shape: tuple[int, ...]) -> InvalidInput:
        tensor = self._tensor
        bounds = ""
        if tensor.shape_min:
            bounds += f" of at least {list(tensor.shape_min)}"
        if tensor.shape_max:
            bounds += f" of at most {list(tensor.shape_max)}"
        return kind(
            f"input {self.name!r} must have shape {list(tensor.shape)}{bounds}, not {list(shape)}"
        )


def holds_nan(array: Array) -> bool:
    """Whether a number is missing in an array of floats."""
    if array.dtype.itemsize < 4 or not array.flags.c_contiguous:
        return bool(np.isnan(array).any())
    flat = array.reshape(-1)
    with np.errstate(over="ignore"):
        total = np.dot(flat, flat)  # of squares: NaN alone makes it NaN, at a fraction of the time
    return bool(np.isnan(total))


class InputCheck:
    """All inputs of a request, and the number of their batch elements.

    A single input of the shape it had last time, which is what a steady client sends, costs a
    few comparisons only.
    """

    def __init__(self, manifest: Manifest, elements_max: float = float("inf")) -> None:
        """``elements_max`` bounds the elements of all inputs of a request together."""
        self._checks = tuple(
            TensorCheck(tensor, missing=manifest.takes_missing(tensor))
            for tensor in manifest.inputs
        )
        self._elements_max = elements_max
        first = self._checks[0]
        self._name, self._dtype = first.name, first.dtype
        self._is_unfit: Callable[[Array], bool] = holds_nan if first.refuses_nan else _never
        self._shape: tuple[int, ...] | None = None
        self._rows = 0

    def __call__(self, inputs: Mapping[str, Array]) -> tuple[Mapping[str, Array], int]:
        """(checked inputs in the manifest's order, batch elements); raises InvalidInput."""
        if len(inputs) == 1:
            array = inputs.get(self._name)
            if (
                array is not None
                and array.shape == self._shape
                and array.dtype is self._dtype
                and array.flags.c_contiguous
                and not self._is_unfit(array)
            ):
                return inputs, self._rows
        checked = self._each(inputs)
        elements = sum(array.size for array in checked.values())
        if elements > self._elements_max:
            raise TooLarge(
                f"{elements} elements, this device answers {self._elements_max:.0f} in the time "
                "that a request may take: send fewer at once"
            )
        sizes = {
            checked[check.name].shape[check.axis]
            for check in self._checks
            if check.axis is not None
        }
        if len(sizes) > 1:
            raise InvalidInput(f"the inputs' batch sizes differ: {sorted(sizes)}")
        rows = sizes.pop() if sizes else 1
        if len(self._checks) == 1:
            self._shape, self._rows = checked[self._name].shape, rows
        return checked, rows

    def _each(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        checked = {}
        for check in self._checks:
            array = inputs.get(check.name)
            if array is None:
                raise InvalidInput(f"input {check.name!r} is missing")
            checked[check.name] = check(array)
        if len(inputs) != len(self._checks):
            extra = sorted(set(inputs) - set(checked))
            raise InvalidInput(f"the model has no input {extra[0]!r}")
        return checked


class OutputCheck:
    """Whether a model gave what its manifest declares, as far as the recorder needs to know."""

    def __init__(self, manifest: Manifest) -> None:
        self._sizes = [
            (tensor.name, prod(tensor.element_shape), tensor.batch is not None)
            for tensor in manifest.outputs
            if -1 not in tensor.element_shape
        ]
        # A model of format 1 has always been taken at its bytes, whatever shape it gave them.
        self._shaped = [
            (tensor.name, tensor.shape, tensor.batch)
            for tensor in manifest.outputs
            if manifest.format > 1
        ]

    def __call__(self, outputs: Mapping[str, Array], rows: int) -> bool:
        """True when every output is of the right size for so many batch elements."""
        for name, size, batched in self._sizes:
            if outputs[name].size != (size * rows if batched else size):
                return False
        return not self._shaped or self._has_shapes(outputs, rows)

    def _has_shapes(self, outputs: Mapping[str, Array], rows: int) -> bool:
        for name, declared, axis in self._shaped:
            shape = outputs[name].shape
            if len(shape) != len(declared) or (axis is not None and shape[axis] != rows):
                return False
            for want, got in zip(declared, shape, strict=True):  # all() is twice as slow
                if want not in {got, -1}:
                    return False
        return True


JSON_BYTES_PER_ELEMENT = 26
"""A number with seventeen digits, its sign, exponent and comma."""
TEXT_BYTES_PER_ELEMENT = 256
HEAD_BYTES_PER_TENSOR = 1024
REQUEST_BYTES_MIN = 1024 * 1024
"""Of the limit: labels, indented JSON and the like find room whatever the model."""
REQUEST_BYTES_MAX = 1024 * 1024 * 1024


def request_bytes_max(manifest: Manifest) -> int:
    """How large a request body may be: what the largest declared shapes need as JSON.

    Where shapes are open there is no telling; then it is the usual limit at least.
    """
    need, is_open = REQUEST_BYTES_MIN, False
    for tensor in manifest.inputs:
        text = tensor.datatype == "BYTES"
        sizes = tensor.shape_max or [1 if size == -1 else size for size in tensor.shape]
        each = TEXT_BYTES_PER_ELEMENT if text else JSON_BYTES_PER_ELEMENT
        need += HEAD_BYTES_PER_TENSOR + prod(sizes) * each
        is_open |= text or (not tensor.shape_max and -1 in tensor.shape)
    return min(max(need, BODY_BYTES_MAX if is_open else 0), REQUEST_BYTES_MAX)


def _never(_: Array) -> bool:
    return False
