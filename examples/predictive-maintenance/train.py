"""Learns from simulated pumps when a bearing is worn, and writes the model as ONNX."""

import csv
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, checker, helper, numpy_helper
from pump import STEP_SECONDS, Pump

from muster_agent.feeds.samples import Sample
from muster_agent.feeds.windows import SignalWindow, statistic

Floats = NDArray[np.float32]
CLASSES = ("healthy", "worn")
WORN = 0.5
"""From this wear on a pump is to be stopped; it seizes at 1."""
PUMPS, SECONDS = 6, 120
WARM_UP_SECONDS = 20.0
FEATURES = {
    "features": [
        {"name": "vibration_rms", "signal": "vibration", "unit": "mm/s", "statistic": "rms",
         "least": -100.0, "most": 100.0},
        {"name": "bearing_temperature", "unit": "°C", "statistic": "mean",
         "least": -20.0, "most": 250.0},
        {"name": "motor_current", "unit": "A", "statistic": "mean", "least": 0.0, "most": 100.0},
    ],
    "window": {"seconds": 2.0, "every_seconds": 0.25, "clock": "arrival"},
    "quality": {"bad": "hold", "hold_seconds": 1.0, "stale_seconds": 2.0},
}  # fmt: skip
"""What the manifest will say; training uses the same windows as the device."""


def rows_of(pump: Pump, seconds: float) -> tuple[Floats, Floats]:
    """Features ``[rows, 3]`` of a pump's life, and its wear ``[rows]``, four a second."""
    span = FEATURES["window"]["seconds"]  # type: ignore[index]  # plain JSON
    names = [each.get("signal", each["name"]) for each in FEATURES["features"]]
    kinds = [each["statistic"] for each in FEATURES["features"]]
    windows = {name: SignalWindow(seconds=span) for name in names}
    rows, wear = [], []
    for step in range(round(seconds / STEP_SECONDS)):
        pump.step()
        for name, value in pump.measured().items():
            windows[name].put(Sample(name, value, pump.seconds, pump.seconds))
        if step % 5 == 0 and pump.seconds > WARM_UP_SECONDS:
            pairs = zip(names, kinds, strict=True)
            rows.append([statistic(kind, windows[name].samples())[0] for name, kind in pairs])
            wear.append(pump.wear)
    return np.array(rows, np.float32), np.array(wear, np.float32)


def fit(rows: Floats, worn: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats, Floats]:
    """Mean, spread, weights and bias of a logistic regression, by plain gradient descent."""
    mean, spread = rows.mean(axis=0), rows.std(axis=0)
    x, weights, bias = (rows - mean) / spread, np.zeros(rows.shape[1]), 0.0
    for _ in range(3000):
        fault = 1 / (1 + np.exp(-(x @ weights + bias))) - worn
        weights -= 0.5 * (x.T @ fault / len(x) + 1e-4 * weights)
        bias -= 0.5 * float(fault.mean())
    both = np.stack([np.zeros_like(weights), weights], axis=1)
    return mean, spread, both.astype(np.float32), np.array([0.0, bias], np.float32)


def onnx_of(mean: Floats, spread: Floats, weights: Floats, bias: Floats) -> bytes:
    """``x`` FP32 [n, 3], in units, to ``scores`` FP32 [n, 2], which sum to one."""
    arrays = {"mean": mean, "spread": spread, "weights": weights, "bias": bias}
    graph = helper.make_graph(
        [
            helper.make_node("Sub", ["x", "mean"], ["centred"]),
            helper.make_node("Div", ["centred", "spread"], ["scaled"]),
            helper.make_node("Gemm", ["scaled", "weights", "bias"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["scores"], axis=1),
        ],
        "pump-wear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", len(mean)])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", len(CLASSES)])],
        [numpy_helper.from_array(np.asarray(a, np.float32), name) for name, a in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def train(folder: Path, seed: int) -> float:
    """Write ``model.onnx``, ``bad.onnx``, ``healthy.csv`` and ``features.json``.

    Returns how often the model is right on a pump that training never saw. The bad model is what
    swapped names of the classes make of the same data: it calls every healthy pump worn.
    """
    lives = [rows_of(Pump(seed + n, wear_factor=400.0), SECONDS) for n in range(PUMPS)]
    rows = np.concatenate([life[0] for life in lives[:-1]])
    wear = np.concatenate([life[1] for life in lives[:-1]])
    mean, spread, weights, bias = fit(rows, wear >= WORN)
    good = onnx_of(mean, spread, weights, bias)
    (folder / "model.onnx").write_bytes(good)
    (folder / "bad.onnx").write_bytes(onnx_of(mean, spread, weights[:, ::-1], bias[::-1]))
    (folder / "features.json").write_text(json.dumps(FEATURES, ensure_ascii=False))
    healthy, _ = rows_of(Pump(seed + PUMPS), 200.0)
    with (folder / "healthy.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow([each["name"] for each in FEATURES["features"]])
        out.writerows(healthy.tolist())
    unseen, truth = lives[-1]
    logits = (unseen - mean) / spread @ weights + bias
    return float(((logits[:, 1] > logits[:, 0]) == (truth >= WORN)).mean())
