"""The first requests of a model, asked before anybody else does: the check is the way of serving.

They go through the parser of requests, the engine and the encoder of answers, as JSON and as binary
data, with batches of one and two, and at the largest shape that the manifest declares. So what a
manifest promises is kept here, under the limits of memory that serving has.
"""

import json
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from muster_agent.runtimes.base import NUMPY_TYPES, Array, Model
from muster_agent.worker import golden, oip
from muster_agent.worker.api import HEADER_LENGTH, InferenceApi
from muster_agent.worker.bundle import StartRefused
from muster_agent.worker.engine import Engine
from muster_agent.worker.golden import Case
from muster_agent.worker.http1 import Request
from muster_protocol.wire.errors import Refusal
from muster_protocol.wire.manifest import Golden, Manifest
from muster_protocol.wire.tensors import Tensor

JSON_ELEMENTS_MAX = 200_000
"""Of a rehearsed request; larger ones are asked as binary data alone, as clients do."""
_SAME = Golden("golden.npz", rtol=1e-5, atol=1e-6)
"""How alike two answers to one input are: threads may add numbers up in another order."""
_STATUS_NO_MEMORY = 413


class Asked(NamedTuple):
    """Of the largest declared shape: input elements, and the seconds that they took; or zeros."""

    elements: int
    seconds: float


def rehearse(
    manifest: Manifest,
    model: Model,
    runtime: str,
    cases: Sequence[Case],
    *,
    strict: bool,
    request_seconds: float,
) -> Asked:
    """Ask as clients will; raises StartRefused. Not ``strict``: only that a case is answered."""
    ask = _Client(manifest, model, runtime)
    first = cases[0]
    if not strict:
        for binary in _ways(first):
            ask(first.inputs, "a golden case", binary=binary)
        return Asked(0, 0.0)
    if manifest.kind_of_state != "internal":
        _check_forgets(ask, first, cases[-1])
    _answers(ask, manifest, first, "a golden case")
    for size in (1, 2):
        batch = _batch_of(manifest, cases, size)
        if batch is not None:
            _answers(ask, manifest, batch, f"a batch of {size}")
    return _largest(ask, manifest, first, request_seconds)


class _Client:
    """Sends requests to an engine that records nothing."""

    def __init__(self, manifest: Manifest, model: Model, runtime: str) -> None:
        self._app = InferenceApi(Engine(manifest, model), runtime)
        self._path = f"/v2/models/{manifest.model}/infer"
        self._types = {tensor.name: tensor.datatype for tensor in manifest.inputs}

    def __call__(self, inputs: Mapping[str, Array], what: str, *, binary: bool) -> dict[str, Array]:
        """The outputs; raises StartRefused when there is no answer."""
        body, header = oip.encode_request(
            inputs, binary=binary, binary_outputs=binary, datatypes=self._types
        )
        headers = {} if header is None else {HEADER_LENGTH: str(header)}
        response = self._app(Request("POST", self._path, headers, body, keep_alive=True))
        way = "as binary data" if binary else "as JSON"
        if response.status != 200:
            said = json.loads(response.body)["error"]
            words = f"asked over HTTP {way}, {what} is not answered: {said}"
            no_memory = response.status == _STATUS_NO_MEMORY
            raise StartRefused(Refusal.NO_MEMORY if no_memory else Refusal.LOAD_FAILED, words)
        named = dict(response.headers).get("Inference-Header-Content-Length")
        return oip.decode_response(response.body, None if named is None else int(named))


def _answers(ask: _Client, manifest: Manifest, case: Case, what: str) -> None:
    for binary in _ways(case):
        got = ask(case.inputs, what, binary=binary)
        if manifest.kind_of_state == "internal":
            continue
        fault = golden.compare(got, case, manifest.golden)
        if fault is not None:
            way = "as binary data" if binary else "as JSON"
            raise StartRefused(
                Refusal.GOLDEN_MISMATCH,
                f"asked over HTTP {way}, {what} of the golden vectors is answered wrongly: {fault}",
            )


def _ways(case: Case) -> tuple[bool, ...]:
    """As binary data, and as JSON where it is made for this: neither large nor infinite."""
    arrays = (*case.inputs.values(), *case.outputs.values())
    fits = sum(array.size for array in arrays) <= JSON_ELEMENTS_MAX and not any(
        array.dtype.kind == "f" and np.isinf(array).any() for array in arrays
    )
    return (True, False) if fits else (True,)


