"""One call from a model file to a bundle's folder."""

import hashlib
import tempfile
import time
from collections.abc import Mapping
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from muster_client.failures import WrongUsage
from muster_client.packing import declare, rewriting, rows, scores, watched, writing
from muster_client.packing.advice import Notes
from muster_client.packing.contract import fallbacks
from muster_client.packing.findings import Probed
from muster_client.packing.model_file import read_model
from muster_client.packing.options import Options, plain_name
from muster_client.packing.packed import ModelFile, Packed
from muster_client.packing.probing import Probe
from muster_client.packing.rows import Rows
from muster_client.packing.source import Data, read_data
from muster_client.training.data import TrainingData
from muster_client.training.fitting import fit_rows
from muster_protocol.signals import baseline
from muster_protocol.signals.baseline import Baseline
from muster_protocol.wire import limits
from muster_protocol.wire.errors import ProtocolError
from muster_protocol.wire.manifest import Build, Classifier, Golden, Lineage, Probation
from muster_protocol.wire.tensors import Tensor

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


def make(model: Path, out: Path, options: Options, data: Any = None) -> Packed:
    """Make the bundle ``out`` of a model file.

    ``data`` is a data frame or arrays by name in place of the options' file. Raises OperatorError
    that says what to change, ProtocolError for a bundle that no device would take.
    """
    notes = Notes()
    found = read_model(model)
    with tempfile.TemporaryDirectory(prefix="muster-pack-") as folder:
        return _made(found, Path(folder), out, options, data, notes)


def _made(
    model: ModelFile, room: Path, out: Path, options: Options, data: Any, notes: Notes
) -> Packed:
    file = _placed(model, room, notes)
    with Probe(model, file) as probe:
        described = probe.describe()
        tensors = declare.inputs(described.inputs, options.shape, notes)
        given = read_data(tensors, options, data, notes)
        taken = given.rows
        picks = rows.picked(taken.count, _golden_cases(taken))
        run_on = {n: np.concatenate([array[picks], array]) for n, array in taken.inputs.items()}
        probed, answers = probe.run(run_on, first_rows=len(picks), batch=_batch_rows(taken))
    _check_steady(model, probed)
    taken = _batched(taken, probed, notes)
    steady = not any(-1 in tensor.shape[1:] for tensor in taken.tensors)
    outputs = declare.outputs(
        described.outputs, answers, len(picks) + taken.count, notes, steady=steady
    )
    anew = declare.typed_anew(described.outputs, outputs)
    if anew:
        file = rewriting.typed(file, anew, room, notes)
    proofs = {tensor.name: answers[tensor.name][: len(picks)] for tensor in outputs}
    answered = {tensor.name: answers[tensor.name][len(picks) :] for tensor in outputs}
    classifier = scores.classifier(
        outputs, answered, _asked(options), model.classes, given.labels, notes
    )
    metrics = _metrics(outputs, answered, classifier, given, notes)
    fitted = _baseline(model, options, given, taken, outputs, answered, classifier, notes)
    files: dict[str, bytes | Path] = {_file_name(model): file}
    files |= {path.name: path for path in model.side_files}
    golden = room / GOLDEN_FILE
    writing.golden({n: a[: len(picks)] for n, a in run_on.items()}, proofs, golden)
    files[GOLDEN_FILE] = golden
    if fitted is not None:
        files[BASELINE_FILE] = baseline.encode(fitted)
    fields = _fields(model, options, taken, outputs, probed, notes) | {
        "classifier": classifier,
        "baseline": BASELINE_FILE if fitted is not None else None,
        "lineage": _lineage(model, options, given, metrics),
        "fallbacks": fallbacks(options.fallback, outputs),
    }
    built, size_bytes = writing.write(out, files, fields, fitted)
    return Packed(
        out, built, size_bytes, model, probed, given.data_rows, given.origin, fitted,
        metrics.get("accuracy"), tuple(notes.found),
    )  # fmt: skip


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


def _check_steady(model: ModelFile, probed: Probed) -> None:
    if not probed.repeats:
        raise WrongUsage(
            f"{model.path}: it answered the same input differently the second time. It keeps a "
            "state from call to call, or draws random numbers: export it with the state as an "
            "input and an output that the caller carries, or in inference mode (no dropout)"
        )


def _batched(taken: Rows, probed: Probed, notes: Notes) -> Rows:
    """Rows of a model that can't take several at once are declared one by one."""
    fixed = {each.name for each in probed.inputs if each.shape[:1] == (1,)}
    if probed.batches or fixed:
        return taken
    why = f" ({probed.batch_fault})" if probed.batch_fault else ""
    notes.add(
        "one_by_one",
        f"Two rows at once don't give what they give one by one{why}: requests may hold one row "
        "each. Export the model with a free batch dimension to send several.",
    )
    single = tuple(replace(tensor, shape=(1, *tensor.shape[1:])) for tensor in taken.tensors)
    return Rows(taken.inputs, single, taken.columns, taken.booleans)


