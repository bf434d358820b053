"""What a model's file says of itself, before a runtime loads it."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from muster_client.failures import Lacking, WrongUsage
from muster_client.packing.packed import ModelFile
from muster_protocol.wire.manifest import Runtime

TFLITE_MARK = b"TFL3"
SUFFIXES: dict[str, Runtime] = {".onnx": "onnx", ".tflite": "tflite", ".lite": "tflite"}
OWN_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
"""Whose operators every build of ONNX Runtime has."""
RUNTIME_DOMAINS = frozenset({"com.microsoft", "com.microsoft.nchwc"})
"""Whose operators ONNX Runtime adds."""


def read_model(path: Path) -> ModelFile:
    """Read a .onnx or .tflite file. Raises WrongUsage for anything else, Lacking without onnx."""
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise WrongUsage(f"{path}: {error.strerror}") from None
    if head[4:8] == TFLITE_MARK:
        return ModelFile(path, "tflite")
    runtime = SUFFIXES.get(path.suffix.lower())
    if runtime == "onnx":
        return _read_onnx(path)
    if runtime == "tflite":
        raise WrongUsage(f"{path}: not a TFLite model, which has TFL3 in its first bytes")
    known = ", ".join(SUFFIXES)
    raise WrongUsage(f"{path}: no model that is known here; give a file that ends with {known}")


def _read_onnx(path: Path) -> ModelFile:
    try:
        import onnx  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        raise Lacking(f"{path}: reading ONNX", "onnx", "pack") from None
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:
        raise WrongUsage(f"{path}: not an ONNX model: {_line(error)}") from None
    if not model.graph.node and not model.graph.output:
        raise WrongUsage(f"{path}: not an ONNX model: it has no graph")
    nodes = [*_nodes(model.graph), *(node for each in model.functions for node in each.node)]
    own = {(each.domain, each.name) for each in model.functions}
    foreign = {
        node.domain
        for node in nodes
        if node.domain not in OWN_DOMAINS | RUNTIME_DOMAINS
        and (node.domain, node.op_type) not in own
    }
    classes = _classes(nodes)
    scores = _unzipped(model)
    versions = {item.domain or "ai.onnx": item.version for item in model.opset_import}
    made_by = f"{model.producer_name} {model.producer_version}".strip()
    return ModelFile(
        path,
        "onnx",
        opset=versions.get("ai.onnx"),
        ir_version=model.ir_version,
        made_by=made_by,
        side_files=_side_files(path, model),
        classes=classes,
        operators=frozenset(node.op_type for node in nodes),
        foreign=frozenset(foreign),
        rewritten=model.SerializeToString() if scores else None,
        scores=scores,
    )


def _nodes(graph: Any) -> Iterator[Any]:
    """Nodes of a graph and of the graphs in it."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)


def _side_files(path: Path, model: Any) -> tuple[Path, ...]:
    from onnx.external_data_helper import (  # noqa: PLC0415 - an extra
        _get_all_tensors,
        uses_external_data,
    )

    names = {
        entry.value
        for tensor in _get_all_tensors(model)
        if uses_external_data(tensor)
        for entry in tensor.external_data
        if entry.key == "location"
    }
    for name in sorted(names):
        if len(PurePosixPath(name).parts) != 1 or name in {".", ".."}:
            raise WrongUsage(
                f"{path}: its tensors lie in {name!r}, outside of its own folder: save it with "
                "onnx.save(model, path, save_as_external_data=True, location='weights.data')"
            )
        if not (path.parent / name).is_file():
            raise WrongUsage(f"{path}: its tensors lie in {name!r}, which isn't beside it")
    return tuple(path.parent / name for name in sorted(names))


def _classes(nodes: list[Any]) -> tuple[str, ...]:
    """Names in the attributes of classifiers and of ZipMap, the last that there are."""
    found: tuple[str, ...] = ()
    for node in nodes:
        for attribute in node.attribute:
            if attribute.name in {"classlabels_strings", "classlabels_string"}:
                found = (
                    tuple(text.decode("utf-8", "replace") for text in attribute.strings) or found
                )
            elif attribute.name in {"classlabels_int64s", "classlabels_ints"}:
                found = tuple(str(number) for number in attribute.ints) or found
    return found


def _unzipped(model: Any) -> str:
    """Replace an output that a ZipMap made by the scores it was made of; their name, or empty."""
    from onnx import TensorProto, helper  # noqa: PLC0415 - an extra

    outputs = {output.name: place for place, output in enumerate(model.graph.output)}
    for node in model.graph.node:
        if node.op_type != "ZipMap" or node.output[0] not in outputs:
            continue
        count = max(len(attribute.strings) + len(attribute.ints) for attribute in node.attribute)
        source = node.input[0]
        typed = helper.make_tensor_value_info(source, TensorProto.FLOAT, [None, count])
        model.graph.output[outputs[node.output[0]]].CopyFrom(typed)
        model.graph.node.remove(node)
        return str(source)
    return ""


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def input_names(path: Path) -> list[str]:
    """Names of an ONNX model's inputs in order; empty for a model of another kind.

    Raises WrongUsage, and Lacking without onnx.
    """
    if path.suffix.lower() != ".onnx":
        return []
    try:
        import onnx  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        raise Lacking(f"{path}: reading ONNX", "onnx", "pack") from None
    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except Exception as error:
        raise WrongUsage(f"{path}: not an ONNX model: {_line(error)}") from None
    own = {weights.name for weights in graph.initializer}
    return [each.name for each in graph.input if each.name not in own]
