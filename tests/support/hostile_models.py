"""Models that harm whoever runs them."""

import numpy as np
from onnx import TensorProto, helper

from support.models import graph_onnx, weights


def endless_onnx() -> bytes:
    """A model whose loop never ends."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Softmax", ["value"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
        ],
    )
    return graph_onnx(
        [
            helper.make_node("Gemm", ["x", "w"], ["logits"]),
            helper.make_node("Loop", ["", "yes", "logits"], ["probabilities"], body=body),
        ],
        inputs=[("x", TensorProto.FLOAT, ["n", 4])],
        outputs=[("probabilities", TensorProto.FLOAT, ["n", 3])],
        initializers={"w": weights()[0], "yes": np.array(True)},
    )


def endless_when_hot_onnx() -> bytes:
    """The dense classifier with a loop that never ends when an input is over 100."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Identity", ["value"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
        ],
    )
    w, b = weights()
    return graph_onnx(
        [
            helper.make_node("Gemm", ["x", "w", "b"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["softmax"]),
            helper.make_node("ReduceMax", ["x"], ["hottest"], keepdims=0),
            helper.make_node("Greater", ["hottest", "limit"], ["hot"]),
            helper.make_node("Loop", ["", "hot", "softmax"], ["probabilities"], body=body),
        ],
        inputs=[("x", TensorProto.FLOAT, ["n", 4])],
        outputs=[("probabilities", TensorProto.FLOAT, ["n", 3])],
        initializers={"w": w, "b": b, "limit": np.array(100.0, np.float32)},
    )


def bomb_onnx() -> bytes:
    """A model that asks for 4 GiB when it runs."""
    return graph_onnx(
        [
            helper.make_node("Expand", ["x", "size"], ["huge"]),
            helper.make_node("ReduceSum", ["huge", "axes"], ["sum"], keepdims=0),
            helper.make_node("Gemm", ["sum", "w"], ["probabilities"]),
        ],
        inputs=[("x", TensorProto.FLOAT, ["n", 4])],
        outputs=[("probabilities", TensorProto.FLOAT, ["n", 3])],
        initializers={
            "w": weights()[0],
            "size": np.array([1 << 28, 1, 4], np.int64),
            "axes": np.array([0], np.int64),
        },
    )


def crash_onnx(depth: int = 20_000) -> bytes:
    """A tree of one branch, so deep that walking down it overflows the stack."""
    last = 2 * depth + 1
    leaves = list(range(depth, last))
    tree = helper.make_node(
        "TreeEnsembleRegressor",
        ["x"],
        ["probabilities"],
        domain="ai.onnx.ml",
        n_targets=3,
        nodes_treeids=[0] * last,
        nodes_nodeids=list(range(last)),
        nodes_featureids=[0] * last,
        nodes_values=[0.0] * last,
        nodes_modes=["BRANCH_LEQ"] * depth + ["LEAF"] * (depth + 1),
        nodes_truenodeids=leaves[1:] + [0] * (depth + 1),
        nodes_falsenodeids=list(range(1, depth + 1)) + [0] * (depth + 1),
        target_treeids=[0] * (depth + 1),
        target_nodeids=leaves,
        target_ids=[0] * (depth + 1),
        target_weights=[1.0] * (depth + 1),
    )
    return graph_onnx(
        [tree],
        inputs=[("x", TensorProto.FLOAT, ["n", 4])],
        outputs=[("probabilities", TensorProto.FLOAT, ["n", 3])],
    )
