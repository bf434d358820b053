"""Pictures for tests, and a classifier of them."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray
from onnx import TensorProto, helper
from PIL import Image

from muster_protocol.images.preparing import prepared
from muster_protocol.wire.feeding import InputQuality, InputWindow
from muster_protocol.wire.imaging import InputImage
from muster_protocol.wire.tensors import Tensor
from support import models

IMAGE = InputImage("part", crop=(0.0, 0.0, 1.0, 0.5), colour="grey", scale=(255.0,), layout="CHW")
TENSOR = Tensor("x", "FP32", (-1, 1, 4, 4))
W, B = models.weights(16, 3)


def png(level: int = 100, seed: int = 1, size: tuple[int, int] = (16, 8)) -> bytes:
    """A PNG of noise around a level, [height, width] = ``size``."""
    noise = np.random.default_rng(seed).integers(-20, 20, (*size, 3))
    out = io.BytesIO()
    Image.fromarray(np.clip(noise + level, 0, 255).astype(np.uint8)).save(out, format="PNG")
    return out.getvalue()


def classifier_onnx() -> bytes:
    """``probabilities`` of ``x`` FP32 [n, 1, 4, 4]."""
    return models.graph_onnx(
        [
            helper.make_node("Flatten", ["x"], ["flat"], axis=1),
            helper.make_node("Gemm", ["flat", "w", "b"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
        ],
        inputs=[("x", TensorProto.FLOAT, ["n", 1, 4, 4])],
        outputs=[("probabilities", TensorProto.FLOAT, ["n", 3])],
        initializers={"w": W, "b": B},
    )


def expected(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the classifier says of a picture, [3]."""
    return models.softmax(prepared(pixels, IMAGE, TENSOR).reshape(1, 16), W, B)[0]


def seen_bundle() -> dict[str, Any]:
    """Fields of a bundle with this classifier, for ``FedSlot``."""
    case = np.random.default_rng(3).random((1, 1, 4, 4)).astype(np.float32)
    return {
        "features": UNSET,
        "inputs": 16,
        "image": IMAGE,
        "window": InputWindow(every_seconds=0.1),
        "quality": InputQuality(stale_seconds=2.0),
        "files": {"onnx": classifier_onnx()},
        "tensors": ((TENSOR,), None),
        "golden": {
            "0/input:x": case,
            "0/output:probabilities": models.softmax(case.reshape(1, 16), W, B),
        },
    }


def drop(folder: Path, name: str, data: bytes) -> None:
    """As a camera's software does it: whole at once."""
    half = folder / f"{name}.part"
    half.write_bytes(data)
    half.replace(folder / name)
