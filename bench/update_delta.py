"""Bytes to send from one version to the next when a model is retrained, by how files are cut."""

import hashlib
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from bench import update_models
from onnx import numpy_helper
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from muster_protocol.wire.limits import CHUNK_BYTES

HIDDEN = (1024, 1024)


def measure() -> dict[str, Any]:
    """Retrain a digits classifier (about 4.5 MB) three ways and count the chunks that are new."""
    data, labels = load_digits(return_X_y=True)
    data = (data / 16).astype(np.float32)
    base = _train(data[:1200], labels[:1200], seed=1)
    head = _fine_tuned(base, data, labels)
    full = _train(data[200:1400], labels[200:1400], seed=2)
    before = _model(base)
    cases = {
        "fine_tuned_head": _model(head),
        "full_retrain": _model(full),
        "quantised_int8": _quantised(base),
    }
    found: dict[str, Any] = {"model_bytes": len(before)}
    for name, after in cases.items():
        found[name] = {"bytes": len(after)}
        for cutting, cut in {"fixed": _fixed, "tensor_aligned": _aligned}.items():
            known = {_name(piece) for piece in cut(before)}
            new = sum(len(p) for p in cut(after) if _name(p) not in known)
            found[name][f"{cutting}_share_sent"] = round(new / len(after), 4)
    return found


def _train(data: Any, labels: Any, seed: int) -> update_models.Layers:
    model = MLPClassifier(HIDDEN, max_iter=8, random_state=seed)
    model.fit(data, labels)
    return _layers(model)


def _layers(model: MLPClassifier) -> update_models.Layers:
    pairs = zip(model.coefs_, model.intercepts_, strict=True)
    return [(w.astype(np.float32), b.astype(np.float32)) for w, b in pairs]


def _fine_tuned(base: update_models.Layers, data: Any, labels: Any) -> update_models.Layers:
    """New weights for the last layer only, learned on all data."""
    x = data
    for w, b in base[:-1]:
        x = np.maximum(x @ w + b, 0)
    model = MLPClassifier((), max_iter=8, random_state=3)
    model.fit(x, labels)
    return [*base[:-1], *_layers(model)]


def _model(stack: update_models.Layers) -> bytes:
    return update_models.as_onnx(stack, stack[0][0].shape[0], stack[-1][0].shape[1])


def _quantised(stack: update_models.Layers) -> bytes:
    """Weights as int8 with a scale, dequantised in the graph."""
    model = onnx.load_from_string(_model(stack))
    for number, (w, _) in enumerate(stack):
        scale = float(np.abs(w).max()) / 127
        (entry,) = (i for i in model.graph.initializer if i.name == f"w{number}")
        entry.CopyFrom(numpy_helper.from_array(np.round(w / scale).astype(np.int8), f"q{number}"))
        scaled = numpy_helper.from_array(np.float32(scale), f"s{number}")
        model.graph.initializer.append(scaled)
        node = onnx.helper.make_node(
            "DequantizeLinear", [f"q{number}", f"s{number}"], [f"w{number}"]
        )
        model.graph.node.insert(0, node)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _fixed(data: bytes) -> Iterator[bytes]:
    return (data[at : at + CHUNK_BYTES] for at in range(0, len(data), CHUNK_BYTES))


def _aligned(data: bytes) -> Iterator[bytes]:
    """Cut also where each weight tensor's bytes begin and end."""
    edges = {0, len(data)}
    for entry in onnx.load_from_string(data).graph.initializer:
        if len(entry.raw_data) >= CHUNK_BYTES // 8:
            start = data.index(entry.raw_data)
            edges |= {start, start + len(entry.raw_data)}
    ordered = sorted(edges)
    for start, end in itertools.pairwise(ordered):
        yield from _fixed(data[start:end])


def _name(piece: bytes) -> str:
    return hashlib.sha256(piece).hexdigest()
