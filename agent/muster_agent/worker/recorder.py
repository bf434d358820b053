"""What happened, as rows of the ring: exactly one row per batch element, errors included."""

from collections.abc import Mapping, Sequence

import numpy as np

from muster_agent.runtimes.base import Array
from muster_agent.worker.ring import Ring
from muster_agent.worker.rows import (
    LABEL_BYTES_MAX,
    ErrorKind,
    Quality,
    RingLayout,
    RowKind,
    element_bytes,
    row_id,
)
from muster_protocol.wire.errors import LimitError
from muster_protocol.wire.tensors import Tensor

LATENCY_US_MAX = 0xFFFFFFFF

# Looking a member up in its enumeration costs as much as packing the row.
_INFERENCE = int(RowKind.INFERENCE)
_NO_ERROR = int(ErrorKind.NONE)
_GOOD = int(Quality.GOOD)
_UNANSWERED = int(Quality.UNANSWERED)


class Recorder:
    """Turns answers into rows and counts them; without a ring it only counts."""

    def __init__(self, ring: Ring | None, layout: RingLayout) -> None:
        self.ring = ring
        self._inputs = [tensor.name for tensor in layout.inputs]
        self._outputs = [tensor.name for tensor in layout.outputs]
        self._plain = len(self._inputs) == len(self._outputs) == 1
        """One tensor in and one out: most models, and the shortest way to a row."""
        self._input, self._output = (*self._inputs, "")[0], (*self._outputs, "")[0]
        self._input_rows = [(tensor, element_bytes(tensor)) for tensor in layout.inputs]
        self._output_rows = [(tensor, element_bytes(tensor)) for tensor in layout.outputs]
        self._no_input = bytes(layout.input_bytes)
        self._no_output = bytes(layout.output_bytes)
        self._none = (self._no_output,)
        self.inferences = 0
        self.errors = 0
        self.invalid = 0
        self.fallbacks = 0
        self.labels = 0

    def answered(
        self,
        identifier: str,
        rows: int,
        inputs: Mapping[str, Array],
        outputs: Mapping[str, Array],
        begun_ns: int,
        ended_ns: int,
        *,
        error: int = _NO_ERROR,
        quality: int = _GOOD,
    ) -> None:
        """Record ``rows`` batch elements; empty ``outputs`` are recorded as zeros.

        Times are monotonic nanoseconds; every element of a batch carries the batch's latency.
        """
        self.inferences += rows
        if error != _NO_ERROR:
            self.errors += rows
            if quality != _UNANSWERED:
                self.fallbacks += rows
        ring = self.ring
        if ring is None:
            return
        latency = (ended_ns - begun_ns) // 1000
        if latency > LATENCY_US_MAX:  # noqa: PLR1730 - a call of min takes a tenth of the whole
            latency = LATENCY_US_MAX
        if rows == 1 and self._plain and outputs:
            ring.append_answer(
                begun_ns,
                latency,
                _INFERENCE,
                error,
                quality,
                row_id(identifier) if identifier else b"",
                inputs[self._input].tobytes(),
                outputs[self._output].tobytes(),
            )
            return
        if rows == 1:
            ins = [inputs[name].tobytes() for name in self._inputs]
            outs = [outputs[name].tobytes() for name in self._outputs] if outputs else ()
            name = row_id(identifier) if identifier else b""
            ring.append(
                begun_ns, latency, _INFERENCE, error, quality, name, *ins, *(outs or self._none)
            )
            return
        taken = _by_row(inputs, self._input_rows, rows)
        given = _by_row(outputs, self._output_rows, rows) if outputs else [self._none] * rows
        for row in range(rows):
            name = row_id(identifier, row, rows) if identifier else b""
            ring.append(
                begun_ns, latency, _INFERENCE, error, quality, name, *taken[row], *given[row]
            )

    def refused(self, identifier: str, begun_ns: int, ended_ns: int) -> None:
        """Record one request that could not be read as an inference."""
        self.invalid += 1
        if self.ring is not None:
            self.ring.append(
                begun_ns,
                min((ended_ns - begun_ns) // 1000, LATENCY_US_MAX),
                _INFERENCE,
                int(ErrorKind.INVALID_INPUT),
                _UNANSWERED,
                row_id(identifier) if identifier else b"",
                self._no_input,
                self._no_output,
            )

    def labelled(self, identifier: str, label: str, *, monotonic_ns: int) -> None:
        """Record a label that came for an inference id; raises LimitError when it is too long."""
        data = label.encode()
        if len(data) > LABEL_BYTES_MAX or b"\0" in data:
            raise LimitError(
                f"the label of {identifier!r} must be at most {LABEL_BYTES_MAX} bytes of text"
            )
        self.labels += 1
        if self.ring is not None:
            padded = data.ljust(LABEL_BYTES_MAX, b"\0")
            self.ring.append(monotonic_ns, 0, RowKind.LABEL, 0, 0, row_id(identifier), padded)


def _by_row(
    arrays: Mapping[str, Array], tensors: Sequence[tuple[Tensor, int]], rows: int
) -> list[tuple[memoryview, ...]]:
    """The bytes of each tensor's batch elements, row by row."""
    columns = []
    for tensor, size in tensors:
        array, axis = arrays[tensor.name], tensor.batch
        data = memoryview((np.moveaxis(array, axis, 0) if axis else array).tobytes())
        step = 0 if axis is None else size
        columns.append([data[row * step : row * step + size] for row in range(rows)])
    return list(zip(*columns, strict=True)) if columns else [()] * rows