def _batch_of(manifest: Manifest, cases: Sequence[Case], size: int) -> Case | None:
    """So many batch elements of the golden cases, or None where the model takes no such batch."""
    for tensor in manifest.inputs:
        axis = tensor.batch
        if axis is not None and not (
            tensor.shape[axis] == -1
            and tensor.smallest[axis] <= size
            and (not tensor.shape_max or size <= tensor.shape_max[axis])
        ):
            return None
    if all(tensor.batch is None for tensor in manifest.inputs):
        return None
    parts = [cases[number % len(cases)] for number in range(size)]
    if not _alike(manifest.inputs, [part.inputs for part in parts]):
        parts = [cases[0]] * size
    inputs = _joined(manifest.inputs, [part.inputs for part in parts])
    batched = [tensor for tensor in manifest.outputs if tensor.batch is not None]
    if not _alike(batched, [part.outputs for part in parts]):
        batched = []
    return Case(inputs, _joined(batched, [part.outputs for part in parts]))


def _alike(tensors: Sequence[Tensor], parts: Sequence[Mapping[str, Array]]) -> bool:
    """Whether they can be joined along the batch, and agree in what has none."""
    for tensor in tensors:
        first = parts[0][tensor.name]
        for part in parts[1:]:
            array, axis = part[tensor.name], tensor.batch
            if axis is None and not np.array_equal(array, first):
                return False
            if axis is not None and _element_shape(array, axis) != _element_shape(first, axis):
                return False
    return True


def _element_shape(array: Array, axis: int) -> tuple[int, ...]:
    return array.shape[:axis] + array.shape[axis + 1 :]


def _joined(tensors: Sequence[Tensor], parts: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    joined = {}
    for tensor in tensors:
        arrays, axis = [part[tensor.name] for part in parts], tensor.batch
        if axis is None:
            joined[tensor.name] = arrays[0]
            continue
        firsts = [array[(slice(None),) * axis + (slice(0, 1),)] for array in arrays]
        joined[tensor.name] = np.ascontiguousarray(np.concatenate(firsts, axis))
    return joined


def _check_forgets(ask: _Client, first: Case, other: Case) -> None:
    """The same input must be given the same answer whatever was asked between."""
    before = ask(first.inputs, "a golden case", binary=True)
    ask(other.inputs, "a golden case", binary=True)
    for _ in range(2):
        again = ask(first.inputs, "a golden case", binary=True)
        if golden.compare(again, Case(first.inputs, before), _SAME) is not None:
            raise StartRefused(
                Refusal.GOLDEN_MISMATCH,
                "the same input is answered differently the second time: the model remembers what "
                'it was asked. Declare "state": {"kind": "internal"} in its manifest, which needs '
                "format 2, or export it with its state as inputs and outputs",
            )


def _largest(ask: _Client, manifest: Manifest, case: Case, request_seconds: float) -> Asked:
    """Ask at the largest declared shape, with the golden case's values over and over."""
    if not any(tensor.shape_max for tensor in manifest.inputs):
        return Asked(0, 0.0)
    inputs = {}
    for tensor in manifest.inputs:
        shape = tensor.shape_max or case.inputs[tensor.name].shape
        inputs[tensor.name] = _grown(case.inputs[tensor.name], shape, tensor)
    shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in inputs.items())
    begun = time.perf_counter()
    ask(inputs, f"the largest declared shape ({shapes})", binary=True)
    seconds = time.perf_counter() - begun
    if seconds > request_seconds:
        raise StartRefused(
            Refusal.TOO_SLOW,
            f"too slow here: the largest declared shape ({shapes}) takes {seconds:.1f} s, a "
            f"request may take {request_seconds:g} s",
        )
    return Asked(sum(array.size for array in inputs.values()), seconds)


def _grown(array: Array, shape: tuple[int, ...], tensor: Tensor) -> Array:
    if array.size:
        return np.resize(array, shape)
    filled: Array = np.empty(shape, NUMPY_TYPES[tensor.datatype])
    filled.fill(b"" if tensor.datatype == "BYTES" else 0)
    return filled
