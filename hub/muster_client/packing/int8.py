"""Makes an int8 model of an ONNX file: ``python -m muster_client.packing.int8 TASK``.

It runs models, and so in a process of its own: one that crashes ends this and not the command.
"""

import os
import sys
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from muster_client.packing import running

CALIBRATION_RUNS_MAX = 500


class Quantising(msgspec.Struct, frozen=True):
    """What to make of what."""

    source: str
    target: str
    kind: Literal["dynamic", "static"]
    rows: str
    """An ``.npz`` of inputs by name, rows first."""
    axes: dict[str, int | None]
    group: int


class CalibrationRuns:
    """Implements ONNX Runtime's ``CalibrationDataReader``: runs of the data, one by one."""

    def __init__(self, inputs: dict[str, NDArray[Any]], task: Quantising) -> None:
        self._inputs, self._task = inputs, task
        runs = len(next(iter(inputs.values()))) // task.group
        step = max(runs // CALIBRATION_RUNS_MAX, 1)
        self._left = iter(range(0, runs * task.group, step * task.group))

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """The inputs of the next run; None after the last."""
        begin = next(self._left, None)
        if begin is None:
            return None
        axes, group = self._task.axes, self._task.group
        return running.taken(self._inputs, axes, begin, begin + group, begin)


def main(text: str) -> None:
    """Quantise; whatever the library raises ends the process with its last line."""
    task = msgspec.json.decode(text, type=Quantising)
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # else it reports to its maker
    from onnxruntime import quantization  # noqa: PLC0415 - not before the line above

    whole = Path(task.source).stat().st_size < 1 << 30
    if task.kind == "dynamic":
        quantization.quantize_dynamic(
            task.source, task.target, weight_type=quantization.QuantType.QInt8,
            use_external_data_format=not whole,
        )  # fmt: skip
        return
    with np.load(task.rows, allow_pickle=True) as archive:  # written by the parent
        inputs = {name: archive[name] for name in archive.files}
    quantization.CalibrationDataReader.register(CalibrationRuns)
    quantization.quantize_static(
        task.source, task.target, CalibrationRuns(inputs, task),
        quant_format=quantization.QuantFormat.QDQ,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        use_external_data_format=not whole,
    )  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1])
