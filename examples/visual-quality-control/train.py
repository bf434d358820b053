"""Learns from pictures which discs are scratched: a small convolutional model, as ONNX and as int8.

Its filters are fixed (dark lines in eight directions); what is learnt is how much of a line is too
much. Pictures are prepared by the same function as on the device.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from lite import tflite_of
from numpy.typing import NDArray
from onnx import TensorProto, checker, helper, numpy_helper
from parts import CLASSES, Line
from PIL import Image

from muster_protocol.images.decoding import decoded
from muster_protocol.images.preparing import prepared
from muster_protocol.wire.imaging import InputImage
from muster_protocol.wire.tensors import Tensor

Floats = NDArray[np.float32]
SIDE = 48
DIRECTIONS, REACH, WIDTH = 8, 4, 1.0
"""Filters; each is 2 × REACH + 1 wide, for lines as broad as WIDTH."""
FEATURES = {
    "image": {
        "crop": [0.325, 0.27, 0.675, 0.73], "colour": "grey", "fit": "stretch",
        "resize": "bilinear", "scale": [255.0], "layout": "CHW",
    },
    "window": {"every_seconds": 0.5},
    "quality": {"stale_seconds": 10.0},
}  # fmt: skip
"""What the manifest will say: only the middle of the disc, as one channel from 0 to 1."""
TENSOR = Tensor("image", "FP32", (-1, 1, SIDE, SIDE))


def write_pictures(folder: Path, line: Line, count: int) -> None:
    """``count`` labelled pictures: one folder for each class, named in their order."""
    for name in CLASSES:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        picture, label = line.next()
        Image.fromarray(picture).save(folder / label / f"{number:06d}.png", compress_level=1)


def filters() -> Floats:
    """[8, 1, 9, 9]: dark lines, as the second derivative of a Gaussian across each direction."""
    y, x = np.mgrid[-REACH : REACH + 1, -REACH : REACH + 1].astype(np.float64)
    made = []
    for number in range(DIRECTIONS):
        angle = np.pi * number / DIRECTIONS
        across = y * np.cos(angle) - x * np.sin(angle)
        along = x * np.cos(angle) + y * np.sin(angle)
        second = (across**2 / WIDTH**2 - 1) * np.exp(-(across**2) / (2 * WIDTH**2))
        ridge = second * np.exp(-(along**2) / (2 * 2.0**2))
        ridge -= ridge.mean()
        made.append(ridge / np.abs(ridge).sum())
    return np.array(made, np.float32)[:, np.newaxis]


def strongest(pictures: Floats) -> Floats:
    """[rows, 8]: the strongest line in each direction, of pictures [rows, 1, 48, 48]."""
    flat, size = filters().reshape(DIRECTIONS, -1), 2 * REACH + 1
    rows = []
    for picture in pictures[:, 0]:
        windows = np.lib.stride_tricks.sliding_window_view(picture, (size, size))
        rows.append(np.maximum(windows.reshape(-1, size * size) @ flat.T, 0).max(axis=0))
    return np.array(rows, np.float32)


def fit(rows: Floats, scratched: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats, Floats]:
    """Mean, spread, weights and bias of a logistic regression, by plain gradient descent."""
    mean, spread = rows.mean(axis=0), rows.std(axis=0)
    x, weights, bias = (rows - mean) / spread, np.zeros(rows.shape[1]), 0.0
    for _ in range(4000):
        fault = 1 / (1 + np.exp(-(x @ weights + bias))) - scratched
        weights -= 0.5 * (x.T @ fault / len(x) + 1e-4 * weights)
        bias -= 0.5 * float(fault.mean())
    both = np.stack([np.zeros_like(weights), weights], axis=1)
    return mean, spread, both.astype(np.float32), np.array([0.0, bias], np.float32)


def onnx_of(mean: Floats, spread: Floats, weights: Floats, bias: Floats) -> bytes:
    """``image`` FP32 [n, 1, 48, 48] to ``scores`` FP32 [n, 2], which sum to one."""
    arrays = {
        "filters": filters(), "mean": mean, "spread": spread, "weights": weights, "bias": bias,
    }  # fmt: skip
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "filters"], ["lines"]),
            helper.make_node("Relu", ["lines"], ["dark"]),
            helper.make_node("GlobalMaxPool", ["dark"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["strongest"], axis=1),
            helper.make_node("Sub", ["strongest", "mean"], ["centred"]),
            helper.make_node("Div", ["centred", "spread"], ["scaled"]),
            helper.make_node("Gemm", ["scaled", "weights", "bias"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["scores"], axis=1),
        ],
        "disc-scratches",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, SIDE, SIDE])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", len(CLASSES)])],
        [numpy_helper.from_array(np.asarray(a, np.float32), name) for name, a in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def read(paths: Sequence[Path]) -> Floats:
    """Pictures [rows, 1, 48, 48] as the device prepares them."""
    image = msgspec.convert(FEATURES["image"], InputImage)
    return np.stack([prepared(decoded(path.read_bytes()), image, TENSOR) for path in paths])


def train(folder: Path, model: Path) -> None:
    """Learn from a folder of labelled pictures; writes ``model`` as ONNX, beside it the same with
    whole numbers as TFLite, and ``features.json``."""
    paths = sorted(folder.glob("*/*.png"), key=lambda each: each.name)
    scratched = np.array([path.parent.name == CLASSES[1] for path in paths])
    rows = strongest(read(paths))
    learnt = fit(rows, scratched)
    model.write_bytes(onnx_of(*learnt))
    model.with_suffix(".tflite").write_bytes(tflite_of(filters(), *learnt, rows, SIDE))
    model.with_name("features.json").write_text(json.dumps(FEATURES), encoding="utf-8")
