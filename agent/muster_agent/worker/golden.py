"""Golden vectors: inputs and the outputs that a candidate must reproduce on this device."""

import zipfile
import zlib
from typing import IO, NamedTuple

import numpy as np

from muster_agent.runtimes.base import NUMPY_TYPES, Array, shape_fits
from muster_agent.worker.bundle import StartRefused
from muster_protocol.wire.errors import Refusal
from muster_protocol.wire.manifest import Golden, Manifest
from muster_protocol.wire.tensors import Tensor

CASES_MAX = 10_000


class Case(NamedTuple):
    """One batch element: arrays by tensor name, their first dimension 1."""

    inputs: dict[str, Array]
    outputs: dict[str, Array]


def read(file: IO[bytes], manifest: Manifest) -> list[Case]:
    """Cases of the bundle's ``.npz``; raises StartRefused (GOLDEN_MISMATCH) for an unfit file."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            inputs = {each.name: _array(arrays, "input", each) for each in manifest.inputs}
            outputs = {each.name: _array(arrays, "output", each) for each in manifest.outputs}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise _unfit(f"the golden vectors can't be read: {error}") from None
    counts = {len(array) for array in (*inputs.values(), *outputs.values())}
    if len(counts) != 1 or not 0 < next(iter(counts)) <= CASES_MAX:
        raise _unfit(f"the golden vectors have {sorted(counts)} cases; 1 to {CASES_MAX}, all equal")
    return [
        Case(
            {tensor.name: _element(tensor, inputs[tensor.name], row) for tensor in manifest.inputs},
            {name: array[row : row + 1] for name, array in outputs.items()},
        )
        for row in range(counts.pop())
    ]


def compare(got: dict[str, Array], case: Case, rule: Golden) -> str | None:
    """Which output is wrong, or None. Equal values pass, infinite ones too.

    No number that the model computed is in the words: they leave the device, and the hub before
    anybody approved the model, and could carry home what it read.
    """
    for name, want in case.outputs.items():
        found = got[name]
        if found.shape != want.shape and found.shape != want.shape[1:]:
            return f"output {name!r} has another shape than {list(want.shape)}"
        if not _passes(found.reshape(want.shape), want, rule):
            tolerance = f"{rule.atol:g} + {rule.rtol:g}·|expected|"
            return f"output {name!r} is further from what is expected than {tolerance}"
    return None


def _passes(found: Array, want: Array, rule: Golden) -> bool:
    if found.dtype.kind == "O":
        return np.array_equal(found, want)
    left, right = found.astype(np.float64), want.astype(np.float64)
    with np.errstate(invalid="ignore"):
        near = np.abs(left - right) <= rule.atol + rule.rtol * np.abs(right)
    # Everything is within a tolerance that is itself infinite.
    return bool(((left == right) | (near & np.isfinite(right))).all())


def _array(arrays: "np.lib.npyio.NpzFile", kind: str, tensor: Tensor) -> Array:
    key = f"{kind}:{tensor.name}"
    if key not in arrays:
        raise _unfit(f"the golden vectors have no array {key!r}")
    array: Array = arrays[key]
    if tensor.datatype == "BYTES" and array.dtype.kind == "S":
        array = array.astype(object)
    if array.dtype != NUMPY_TYPES[tensor.datatype]:
        raise _unfit(f"golden array {key!r} is {array.dtype}, the tensor is {tensor.datatype}")
    declared = (-1, *tensor.shape[1:])
    if not shape_fits(declared, array.shape):
        raise _unfit(
            f"golden array {key!r} has shape {list(array.shape)}, expected {list(declared)}"
        )
    return array


def _element(tensor: Tensor, array: Array, row: int) -> Array:
    element = np.ascontiguousarray(array[row : row + 1])
    return element if tensor.shape else element.reshape(())


def _unfit(message: str) -> StartRefused:
    return StartRefused(Refusal.GOLDEN_MISMATCH, message)
