"""An int8 model in place of a float one, with what that loses on the data."""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from muster_client.failures import OperatorError, WrongUsage
from muster_client.packing import declare, rewriting
from muster_client.packing.advice import Notes
from muster_client.packing.findings import Request
from muster_client.packing.int8 import Quantising
from muster_client.packing.model_file import read_model
from muster_client.packing.options import Options
from muster_client.packing.packed import ModelFile
from muster_client.packing.probing import Probe
from muster_client.packing.source import read_data

OPERATORS = frozenset({"MatMul", "Gemm", "Conv", "LSTM", "Attention"})
"""Whose weights become int8."""
ROWS_MAX = 2000
"""On which the loss is measured."""
BATCH_ROWS = 64
WALL_SECONDS = 1800.0
Answers = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class _Rows:
    """What both models are run on."""

    inputs: dict[str, NDArray[Any]]
    axes: dict[str, int | None]
    group: int
    is_training: bool

    @property
    def count(self) -> int:
        return len(next(iter(self.inputs.values())))


def quantised(
    model: ModelFile, room: Path, options: Options, data: Any, notes: Notes
) -> tuple[ModelFile, Options]:
    """The int8 model of another, in ``room``, and options that say where it is from.

    Raises OperatorError.
    """
    if model.runtime != "onnx":
        raise WrongUsage(
            f"{model.path.name}: nothing here makes int8 of a TFLite model: do it where it is "
            "exported, with tf.lite.TFLiteConverter and optimizations = "
            "[tf.lite.Optimize.DEFAULT], and pack that file"
        )
    if not model.operators & OPERATORS:
        raise WrongUsage(
            f"{model.path.name}: nothing in it would become int8: that takes one of "
            f"{', '.join(sorted(OPERATORS))}"
        )
    file = model.path if model.rewritten is None else rewriting.placed(model, room)
    folder = room / "int8"
    folder.mkdir()
    target = folder / f"{model.path.stem}.onnx"
    rows, before = _run(model, file, options, data)
    if options.quantise == "static" and not rows.is_training:
        raise WrongUsage("--quantise static learns ranges from data: give --data, or say dynamic")
    _make(model, file, target, rows, options)
    made = read_model(target)
    _, after = _run(made, target, options, data)
    sizes = [path.stat().st_size / 1024 for path in (file, target)]
    basis = "rows of the data" if rows.is_training else "made-up rows"
    notes.add(
        "quantised",
        f"int8 ({options.quantise}): {sizes[1]:,.0f} KiB instead of {sizes[0]:,.0f}. In "
        f"{rows.count} {basis} {_loss(before, after)}. Its golden vectors are its own.",
    )
    source = options.source or f"{model.path.name}, as int8 ({options.quantise})"
    return made, msgspec.structs.replace(options, source=source)


def _run(model: ModelFile, file: Path, options: Options, data: Any) -> tuple[_Rows, Answers]:
    quiet = Notes()  # Packing says it all again.
    with Probe(model, file) as probe:
        described = probe.describe()
        hints = declare.Hints(options.shape, {})
        tensors = declare.inputs(described.inputs, described.outputs, hints, quiet)
        given = read_data(tensors, [], options, data, quiet)
        group = declare.group_of(tensors)
        count = min(given.rows.count, ROWS_MAX) // group * group
        rows = _Rows(
            {name: array[:count] for name, array in given.rows.inputs.items()},
            {tensor.name: tensor.batch for tensor in tensors},
            group,
            given.is_training,
        )
        request = Request(axes=rows.axes, group=group, singles=2, batch=BATCH_ROWS)
        _, answers = probe.run(rows.inputs, request)
    return rows, answers


def _make(model: ModelFile, file: Path, target: Path, rows: _Rows, options: Options) -> None:
    assert options.quantise
    stored = target.with_suffix(".npz")
    np.savez(stored, **rows.inputs)  # type: ignore[arg-type]  # names of tensors
    task = Quantising(str(file), str(target), options.quantise, str(stored), rows.axes, rows.group)
    command = [sys.executable, "-P", "-m", "muster_client.packing.int8"]
    try:
        done = subprocess.run(
            [*command, msgspec.json.encode(task).decode()], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=WALL_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise OperatorError(
            f"{model.path.name}: making int8 of it took longer than {WALL_SECONDS:g} s"
        ) from None
    if done.returncode or not target.is_file():
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise OperatorError(f"{model.path.name}: no int8 model was made: {' '.join(last)[:300]}")


def _loss(before: Answers, after: Answers) -> str:
    """How far answers are apart, and how often another class is best."""
    parts = []
    for name, want in before.items():
        got = after.get(name)
        if got is None or got.shape != want.shape or want.dtype.kind != "f":
            continue
        apart = np.abs(got.astype(np.float64) - want.astype(np.float64))
        size = float(np.nanmax(np.abs(want), initial=0.0))
        words = (
            f"{name!r} differs by {np.nanmean(apart):.2g} on average, {np.nanmax(apart):.2g} at "
            f"most (its largest number is {size:.2g})"
        )
        if want.ndim == 2 and want.shape[1] > 1:
            other = int((want.argmax(axis=1) != got.argmax(axis=1)).sum())
            words += f", another class is best in {other} of {len(want)} rows"
        parts.append(words)
    return "; ".join(parts) or "no answer is a number that could be compared"
