"""What happened, as rows of the ring: exactly one row per batch element, errors included."""

from collections.abc import Mapping, Sequence

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
        self._input_sizes = [element_bytes(tensor) for tensor in layout.inputs]
        self._output_sizes = [element_bytes(tensor) for tensor in layout.outputs]
        self._no_input = bytes(layout.input_bytes)
        self._no_output = bytes(layout.output_bytes)
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
        latency = min(latency, LATENCY_US_MAX)
        if rows == 1 and self._plain and outputs:
            ring.append(
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
        ins = [inputs[name].tobytes() for name in self._inputs]
        outs = [outputs[name].tobytes() for name in self._outputs] if outputs else [self._no_output]
        if rows == 1:
            name = row_id(identifier) if identifier else b""
            ring.append(begun_ns, latency, _INFERENCE, error, quality, name, *ins, *outs)
            return
        for row in range(rows):
            name = row_id(identifier, row, rows) if identifier else b""
            taken = _sliced(ins, self._input_sizes, row)
            given = _sliced(outs, self._output_sizes, row) if outputs else outs
            ring.append(begun_ns, latency, _INFERENCE, error, quality, name, *taken, *given)

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


def _sliced(whole: Sequence[bytes], sizes: Sequence[int], row: int) -> list[memoryview]:
    return [
        memoryview(data)[row * size : (row + 1) * size]
        for data, size in zip(whole, sizes, strict=True)
    ]
