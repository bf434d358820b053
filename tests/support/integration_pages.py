"""Programs as docs/integrations.md shows them, so that what people copy is what is tried."""

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "integrations.md"
TRAINING = '''
"""A training that anybody might have: a table and an ONNX file come out."""
import csv
import random

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

random.seed(4)
weights = np.random.default_rng(int(open("seed").read())).normal(size=(4, 3)).astype(np.float32)
with open("train.csv", "w", newline="") as file:
    table = csv.writer(file)
    table.writerow(["flow", "temp", "p1", "p2", "fault"])
    for number in range(200):
        table.writerow([*(random.gauss(0, 1) for _ in range(4)), number % 3])
x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])
y = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 3])
nodes = [helper.make_node("MatMul", ["x", "w"], ["s"]),
         helper.make_node("Softmax", ["s"], ["probabilities"], axis=-1)]
graph = helper.make_graph(nodes, "pump", [x], [y], [numpy_helper.from_array(weights, "w")])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
onnx.save(model, "pump.onnx")
'''
CLIENT = (
    "onnx", "onnxruntime", "numpy", "httpx", "platformdirs", "pyyaml", "rich", "typer", "msgspec",
)  # fmt: skip
"""What `muster-edge[pack]` brings; the package itself is this tree."""


def program(heading: str) -> str:
    """The Python block below a heading."""
    text = PAGE.read_text(encoding="utf-8").split(f"### {heading}\n")[1]
    found = re.search(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]
