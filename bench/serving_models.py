"""The models that servers are measured with, as files and as bundles."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from bench import update_models
from numpy.typing import NDArray
from onnx import TensorProto, helper

from muster_protocol.wire.manifest import Manifest
from muster_protocol.wire.tensors import Tensor
from support.models import graph_onnx, write_bundle

CLASSES = 3
SIDE = 64
"""Of the convolution's image, in pixels."""
CHANNELS = (3, 64, 256, 512)
MEMORY_BYTES = 512 << 20
Floats = NDArray[np.float32]


class Served(NamedTuple):
    onnx: bytes
    element: Floats
    """One batch element, as it is asked for."""

    def bundle(self, directory: Path) -> tuple[Manifest, str]:
        """Write the model as a bundle that the runtime's own answers prove."""
        session = onnxruntime.InferenceSession(self.onnx, providers=["CPUExecutionProvider"])
        (answer,) = session.run(None, {"x": self.element})
        shape = (-1, *self.element.shape[1:])
        return write_bundle(
            directory, runtimes=("onnx",), files={"onnx": self.onnx},
            golden={"input:x": self.element, "output:probabilities": answer},
            tensors=((Tensor("x", "FP32", shape),), None), memory_bytes=MEMORY_BYTES,
        )  # fmt: skip


def mlp() -> Served:
    """4 → 128 → 128 → 3: what it computes takes microseconds, so that serving is measured."""
    data = update_models.as_onnx(update_models.layers(64 << 10))
    return Served(data, np.ones((1, update_models.INPUTS), np.float32))


def convolution() -> Served:
    """Three convolutions of about 5 MB over an image of 48 KB."""
    rng = np.random.default_rng(1)
    nodes, weights, last = [], {}, "x"
    for number, (ins, outs) in enumerate(pairwise(CHANNELS)):
        weights[f"w{number}"] = _random(rng, (outs, ins, 3, 3), ins * 9)
        nodes.append(
            helper.make_node(
                "Conv", [last, f"w{number}"], [f"c{number}"],
                kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1],
            )
        )  # fmt: skip
        nodes.append(helper.make_node("Relu", [f"c{number}"], [f"r{number}"]))
        last = f"r{number}"
    weights["w"] = _random(rng, (CHANNELS[-1], CLASSES), CHANNELS[-1])
    nodes += [
        helper.make_node("GlobalAveragePool", [last], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
    ]
    data = graph_onnx(
        nodes,
        inputs=[("x", TensorProto.FLOAT, ["batch", CHANNELS[0], SIDE, SIDE])],
        outputs=[("probabilities", TensorProto.FLOAT, ["batch", CLASSES])],
        initializers=weights,
    )
    image = rng.random((1, CHANNELS[0], SIDE, SIDE)).astype(np.float32)
    return Served(data, image)


def _random(rng: np.random.Generator, shape: tuple[int, ...], fan_in: int) -> NDArray[Any]:
    return (rng.normal(size=shape) / np.sqrt(fan_in)).astype(np.float32)


MODELS: dict[str, Callable[[], Served]] = {"mlp": mlp, "convolution": convolution}
