"""The same model with int8 weights and int8 arithmetic, as TFLite, written without a converter.

Each tensor of whole numbers stands for scale × (number - zero point). Weights of the filters have a
scale each, biases the product of the scales that meet there, as TFLite's quantisation has it.
Scales of what flows between come from the pictures that were learnt from. Input and output are
float, as those of the ONNX model.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from muster_hub.demo.export import INT8, TfliteModel, TfliteOperator, schema

Floats = NDArray[np.float32]
LEVELS, LEAST, SYMMETRIC = 255, -128, 127
"""Steps of an int8, its least number, and the largest whose negative is one, too."""


def whole(values: Floats, scales: Floats) -> NDArray[np.int8]:
    """Weights as int8; ``scales`` has one for each entry of the first axis, or one of all."""
    each = scales.reshape((-1,) + (1,) * (values.ndim - 1))
    return np.clip(np.rint(values / each), -SYMMETRIC, SYMMETRIC).astype(np.int8)


def tflite_of(
    filters: Floats, mean: Floats, spread: Floats, weights: Floats, bias: Floats, rows: Floats,
    side: int,
) -> bytes:  # fmt: skip
    """``image`` FP32 [n, 1, side, side] to ``scores`` FP32 [n, 2].

    ``filters`` [k, 1, h, w]; mean and spread [k], weights [k, 2] and bias [2] of what was learnt
    from ``rows`` [pictures, k], the strongest answer of each filter.
    """
    count, _, size, _ = filters.shape
    dense = np.ascontiguousarray((weights / spread[:, np.newaxis]).T)  # [2, k]
    offset = bias - dense @ mean
    logits = rows @ dense.T + offset
    made = _Int8(TfliteModel())
    graph = made.graph
    image = graph.tensor("image", [1, 1, side, side])
    last = made.reshaped(image, [side, side, 1], "picture", None)
    seen = made.flow("seen", [1, side, side, 1], 0.0, 1.0)
    graph.operator(TfliteOperator.QUANTIZE, [last], seen, schema.QuantizeOptionsT())

    convolution = schema.Conv2DOptionsT()
    convolution.padding = schema.Padding.VALID
    convolution.strideH = convolution.strideW = 1
    convolution.fusedActivationFunction = schema.ActivationFunctionType.RELU
    wide, strongest = side - size + 1, float(rows.max())
    lines = made.flow("lines", [1, wide, wide, count], 0.0, strongest)
    kernel = np.ascontiguousarray(filters.transpose(0, 2, 3, 1))
    inputs = made.weighted(seen, kernel, np.zeros(count, np.float32), "filters", each=True)
    graph.operator(TfliteOperator.CONV_2D, inputs, lines, convolution)

    pool = schema.Pool2DOptionsT()
    pool.padding = schema.Padding.VALID
    pool.filterHeight = pool.filterWidth = wide
    pool.strideH = pool.strideW = 1
    pooled = made.flow("pooled", [1, 1, 1, count], 0.0, strongest)
    graph.operator(TfliteOperator.MAX_POOL_2D, [lines], pooled, pool)
    flat = made.reshaped(pooled, [count], "strongest", (0.0, strongest))

    summed = made.flow("summed", [1, 2], float(logits.min()), float(logits.max()))
    inputs = made.weighted(flat, dense, offset, "dense", each=False)
    graph.operator(TfliteOperator.FULLY_CONNECTED, inputs, summed, schema.FullyConnectedOptionsT())
    real = graph.tensor("logits", [1, 2])
    graph.operator(TfliteOperator.DEQUANTIZE, [summed], real, schema.DequantizeOptionsT())
    softmax = schema.SoftmaxOptionsT()
    softmax.beta = 1.0
    scores = graph.tensor("scores", [1, 2])
    graph.operator(TfliteOperator.SOFTMAX, [real], scores, softmax)
    graph.finish(image, scores)
    return made.model.encode()


class _Int8:
    """A graph, and the scale of each of its tensors of whole numbers."""

    def __init__(self, model: TfliteModel) -> None:
        self.model = model
        self.graph = model.graph()
        self._scales: dict[int, float] = {}

    def flow(self, name: str, shape: Sequence[int], least: float, most: float) -> int:
        """A tensor between operators, for numbers from ``least``, at most 0, to ``most``."""
        least, most = min(least, 0.0), max(most, 0.0)  # Nothing is exactly 0, too.
        scale = (most - least) / LEVELS
        index = self.graph.tensor(name, shape, INT8)
        self.graph.quantise(index, [scale], LEAST - round(least / scale))
        self._scales[index] = scale
        return index

    def weighted(
        self, source: int, weights: Floats, bias: Floats, name: str, *, each: bool
    ) -> list[int]:
        """Inputs of an operator: a tensor, weights with a scale ``each`` or one, and its bias."""
        axes = tuple(range(1, weights.ndim)) if each else None
        scales = np.atleast_1d(np.abs(weights).max(axis=axes) / SYMMETRIC).astype(np.float32)
        kernel = self.graph.constant(name, whole(weights, scales))
        self.graph.quantise(kernel, scales.tolist())
        meets = scales * self._scales[source]
        biases = self.graph.constant(f"{name}_bias", np.rint(bias / meets).astype(np.int32))
        self.graph.quantise(biases, meets.tolist())
        return [source, kernel, biases]

    def reshaped(
        self, source: int, shape: Sequence[int], name: str, numbers: tuple[float, float] | None
    ) -> int:
        """The same numbers in another shape; ``numbers``: from and to which, of whole ones."""
        wanted = self.graph.constant(f"{name}_shape", np.array([-1, *shape], np.int32))
        if numbers is None:
            result = self.graph.tensor(name, [1, *shape])
        else:
            result = self.flow(name, [1, *shape], *numbers)
        options = schema.ReshapeOptionsT()
        self.graph.operator(TfliteOperator.RESHAPE, [source, wanted], result, options)
        return result
