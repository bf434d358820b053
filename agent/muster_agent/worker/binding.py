"""Which tensor of a model is meant by which of its manifest, and running it by those names."""

from collections.abc import Mapping, Sequence

import numpy as np

from muster_agent.runtimes.base import Array, Model, ModelError, UnfitInputError, shape_fits
from muster_protocol.wire.tensors import Tensor

Pairs = list[tuple[str, str]]
"""Names in the manifest, and in the model."""
_SERVED_AS = {"BF16": "FP32"}
"""A type of the wire that no runtime has: the model itself has the other."""


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
        self._outs = bind("output", outputs, model.outputs)
        model.keep([own for _, own in self._outs])
        self._stricter = _stricter(inputs, model.inputs, self._ins)
        self._in_axes = {tensor.name: tensor.batch for tensor in inputs}
        self._out_axes = {tensor.name: tensor.batch for tensor in outputs}
        self._singly = _singly(inputs, model.inputs, self._ins)
        if self._singly and None in self._out_axes.values():
            name = next(name for name, axis in self._out_axes.items() if axis is None)
            raise ModelError(
                f"the model takes one batch element at a time, so output {name!r} needs a batch "
                "axis, or the inputs a batch that is fixed at 1"
            )

    @property
    def needed(self) -> bool:
        """Whether the model can't be used as it is."""
        renamed = any(name != own for name, own in self._ins + self._outs)
        return renamed or bool(self._singly or self._stricter)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the model after checking what the manifest asks beyond the model itself."""
        for name, shape in self._stricter.items():
            if not shape_fits(shape, inputs[name].shape):
                raise UnfitInputError(
                    f"input {name!r} must have shape {list(shape)}, not {list(inputs[name].shape)}"
                )
        rows = self._rows(inputs)
        if rows == 1:
            return self._run(inputs)
        answers = [
            self._run(
                {name: _element(each, self._in_axes[name], row) for name, each in inputs.items()}
            )
            for row in range(rows)
        ]
        return {
            name: np.concatenate([answer[name] for answer in answers], axis or 0)
            for name, axis in self._out_axes.items()
        }

    def keep(self, names: Sequence[str]) -> None:
        """Give only these outputs from now on."""
        self._outs = [(name, own) for name, own in self._outs if name in names]
        self._model.keep([own for _, own in self._outs])

    def _rows(self, inputs: Mapping[str, Array]) -> int:
        """How often the model runs."""
        name = self._singly
        axis = self._in_axes[name] if name is not None else None
        return 1 if name is None or axis is None else inputs[name].shape[axis]

    def _run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        answers = self._model.run({own: inputs[name] for name, own in self._ins})
        return {name: answers[own] for name, own in self._outs}


def _element(array: Array, axis: int | None, row: int) -> Array:
    if axis is None:
        return array
    return np.ascontiguousarray(array[(slice(None),) * axis + (slice(row, row + 1),)])


def _singly(declared: Sequence[Tensor], own: Sequence[Tensor], pairs: Pairs) -> str | None:
    """An input whose batch is variable in the manifest and fixed at 1 in the model."""
    known = {tensor.name: tensor.shape for tensor in own}
    for tensor, (_, own_name) in zip(declared, pairs, strict=True):
        axis, shape = tensor.batch, known[own_name]
        if axis is not None and shape and tensor.shape[axis] == -1 and shape[axis] == 1:
            return tensor.name
    return None


def _stricter(
    declared: Sequence[Tensor], own: Sequence[Tensor], pairs: Pairs
) -> dict[str, tuple[int, ...]]:
    """Shapes by manifest name where the model fixes what its manifest leaves open.

    A batch that it fixes at one is no such thing: its elements are run one by one.
    """
    known = {tensor.name: tensor.shape for tensor in own}
    found = {}
    for tensor, (name, own_name) in zip(declared, pairs, strict=True):
        shape = tuple(
            -1 if axis == tensor.batch and size == 1 else size
            for axis, size in enumerate(known[own_name])
        )
        if shape and any(a == -1 != b for a, b in zip(tensor.shape, shape, strict=True)):
            found[name] = shape
    return found


def bound(model: Model, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> Model:
    """``model`` as its manifest declares it; raises ModelError when it can't be that model."""
    wrapped = BoundModel(model, inputs, outputs)
    return wrapped if wrapped.needed else model


def bind(what: str, declared: Sequence[Tensor], own: Sequence[Tensor]) -> Pairs:
    """Pairs (manifest name, model name); raises ModelError when they can't be matched."""
    if len(declared) > len(own) or (what == "input" and len(declared) != len(own)):
        raise ModelError(f"the manifest declares {len(declared)} {what}s, the model has {len(own)}")
    by_name = {tensor.name: tensor for tensor in own}
    named = all(tensor.name in by_name for tensor in declared)
    pairs = []
    for index, tensor in enumerate(declared):
        match = by_name[tensor.name] if named else own[index]
        datatype = _SERVED_AS.get(tensor.datatype, tensor.datatype)
        if match.datatype != datatype or not _agree(tensor, match.shape):
            raise ModelError(
                f"{what} {tensor.name!r}: the manifest says {tensor.datatype} "
                f"{list(tensor.shape)}, the model has {match.datatype} {list(match.shape)} "
                f"({match.name!r})"
            )
        pairs.append((tensor.name, match.name))
    return pairs


def _agree(tensor: Tensor, own: Sequence[int]) -> bool:
    """Shapes agree where both are fixed; converters often leave the batch fixed at 1.

    A model that states no shape for a tensor, which looks like a scalar, agrees with any.
    """
    if not own:
        return True
    return len(tensor.shape) == len(own) and all(
        want == got or -1 in {want, got} or (axis == tensor.batch and got == 1)
        for axis, (want, got) in enumerate(zip(tensor.shape, own, strict=True))
    )
