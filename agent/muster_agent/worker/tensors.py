"""Arrays against the manifest's tensors: what fits, what doesn't, and which model tensor is meant.

Pure functions over shapes and types; the batch is the first dimension.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from muster_agent.runtimes.base import (
    NUMPY_TYPES,
    Array,
    Model,
    ModelError,
    UnfitInputError,
    shape_fits,
)
from muster_protocol.wire.errors import ProtocolError
from muster_protocol.wire.tensors import Tensor


class InvalidInput(ProtocolError):
    """Inputs that don't fit the model's declared tensors."""

    status = 400
    """Of HTTP: whose fault it is."""


class TooLarge(InvalidInput):
    """Inputs that fit, but are more than this device can answer at once."""

    status = 413


def check_inputs(tensors: Sequence[Tensor], inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The inputs, C-contiguous, in the manifest's order; raises InvalidInput at the first fault."""
    checked = {}
    for tensor in tensors:
        array = inputs.get(tensor.name)
        if array is None:
            raise InvalidInput(f"input {tensor.name!r} is missing")
        if array.dtype != NUMPY_TYPES[tensor.datatype]:
            raise InvalidInput(
                f"input {tensor.name!r} must be {tensor.datatype}, not {array.dtype.name}"
            )
        if not shape_fits(tensor.shape, array.shape):
            raise InvalidInput(
                f"input {tensor.name!r} must have shape {list(tensor.shape)}, "
                f"not {list(array.shape)}"
            )
        checked[tensor.name] = array if array.flags.c_contiguous else np.ascontiguousarray(array)
    if len(inputs) != len(tensors):
        extra = sorted(set(inputs) - set(checked))
        raise InvalidInput(f"the model has no input {extra[0]!r}")
    if len(tensors) > 1:
        sizes = {array.shape[0] for array in checked.values() if array.ndim}
        if len(sizes) > 1:
            raise InvalidInput(f"the inputs' batch sizes differ: {sorted(sizes)}")
    return checked


class InputCheck:
    """``check_inputs`` for one manifest, plus the number of batch elements.

    A single input of the shape it had last time, which is what a steady client sends, costs a
    few comparisons only.
    """

    def __init__(self, tensors: Sequence[Tensor], elements_max: float = float("inf")) -> None:
        """``elements_max`` bounds the elements of all inputs of a request together."""
        self._tensors = tensors
        self._elements_max = elements_max
        self._name = tensors[0].name
        self._dtype = NUMPY_TYPES[tensors[0].datatype]
        self._shape: tuple[int, ...] | None = None
        self._rows = 0

    def __call__(self, inputs: Mapping[str, Array]) -> tuple[Mapping[str, Array], int]:
        """(checked inputs, batch elements); raises InvalidInput."""
        if len(inputs) == 1:
            array = inputs.get(self._name)
            if (
                array is not None
                and array.shape == self._shape
                and array.dtype is self._dtype
                and array.flags.c_contiguous
            ):
                return inputs, self._rows
        checked = check_inputs(self._tensors, inputs)
        elements = sum(array.size for array in checked.values())
        if elements > self._elements_max:
            raise TooLarge(
                f"{elements} elements, this device answers {self._elements_max:.0f} in the time "
                "that a request may take: send fewer at once"
            )
        array = checked[self._name]
        rows = array.shape[0] if array.ndim else 1
        if len(self._tensors) == 1:
            self._shape, self._rows = array.shape, rows
        return checked, rows


class BoundModel:
    """A model under its manifest's tensor names.

    Converters rename tensors, so where names differ the order decides, provided that count, types
    and shapes agree; golden vectors then show whether that was right. A model whose batch is
    fixed at 1 while the manifest's is variable runs once for each batch element.
    """

    def __init__(
        self, model: Model, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]
    ) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self._model = model
        self._ins = bind("input", inputs, model.inputs)
        self._stricter = _stricter(inputs, model.inputs, self._ins)
        self._outs = bind("output", outputs, model.outputs)
        self._singly = any(
            want.shape[:1] == (-1,) and got.shape[:1] == (1,)
            for want, got in zip(inputs, model.inputs, strict=True)
        )

    @property
    def needed(self) -> bool:
        """Whether the model can't be used as it is."""
        renamed = any(name != own for name, own in self._ins + self._outs)
        more = len(self._outs) != len(self._model.outputs)
        return renamed or self._singly or more or bool(self._stricter)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the model after checking what the manifest asks beyond the model itself."""
        for name, shape in self._stricter.items():
            if not shape_fits(shape, inputs[name].shape):
                raise UnfitInputError(
                    f"input {name!r} must have shape {list(shape)}, not {list(inputs[name].shape)}"
                )
        first = inputs[self._ins[0][0]]
        if not self._singly or first.shape[0] == 1:
            return self._run(inputs)
        answers = [
            self._run({name: array[row : row + 1] for name, array in inputs.items()})
            for row in range(first.shape[0])
        ]
        return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}

    def _run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        answers = self._model.run({own: inputs[name] for name, own in self._ins})
        return {name: answers[own] for name, own in self._outs}


def _stricter(
    declared: Sequence[Tensor], own: Sequence[Tensor], pairs: Sequence[tuple[str, str]]
) -> dict[str, tuple[int, ...]]:
    """Shapes by manifest name where the model fixes what its manifest leaves open.

    A batch that it fixes at one is no such thing: its elements are run one by one.
    """
    wanted = {tensor.name: tensor.shape for tensor in declared}
    known = {tensor.name: tensor.shape for tensor in own}
    found = {}
    for name, own_name in pairs:
        shape = tuple(
            -1 if axis == 0 and size == 1 else size for axis, size in enumerate(known[own_name])
        )
        if any(a == -1 != b for a, b in zip(wanted[name], shape, strict=True)):
            found[name] = shape
    return found


def bound(model: Model, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> Model:
    """``model`` as its manifest declares it; raises ModelError when it can't be that model."""
    wrapped = BoundModel(model, inputs, outputs)
    return wrapped if wrapped.needed else model


def bind(what: str, declared: Sequence[Tensor], own: Sequence[Tensor]) -> list[tuple[str, str]]:
    """Pairs (manifest name, model name); raises ModelError when they can't be matched."""
    if len(declared) > len(own) or (what == "input" and len(declared) != len(own)):
        raise ModelError(f"the manifest declares {len(declared)} {what}s, the model has {len(own)}")
    by_name = {tensor.name: tensor for tensor in own}
    named = all(tensor.name in by_name for tensor in declared)
    pairs = []
    for index, tensor in enumerate(declared):
        match = by_name[tensor.name] if named else own[index]
        if match.datatype != tensor.datatype or not _agree(tensor.shape, match.shape):
            raise ModelError(
                f"{what} {tensor.name!r}: the manifest says {tensor.datatype} "
                f"{list(tensor.shape)}, the model has {match.datatype} {list(match.shape)} "
                f"({match.name!r})"
            )
        pairs.append((tensor.name, match.name))
    return pairs


def _agree(declared: Sequence[int], own: Sequence[int]) -> bool:
    """Shapes agree where both are fixed; converters often leave the batch fixed at 1."""
    return len(declared) == len(own) and all(
        want == got or -1 in {want, got} or (axis == 0 and got == 1)
        for axis, (want, got) in enumerate(zip(declared, own, strict=True))
    )