def _golden_cases(taken: Rows) -> int:
    row_bytes = max(sum(array.nbytes for array in taken.inputs.values()) // taken.count, 1)
    return int(np.clip(GOLDEN_BYTES // row_bytes, 2, GOLDEN_CASES))


def _batch_rows(taken: Rows) -> int:
    row_bytes = max(sum(array.nbytes for array in taken.inputs.values()) // taken.count, 1)
    return int(np.clip(BATCH_BYTES // row_bytes, 1, BATCH_ROWS)) if taken.count > 1 else 1


def _asked(options: Options) -> scores.Asked:
    none = options.classifier == "none"
    return scores.Asked(options.classes, "" if none else options.classifier, none)


def _metrics(
    outputs: tuple[Tensor, ...],
    answered: Mapping[str, NDArray[Any]],
    classifier: Classifier | None,
    given: Data,
    notes: Notes,
) -> dict[str, float]:
    if given.labels is None:
        return {}
    if classifier is not None:
        right = scores.accuracy(classifier, answered[classifier.output], given.labels, notes)
        return {} if right is None else {"accuracy": right}
    first = answered[outputs[0].name]
    apart = scores.mean_error(first, given.labels) if first.dtype.kind in "fiub" else None
    return {} if apart is None else {"mean_absolute_error": apart}


def _baseline(
    model: ModelFile,
    options: Options,
    given: Data,
    taken: Rows,
    outputs: tuple[Tensor, ...],
    answered: Mapping[str, NDArray[Any]],
    classifier: Classifier | None,
    notes: Notes,
) -> Baseline | None:
    if options.no_baseline or not given.is_training:
        if not given.is_training:
            notes.add(
                "no_baseline",
                "There is no baseline, so drift won't be seen: give the training data with "
                "--data FILE.csv (or .parquet, .npz).",
            )
        return None
    images = {name: _image(name, text) for name, text in options.image.items()}
    seed = _name(model, options)
    features = watched.features_of(taken, outputs, classifier, images, seed, notes)
    if not features:
        notes.add("no_baseline", "Nothing of the model can be watched, so drift won't be seen.")
        return None
    training = TrainingData({**taken.inputs, **answered}, times=given.times)
    try:
        fitted, note = fit_rows(
            training,
            watched.with_context(features, options.context),
            window_rows=options.window_rows,
            window_seconds=options.window_seconds,
            context=options.context,
            shuffled=options.shuffled,
        )
    except ProtocolError as error:
        raise WrongUsage(f"{given.origin}: {error}") from None
    if note and not options.shuffled:
        notes.add("few_windows", _few_windows(given, fitted, note))
    return fitted


def _few_windows(given: Data, fitted: Baseline, note: str) -> str:
    if fitted.normal is not None:
        return f"Baseline: {note}."
    return (
        f"Baseline: {given.data_rows} rows are too few windows to learn how windows differ when "
        "nothing is wrong, so only the rows' distribution is known and slow signals raise false "
        "alerts: give more rows in order of time, or fewer rows a window (--window-rows); "
        "--shuffled says that there is no order."
    )


def _image(name: str, text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal()):
        raise WrongUsage(f"--image {name}={text}: write it as {name}=HEIGHTxWIDTH")
    return int(height), int(width)


def _name(model: ModelFile, options: Options) -> str:
    return options.name or plain_name(model.path.stem)


def _file_name(model: ModelFile) -> str:
    return f"model.{model.runtime}"


def _fields(
    model: ModelFile,
    options: Options,
    taken: Rows,
    outputs: tuple[Tensor, ...],
    probed: Probed,
    notes: Notes,
) -> dict[str, Any]:
    memory = MEMORY_MARGIN * probed.memory_bytes
    bound = max(ceil(memory / MEMORY_STEP) * MEMORY_STEP, MEMORY_BYTES_MIN)
    if options.memory_mib is not None:
        bound = options.memory_mib * limits.MIB
        if bound < probed.memory_bytes:
            notes.add(
                "memory",
                f"--memory-mib {options.memory_mib} is less than the "
                f"{ceil(probed.memory_bytes / limits.MIB)} MiB that it took here.",
            )
    fields: dict[str, Any] = {
        "model": _name(model, options),
        "version": options.version or "1",
        "created": int(time.time()),
        "inputs": taken.tensors,
        "outputs": outputs,
        "builds": (Build(model.runtime, _file_name(model), bound, opset=model.opset),),
        "golden": _tolerances(options, outputs),
    }
    if options.probation_seconds is not None:
        fields["probation"] = Probation(seconds=options.probation_seconds)
    return fields


def _tolerances(options: Options, outputs: tuple[Tensor, ...]) -> Golden:
    usual = Golden(GOLDEN_FILE)
    rtol, atol = usual.rtol, usual.atol
    types = {tensor.datatype for tensor in outputs}
    if "FP16" in types:
        rtol, atol = HALF_TOLERANCES
    if types <= {"INT8", "UINT8"}:
        atol = WHOLE_ATOL
    return Golden(
        GOLDEN_FILE,
        rtol if options.rtol is None else options.rtol,
        atol if options.atol is None else options.atol,
    )


def _lineage(
    model: ModelFile, options: Options, given: Data, metrics: Mapping[str, float]
) -> Lineage:
    digest = hashlib.sha256(model.path.read_bytes()).hexdigest()
    made_by = f", made by {model.made_by}" if model.made_by else ""
    return Lineage(
        source=options.source or f"{model.path.name} (SHA-256 {digest[:16]}…){made_by}",
        commit=options.commit,
        data=given.lineage,
        metrics=dict(metrics),
        notes=options.notes,
    )
