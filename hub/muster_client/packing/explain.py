"""A bundle in prose: what was found, and what a device will do with it. Pure."""

from collections.abc import Iterator

from muster_client.packing.packed import Packed
from muster_protocol.signals import foresight
from muster_protocol.wire import limits
from muster_protocol.wire.tensors import Tensor

NAMES_SHOWN = 12


def summary(packed: Packed) -> str:
    """The bundle in a line."""
    built = packed.manifest
    parts = [f"{built.model} {built.version}", _size(packed.size_bytes)]
    watched = len(packed.baseline.features) if packed.baseline else 0
    parts.append(f"{watched} features watched for drift" if watched else "no drift watched")
    if built.classifier is not None:
        parts.append(f"{len(built.classifier.classes)} classes")
    if packed.accuracy is not None:
        parts.append(f"right in {packed.accuracy:.1%} of {packed.rows} rows")
    return ", ".join(parts)


def explained(packed: Packed) -> Iterator[str]:
    """Paragraphs, one after another."""
    yield from _model(packed)
    yield from _tensors(packed)
    yield from _proof(packed)
    yield _classifier(packed)
    yield _baseline(packed)
    yield from _explanation(packed)
    yield _service(packed)


def _model(packed: Packed) -> Iterator[str]:
    built, model = packed.manifest, packed.model
    made_by = f", made by {model.made_by}" if model.made_by else ""
    version = f" with opset {model.opset}, IR {model.ir_version}" if model.opset else ""
    yield (
        f"{built.model} {built.version}: {model.path.name} is a model for {model.runtime}"
        f"{version}{made_by}. The bundle has {len(built.files)} files, "
        f"{_size(packed.size_bytes)} in all."
    )
    if model.side_files:
        names = ", ".join(path.name for path in model.side_files)
        yield f"Part of its tensors lie in {names}, packed under the same name."


def _tensors(packed: Packed) -> Iterator[str]:
    for what, tensors in (("takes", packed.manifest.inputs), ("gives", packed.manifest.outputs)):
        yield f"It {what} {'; '.join(map(_tensor, tensors))}."
    scaled = [
        f"{each.name!r} (scale {each.scale:g}, zero point {each.zero_point})"
        for each in (*packed.probed.inputs, *packed.probed.outputs)
        if each.scale
    ]
    if scaled:
        yield f"Quantised: {', '.join(scaled)}; clients send and get the whole numbers."


def _tensor(tensor: Tensor) -> str:
    each = " × ".join("any size" if size == -1 else str(size) for size in tensor.element_shape)
    axis = tensor.batch
    if axis is None:
        return f"{tensor.name!r}: {tensor.datatype}, {each or 'one value'} for each request"
    size = tensor.shape[axis]
    rows = {1: "a row at a time", -1: "any number of rows"}.get(size, f"{size} rows at a time")
    where = f" along dimension {axis}" * (axis > 0)
    return f"{tensor.name!r}: {tensor.datatype}, {rows}{where}, each {each or 'one value'}"


def _proof(packed: Packed) -> Iterator[str]:
    golden = packed.manifest.golden
    yield (
        f"Before it serves, a device must reproduce the answers to golden vectors from "
        f"{packed.rows_from} within {golden.atol:g} + {golden.rtol:g} × |answer|."
    )


def _classifier(packed: Packed) -> str:
    found = packed.manifest.classifier
    if found is None:
        return (
            "It isn't taken for a classifier: labels are numbers, held against the first number "
            "of its first output."
        )
    names = ", ".join(found.classes[:NAMES_SHOWN])
    more = f" and {len(found.classes) - NAMES_SHOWN} more" * (len(found.classes) > NAMES_SHOWN)
    right = ""
    if packed.accuracy is not None:
        right = f" It is right in {packed.accuracy:.1%} of the labelled rows."
    return (
        f"Output {found.output!r} holds the scores of {len(found.classes)} classes: {names}{more}. "
        f"A label is a class's name or its index.{right}"
    )


def _baseline(packed: Packed) -> str:
    fitted = packed.baseline
    if fitted is None:
        return "No drift is watched: there is no baseline."
    names = [feature.name for feature in fitted.features]
    shown = ", ".join(names[:NAMES_SHOWN]) + ", …" * (len(names) > NAMES_SHOWN)
    says = f"{len(names)} features are watched for drift: {shown}."
    outlooks = [outlook for outlook in foresight.outlooks(fitted) if outlook.shift is not None]
    if not outlooks:
        return says
    worst = max(outlooks, key=lambda outlook: outlook.shift or 0.0)
    best = min(outlooks, key=lambda outlook: outlook.shift or 0.0)
    return (
        f"{says} A lasting shift is found within {foresight.WINDOWS} windows in about half of the "
        f"cases from {best.shift:.2g} standard deviations on ({best.feature}) to {worst.shift:.2g} "
        f"({worst.feature})."
    )


MEASURED = {
    "accuracy": "the share of right answers falls",
    "mean_absolute_error": "the mean absolute error grows",
    "output_change": "the answer moves",
}


def _explanation(packed: Packed) -> Iterator[str]:
    found = packed.explanation
    if found is None:
        return
    weights = ", ".join(
        f"{each.name} {each.importance:.3g} ± {each.spread:.2g}"
        for each in found.features[:NAMES_SHOWN]
    )
    more = ", …" * (len(found.features) > NAMES_SHOWN)
    yield (
        f"What its answers hang on, by how much {MEASURED[found.measure]} when the values of an "
        f"input are shuffled among {found.rows} rows: {weights}{more}."
    )


def _service(packed: Packed) -> str:
    built, probed = packed.manifest, packed.probed
    (build,) = built.builds
    answers = (
        f"when no model can answer, {built.fallbacks[0].name} does"
        if built.fallbacks
        else "when no model can answer, clients get an error (see --fallback)"
    )
    return (
        f"It may take {_size(build.memory_bytes)} of address space (it took "
        f"{_size(probed.memory_bytes)} here, with {packed.model.runtime} "
        f"{probed.runtime_version}); one row took {probed.latency_ms:.3g} ms. A device tries it "
        f"for {built.probation.seconds:g} s before it keeps it; {answers}."
    )


def _size(count: float) -> str:
    if count < limits.MIB:
        return f"{count / limits.KIB:.1f} KiB"
    return f"{count / limits.MIB:.0f} MiB"
