"""Golden vectors: inputs and the outputs that a candidate must reproduce on this device."""

import zipfile
import zlib
from typing import IO, NamedTuple

import numpy as np

from muster_agent.runtimes.base import NUMPY_TYPES, Array
from muster_agent.worker.bundle import StartRefused
from muster_protocol.wire.errors import Refusal
from muster_protocol.wire.manifest import Golden, Manifest
from muster_protocol.wire.tensors import Tensor

CASES_MAX = 10_000


class Case(NamedTuple):
    """One request and its answer: arrays by tensor name."""

    inputs: dict[str, Array]
    outputs: dict[str, Array]


def read(file: IO[bytes], manifest: Manifest) -> list[Case]:
    """Cases of the bundle's ``.npz``; raises StartRefused (GOLDEN_MISMATCH) for an unfit file."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return _batched(arrays, manifest) if manifest.format == 1 else _whole(arrays, manifest)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise _unfit(f"the golden vectors can't be read: {error}") from None


def _batched(arrays: "np.lib.npyio.NpzFile", manifest: Manifest) -> list[Case]:
    """Format 1: an array a tensor, cases first, each to be asked as a batch of one."""
    inputs = {
        each.name: _array(arrays, f"input:{each.name}", each, (-1, *each.shape[1:]))
        for each in manifest.inputs
    }
    outputs = {
        each.name: _array(arrays, f"output:{each.name}", each, (-1, *each.shape[1:]))
        for each in manifest.outputs
    }
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


def _whole(arrays: "np.lib.npyio.NpzFile", manifest: Manifest) -> list[Case]:
    """Format 2: an array a case and tensor, as requests and answers have them."""
    cases: list[Case] = []
    while any(name.startswith(f"{len(cases)}/") for name in arrays.files):
        if len(cases) == CASES_MAX:
            raise _unfit(f"the golden vectors have more than {CASES_MAX} cases")
        number = len(cases)
        inputs, outputs = (
            {
                each.name: _array(arrays, f"{number}/{kind}:{each.name}", each, each.shape)
                for each in tensors
            }
            for kind, tensors in (("input", manifest.inputs), ("output", manifest.outputs))
        )
        cases.append(Case(inputs, outputs))
    if not cases:
        raise _unfit("the golden vectors have no case: their arrays are named '0/input:…'")
    return cases


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
    # Everything is within a tolerance that is itself infinite, and NaN is equal to nothing.
    same = (left == right) | (np.isnan(left) & np.isnan(right))
    return bool((same | (near & np.isfinite(right))).all())


def _array(
    arrays: "np.lib.npyio.NpzFile", key: str, tensor: Tensor, declared: tuple[int, ...]
) -> Array:
    if key not in arrays:
        raise _unfit(f"the golden vectors have no array {key!r}")
    array: Array = arrays[key]
    if tensor.datatype == "BYTES" and array.dtype.kind == "S":
        array = array.astype(object)
    if array.dtype != NUMPY_TYPES[tensor.datatype]:
        raise _unfit(f"golden array {key!r} is {array.dtype}, the tensor is {tensor.datatype}")
    if len(declared) != array.ndim or any(
        want not in {-1, got} for want, got in zip(declared, array.shape, strict=True)
    ):
        raise _unfit(
            f"golden array {key!r} has shape {list(array.shape)}, expected {list(declared)}"
        )
    return array


def _element(tensor: Tensor, array: Array, row: int) -> Array:
    element = np.ascontiguousarray(array[row : row + 1])
    return element if tensor.shape else element.reshape(())


def _unfit(message: str) -> StartRefused:
    return StartRefused(Refusal.GOLDEN_MISMATCH, message)
