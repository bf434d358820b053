"""One call from a model file to a bundle's folder."""

import dataclasses
import hashlib
import tempfile
import time
from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from muster_client.failures import OperatorError, WrongUsage
from muster_client.packing import (
    declare,
    estimators,
    explaining,
    fed,
    learning,
    quantising,
    rewriting,
    rows,
    sampled,
    scores,
    writing,
)
from muster_client.packing.advice import Notes
from muster_client.packing.card_file import read_card
from muster_client.packing.contract import fallbacks, providers
from muster_client.packing.findings import Probed, Request
from muster_client.packing.learning import Work
from muster_client.packing.model_file import read_model
from muster_client.packing.options import Options
from muster_client.packing.packed import ModelFile, Packed
from muster_client.packing.probing import Probe
from muster_client.packing.remembering import carried, state_of
from muster_client.packing.rows import Rows
from muster_client.packing.source import Data, read_data
from muster_protocol.signals import baseline
from muster_protocol.wire import card, explanation, limits, sampling
from muster_protocol.wire.manifest import Build, Golden, Lineage, Probation
from muster_protocol.wire.tensors import Tensor
from muster_protocol.wire.usable import is_recorded

GOLDEN_FILE = "golden.npz"
BASELINE_FILE = "baseline.bin"
GOLDEN_CASES = 16
GOLDEN_BYTES = 8 * limits.MIB
"""Of golden vectors that are meant at most, before compression."""
BATCH_BYTES = 4 * limits.MIB
BATCH_ROWS = 256
MEMORY_MARGIN = 2.0
MEMORY_BYTES_MIN = 128 * limits.MIB
MEMORY_STEP = 16 * limits.MIB
HALF_TOLERANCES = (1e-2, 1e-2)
"""Relative and absolute, of answers in half precision."""
WHOLE_ATOL = 2.0
"""Steps by which a quantised answer may differ between processors."""


def make(
    model: Path, out: Path, options: Options, data: Any = None, origin: Lineage | None = None
) -> Packed:
    """Make the bundle ``out`` of a model file.

    ``data`` is a data frame or arrays by name in place of the options' file; ``origin`` is what is
    known of the model's past, and options go over it. Raises OperatorError that says what to
    change, ProtocolError for a bundle that no device would take.
    """
    notes = Notes()
    with tempfile.TemporaryDirectory(prefix="muster-pack-") as folder:
        room = Path(folder)
        known = origin or Lineage()
        options = msgspec.structs.replace(options, source=options.source or known.source)
        if estimators.is_estimator(model):
            model, options = estimators.converted(model, room, options, data, notes)
        found = read_model(model)
        if options.quantise:
            found, options = quantising.quantised(found, room, options, data, notes)
        return _made(found, room, out, options, data, notes, known)


