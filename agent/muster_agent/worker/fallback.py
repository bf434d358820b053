"""What answers when no model can: only what the signed manifest's fallback contract says."""

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import assert_never

import numpy as np

from muster_agent.runtimes.base import NUMPY_TYPES, Array
from muster_agent.worker.ring import RingError, RingReader
from muster_agent.worker.rows import ErrorKind, Quality, RowKind
from muster_protocol.wire.errors import ProtocolError
from muster_protocol.wire.manifest import Manifest


class FallbackContract:
    """Answers for one of the manifest's fallbacks. Pure: the caller says what time it is."""

    def __init__(self, manifest: Manifest, name: str) -> None:
        chosen = next((entry for entry in manifest.fallbacks if entry.name == name), None)
        if chosen is None:
            raise ProtocolError(
                f"{manifest.model} {manifest.version}: the manifest has no fallback {name!r}"
            )
        self.name = name
        self._axes = {tensor.name: tensor.batch for tensor in manifest.outputs}
        self._kind = chosen.kind
        self._ttl_seconds = chosen.ttl_seconds
        self._constant = {
            tensor.name: constant_row(manifest, tensor.name, chosen.outputs[tensor.name])
            for tensor in (manifest.outputs if chosen.kind == "constant" else ())
        }
        self._last: dict[str, Array] = {}
        self._last_seconds = -float("inf")

    @property
    def remembers(self) -> bool:
        """Whether ``remember`` needs to be called with good answers."""
        return self._kind == "last_good"

    def remember(self, outputs: Mapping[str, Array], now: float) -> None:
        """Keep a copy of the last row of a good answer, given at monotonic ``now``."""
        self._last = {name: _last_row(array, self._axes[name]) for name, array in outputs.items()}
        self._last_seconds = now

    def answer(self, rows: int, now: float) -> tuple[Quality, dict[str, Array]]:
        """The answer for ``rows`` batch elements; no outputs when there is no decision."""
        match self._kind:
            case "constant":
                return Quality.CONSTANT, self._repeated(self._constant, rows)
            case "last_good":
                if 0 <= now - self._last_seconds <= self._ttl_seconds:
                    return Quality.LAST_GOOD, self._repeated(self._last, rows)
            case "no_decision":
                pass
            case _:
                assert_never(self._kind)
        return Quality.NO_DECISION, {}

    def _repeated(self, row: Mapping[str, Array], rows: int) -> dict[str, Array]:
        repeated = {}
        for name, array in row.items():
            axis = self._axes[name]
            repeated[name] = array if axis is None else np.repeat(array, rows, axis=axis)
        return repeated


def constant_row(manifest: Manifest, name: str, values: list[float]) -> Array:
    """A constant as one row of its output tensor.

    A single variable dimension is as long as the constant makes it; of several each is taken as 1.
    """
    tensor = next(tensor for tensor in manifest.outputs if tensor.name == name)
    shape = [1 if axis == tensor.batch else size for axis, size in enumerate(tensor.shape)]
    if shape.count(-1) == 1:
        fixed = prod(size for size in shape if size != -1)
        shape[shape.index(-1)] = len(values) // fixed if fixed else 0
    shape = [1 if size == -1 else size for size in shape]
    if tensor.datatype == "BYTES" or prod(shape) != len(values):
        raise ProtocolError(
            f"{manifest.model} {manifest.version}: a constant of {len(values)} numbers "
            f"can't be output {name!r} of shape {list(tensor.shape)}"
        )
    return np.array(values, NUMPY_TYPES[tensor.datatype]).reshape(shape)


def _last_row(array: Array, axis: int | None) -> Array:
    """A copy of the last batch element, as a batch of one; of a tensor without a batch, of all."""
    return (
        array.copy() if axis is None else array[(slice(None),) * axis + (slice(-1, None),)].copy()
    )


def seed_last_good(contract: FallbackContract, manifest: Manifest, path: Path) -> None:
    """Remember the last good answer that an earlier worker of the slot left in its ring.

    A ring that is missing, unreadable or of other outputs leaves nothing to remember.
    """
    try:
        with RingReader(path) as ring:
            if ring.layout.outputs != manifest.outputs:
                return
            oldest = max(ring.published - ring.capacity_rows, 0)
            rows = ring.read(oldest, ring.capacity_rows).rows
            layout = ring.layout
    except RingError:
        return
    good = (rows["kind"] == RowKind.INFERENCE) & (rows["quality"] == Quality.GOOD)
    chosen = rows[good & (rows["error"] == ErrorKind.NONE)][-1:]
    if len(chosen):
        seconds = float(chosen["monotonic_ns"][0]) / 1e9
        contract.remember(layout.output_arrays(chosen), seconds)
