"""Can a device use what a manifest says besides its model? Asked before anything is signed. Pure.

A device counts only what it records: tensors whose bytes per batch element are known beforehand. A
classifier of other scores would count no class, a constant of another type would never answer.
What a baseline watches is ``signals.watching``'s part of the rule.
"""

from collections.abc import Sequence
from math import isfinite, prod

from msgspec import UNSET

from muster_protocol.wire.errors import ProtocolError
from muster_protocol.wire.manifest import Classifier, Fallback, Manifest
from muster_protocol.wire.tensors import Tensor

CLASSES_SHOWN = 8
SHOWN_CHARS = 64
WHOLE_NUMBERS = {
    **{f"UINT{bits}": (0, 2**bits - 1) for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)},
    "BOOL": (0, 1),
}
"""Least and greatest number of each datatype that holds whole ones."""


def check(manifest: Manifest) -> None:
    """Raise ProtocolError for what a device running this version would have to do without."""
    try:
        _check(manifest)
    except ProtocolError as error:
        raise ProtocolError(f"{manifest.model} {manifest.version}: {error}") from None


def _check(manifest: Manifest) -> None:
    outputs = {tensor.name: tensor for tensor in manifest.outputs}
    if manifest.classifier is not None:
        _check_classifier(manifest.classifier, outputs[manifest.classifier.output])
    elif manifest.agreement is not UNSET and not any(map(is_recorded, manifest.outputs)):
        raise ProtocolError(
            "agreement compares numbers of an output, and no output has a fixed size: "
            "leave 'agreement' out"
        )
    for fallback in manifest.fallbacks:
        _check_fallback(fallback, outputs)


def is_recorded(tensor: Tensor) -> bool:
    """Whether a device records a tensor: its bytes per batch element are known beforehand."""
    return tensor.datatype != "BYTES" and -1 not in tensor.element_shape


def class_index(label: str, classes: Sequence[str]) -> int | None:
    """Which class a label means, by its name or else by its index; None: none of them."""
    if label in classes:
        return classes.index(label)
    try:
        number = float(label)  # a table's column of indexes may hold 1.0
    except ValueError:
        return None
    return int(number) if number.is_integer() and 0 <= number < len(classes) else None


def check_label(label: str, manifest: Manifest) -> None:
    """Raise ProtocolError for a label that no answer of this model could be held against."""
    if manifest.classifier is not None:
        classes = manifest.classifier.classes
        if class_index(label, classes) is None:
            shown = ", ".join(classes[:CLASSES_SHOWN]) + (", …" * (len(classes) > CLASSES_SHOWN))
            raise ProtocolError(
                f"label {label[:SHOWN_CHARS]!r} is no class of {manifest.model} "
                f"{manifest.version}: give a name ({shown}) or an index from 0 to "
                f"{len(classes) - 1}"
            )
        return
    try:
        usual = isfinite(float(label))
    except ValueError:
        usual = False
    if not usual:
        raise ProtocolError(
            f"label {label[:SHOWN_CHARS]!r} is no number, and {manifest.model} "
            f"{manifest.version} declares no classes: its answers are held against numbers"
        )


def elements(tensor: Tensor) -> int:
    """Numbers of one batch element of a recorded tensor."""
    return prod(tensor.element_shape)


def _check_classifier(classifier: Classifier, output: Tensor) -> None:
    if not is_recorded(output) or output.datatype == "BOOL":
        raise ProtocolError(
            f"the classifier's output {output.name!r} is {output.datatype} {list(output.shape)}: "
            "it needs one number for each class, as many for each answer"
        )
    if elements(output) != len(classifier.classes):
        raise ProtocolError(
            f"the classifier names {len(classifier.classes)} classes, its output {output.name!r} "
            f"has {elements(output)} scores for each answer"
        )


def _check_fallback(fallback: Fallback, outputs: dict[str, Tensor]) -> None:
    if fallback.kind != "constant":
        return
    for name, values in fallback.outputs.items():
        tensor = outputs[name]
        wanted = prod(1 if size == -1 else size for size in tensor.element_shape)
        what = f"fallback {fallback.name!r}, output {name!r}"
        if tensor.datatype == "BYTES":
            raise ProtocolError(f"{what}: text has no constant: use 'last_good' or 'no_decision'")
        if len(values) != wanted:
            raise ProtocolError(
                f"{what}: {len(values)} numbers, an answer of shape {list(tensor.shape)} "
                f"has {wanted}"
            )
        least, most = WHOLE_NUMBERS.get(tensor.datatype, (None, None))
        for value in values if least is not None and most is not None else ():
            if value != int(value) or not least <= int(value) <= most:
                raise ProtocolError(f"{what}: {value:g} is no {tensor.datatype}")