def _made(
    model: ModelFile,
    room: Path,
    out: Path,
    options: Options,
    data: Any,
    notes: Notes,
    origin: Lineage,
) -> Packed:
    file = _placed(model, room, notes)
    with Probe(model, file) as probe:
        described = probe.describe()
        states = {} if options.sessions else carried(
            described.inputs, described.outputs, options.state, notes
        )  # fmt: skip
        hints = declare.Hints(
            options.shape, {n: _number(n, t) for n, t in options.batch_axis.items()}
        )
        tensors = declare.inputs(described.inputs, described.outputs, hints, notes)
        given = read_data(tensors, [*states], options, data, notes)
        group = declare.group_of(tensors)
        cases = _picked(given.rows, group)
        run_on = {
            name: np.concatenate([array[cases], array[: len(array) // group * group]])
            for name, array in given.rows.inputs.items()
        }
        axes = {tensor.name: tensor.batch for tensor in tensors}
        try:
            probed, answers = probe.run(run_on, _request(given.rows, axes, states, cases, group))
        except OperatorError as error:
            raise _with_sizes(error, tensors, given) from None
        _check_steady(model, probed, options)
        taken = _batched(given.rows, probed, notes)
        (batch,) = {t.shape[t.batch] for t in taken.tensors if t.batch is not None} or {-1}
        steady = all(is_recorded(t) or t.datatype == "BYTES" for t in taken.tensors)
        found = declare.Answers(answers, probed.output_axes, batch, steady)
        outputs = declare.outputs(described.outputs, found, notes)
        anew = declare.typed_anew(described.outputs, outputs)
        if anew and model.runtime == "onnx":
            file = rewriting.typed(file, anew, room, notes)
        proofs, answered = _parted(answers, outputs, len(cases), group)
        classifier = scores.classifier(
            outputs, answered, _asked(options), model.classes, given.labels, notes
        )
        work = Work(model, options, given, taken, outputs, answered, classifier, states, notes)
        metrics = learning.metrics(work)
        fitted = learning.baseline_of(work)
        files: dict[str, bytes | Path] = {_file_name(model): file}
        files |= {path.name: path for path in model.side_files}
        explained = explaining.report(work, _asking(probe, axes, given.rows), probed.latency_ms)
        if explained is not None:
            files[explanation.FILE] = explanation.encode(explained)
        if options.card:
            files[card.FILE] = card.encode(read_card(Path(options.card)))
        if options.sampling:
            allowed = sampled.read(Path(options.sampling), taken.tensors, taken.columns)
            files[sampling.FILE] = sampling.encode_limits(allowed)
        if fitted is not None:
            files[BASELINE_FILE] = baseline.encode(fitted)
        fields = _fields(work, probed) | {
            "classifier": classifier,
            "baseline": BASELINE_FILE if fitted is not None else None,
            "lineage": _lineage(model, options, given, metrics, origin),
            "fallbacks": fallbacks(options.fallback, outputs),
            "state": state_of(states, options),
        }
        chosen = options.threads is not None or bool(options.providers)
        if chosen or _newer(taken.tensors, outputs, proofs, group):
            fields["format"] = 2
        fields |= fed.fields_of(options.features)
        kept = {name: array[: len(cases)] for name, array in run_on.items()}
        vectors = writing.Cases(kept, proofs, len(cases) // group, group)
        built, size_bytes = writing.write(out, files, fields, vectors, fitted)
        return Packed(
            out, built, size_bytes, model, probed, given.data_rows, given.origin, fitted,
            metrics.get("accuracy"), tuple(notes.found), explained,
        )  # fmt: skip


def _asking(probe: Probe, axes: Mapping[str, int | None], given: Rows) -> explaining.Ask:
    """A way to run the loaded model on more rows."""
    request = _request(given, dict(axes), {}, np.arange(2), 1)
    return lambda inputs: probe.run(inputs, request)[1]


def _with_sizes(error: OperatorError, tensors: Sequence[Tensor], given: Data) -> OperatorError:
    """The error with a hint, where it may come from sizes that were made up."""
    open_ones = [t for t in tensors if -1 in t.element_shape]
    if given.is_training or not open_ones:
        return error
    names = ", ".join(f"--shape {t.name}=…" for t in open_ones)
    return OperatorError(
        f"{error} (sizes that the model leaves open were taken as 1: give its own with {names})"
    )


def _number(name: str, text: str) -> int | None:
    if text == "none":
        return None
    if not text.isdecimal():
        raise WrongUsage(f"--batch-axis {name}={text}: give a number from 0, or none")
    return int(text)


def _picked(taken: Rows, group: int) -> NDArray[np.intp]:
    """Rows of the golden cases, case by case. Raises WrongUsage for too few rows."""
    count = taken.count // group
    if not count:
        raise WrongUsage(f"the model takes {group} rows at once, there are {taken.count}")
    row_bytes = max(sum(array.nbytes for array in taken.inputs.values()) // taken.count, 1)
    wanted = int(np.clip(GOLDEN_BYTES // (row_bytes * group), 2, GOLDEN_CASES))
    firsts = rows.picked(count, wanted)[:, np.newaxis] * group
    return (firsts + np.arange(group)).ravel()


def _request(
    taken: Rows,
    axes: dict[str, int | None],
    states: Mapping[str, str],
    cases: NDArray[np.intp],
    group: int,
) -> Request:
    row_bytes = max(sum(array.nbytes for array in taken.inputs.values()) // taken.count, 1)
    batch = int(np.clip(BATCH_BYTES // row_bytes, 1, BATCH_ROWS)) if taken.count > 1 else 1
    continued = {given: axes[name] for name, given in states.items()}
    return Request(
        axes=axes,
        output_axes={name: axis for name, axis in continued.items() if axis is not None},
        group=group,
        singles=len(cases) // group,
        batch=max(batch, 2),
    )


def _parted(
    answers: Mapping[str, NDArray[Any]], outputs: Sequence[Tensor], rows_first: int, group: int
) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """Answers to golden cases, and to the data."""
    ends = {t.name: rows_first if t.batch is not None else rows_first // group for t in outputs}
    return (
        {name: answers[name][:end] for name, end in ends.items()},
        {name: _stacked(answers[name][end:]) for name, end in ends.items()},
    )


def _newer(
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    proofs: Mapping[str, NDArray[Any]],
    group: int,
) -> bool:
    """Whether only format 2 proves it: cases of several rows or none, NaN that is met by NaN."""
    nan = any(np.isnan(array).any() for array in proofs.values() if array.dtype.kind == "f")
    return nan or group > 1 or any(tensor.batch is None for tensor in (*inputs, *outputs))


def _stacked(array: NDArray[Any]) -> NDArray[Any]:
    """Each row's own answers as an array, where they are of one shape."""
    if declare.is_held(array) and len({np.asarray(part).shape for part in array}) == 1:
        return np.stack([np.asarray(part) for part in array])
    return array


def _placed(model: ModelFile, room: Path, notes: Notes) -> Path:
    """The file to load: the model's own, or one without its ZipMap."""
    if model.rewritten is None:
        return model.path
    notes.add(
        "zipmap",
        f"The model ends with a ZipMap, whose maps no client gets; it was taken out, and the "
        f"scores are the output {model.scores!r} (scikit-learn: convert with "
        "options={'zipmap': False} to have it so in your file).",
    )
    return rewriting.placed(model, room)


def _check_steady(model: ModelFile, probed: Probed, options: Options) -> None:
    if not probed.repeats and not options.sessions:
        raise WrongUsage(
            f"{model.path}: it answered the same input differently the second time. If it keeps a "
            "state from call to call, say --sessions per-connection (each client has its own) or "
            "single, or better export it with the state as an input and an output that the caller "
            "carries; if it draws random numbers, export it in inference mode (no dropout)"
        )


def _batched(taken: Rows, probed: Probed, notes: Notes) -> Rows:
    """Rows of a model that can't take several at once are declared one by one."""
    known = {each.name: each.shape for each in probed.inputs}
    batched = [tensor for tensor in taken.tensors if tensor.batch is not None]
    free = [t for t in batched if t.shape[t.batch or 0] == -1]
    varies = any(probed.output_axes.get(each.name, 0) is None for each in probed.outputs)
    opened = [t for t in free if known[t.name][t.batch or 0] is None]
    if not free or probed.batches or taken.count < 2 or not (opened or varies):
        return taken
    if opened and not varies:
        why = f" ({probed.batch_fault})" if probed.batch_fault else ""
        notes.add(
            "one_by_one",
            f"Two rows at once don't give what they give one by one{why}: requests may hold one "
            "row each. Export the model with a free batch dimension to send several.",
        )
    return dataclasses.replace(taken, tensors=declare.one_by_one(taken.tensors))


def _asked(options: Options) -> scores.Asked:
    none = options.classifier == "none"
    return scores.Asked(options.classes, "" if none else options.classifier, none)


def _file_name(model: ModelFile) -> str:
    return f"model.{model.runtime}"


def _fields(work: Work, probed: Probed) -> dict[str, Any]:
    options = work.options
    memory = MEMORY_MARGIN * probed.memory_bytes
    bound = max(ceil(memory / MEMORY_STEP) * MEMORY_STEP, MEMORY_BYTES_MIN)
    if options.memory_mib is not None:
        bound = options.memory_mib * limits.MIB
        if bound < probed.memory_bytes:
            work.notes.add(
                "memory",
                f"--memory-mib {options.memory_mib} is less than the "
                f"{ceil(probed.memory_bytes / limits.MIB)} MiB that it took here.",
            )
    model = work.model
    fields: dict[str, Any] = {
        "model": work.name,
        "version": options.version or "1",
        "created": int(time.time()),
        "inputs": work.taken.tensors,
        "outputs": work.outputs,
        "builds": (
            Build(
                model.runtime,
                _file_name(model),
                bound,
                opset=model.opset,
                providers=providers(options.providers),
                threads=UNSET if options.threads is None else options.threads,
            ),
        ),
        "golden": _tolerances(options, work.outputs),
    }
    if options.probation_seconds is not None:
        fields["probation"] = Probation(seconds=options.probation_seconds)
    return fields


def _tolerances(options: Options, outputs: tuple[Tensor, ...]) -> Golden:
    usual = Golden(GOLDEN_FILE)
    rtol, atol = usual.rtol, usual.atol
    types = {tensor.datatype for tensor in outputs}
    if "FP16" in types or options.quantise:  # int8 kernels round otherwise on each processor
        rtol, atol = HALF_TOLERANCES
    if types <= {"INT8", "UINT8"}:
        atol = WHOLE_ATOL
    return Golden(
        GOLDEN_FILE,
        rtol if options.rtol is None else options.rtol,
        atol if options.atol is None else options.atol,
    )


def _lineage(
    model: ModelFile,
    options: Options,
    given: Data,
    metrics: Mapping[str, float],
    origin: Lineage,
) -> Lineage:
    digest = hashlib.sha256(model.path.read_bytes()).hexdigest()
    made_by = f", made by {model.made_by}" if model.made_by else ""
    return Lineage(
        source=options.source
        or origin.source
        or f"{model.path.name} (SHA-256 {digest[:16]}…){made_by}",
        commit=options.commit or origin.commit,
        data="; ".join(filter(None, (origin.data, given.lineage))),
        trained_at=origin.trained_at,
        metrics={**origin.metrics, **metrics},
        notes="\n".join(filter(None, (origin.notes, options.notes))),
    )
