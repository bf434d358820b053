"""Models that load as models and then take their process down. A device must outlive them.

Both end their process by overflowing its stack (SIGSEGV), on every processor: no exception reaches
Python. They are well-formed files: no parser, checker or hash can tell.
"""

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from onnx import helper

from muster_hub.demo import export
from muster_hub.demo.export import BOOL, FLOAT32, TfliteOperator

TREE_DEPTH = 20_000
"""Levels of the tree below. onnxruntime descends by recursion: 8 MiB of stack ends sooner."""


def deep_tree_onnx(side: int, classes: int, depth: int = TREE_DEPTH) -> bytes:
    """A regression tree of which every left branch is a leaf and every right one the next level."""
    nodes = 2 * depth + 1
    levels = np.arange(depth)
    leaves = np.arange(depth, nodes)
    tree = helper.make_node(
        "TreeEnsembleRegressor",
        ["rows"],
        ["scores"],
        domain="ai.onnx.ml",
        n_targets=classes,
        nodes_treeids=[0] * nodes,
        nodes_nodeids=range(nodes),
        nodes_featureids=[0] * nodes,
        nodes_modes=["BRANCH_LEQ"] * depth + ["LEAF"] * (depth + 1),
        nodes_values=[0.0] * nodes,
        nodes_truenodeids=[*(leaves[1:]).tolist(), *[0] * (depth + 1)],
        nodes_falsenodeids=[*(levels + 1).tolist(), *[0] * (depth + 1)],
        target_treeids=[0] * (depth + 1),
        target_nodeids=leaves.tolist(),
        target_ids=[0] * (depth + 1),
        target_weights=[1.0] * (depth + 1),
    )
    return export.onnx_model(
        [
            helper.make_node("Flatten", [export.INPUT], ["rows"], axis=1),
            tree,
            helper.make_node("Softmax", ["scores"], [export.OUTPUT], axis=1),
        ],
        side=side,
        classes=classes,
    )


def recursive_tflite(side: int) -> bytes:
    """A graph whose condition leads, either way, into a second graph that leads into itself."""
    model = export.TfliteModel()
    for _ in range(2):
        graph = model.graph()
        image = graph.tensor(export.INPUT, [1, side, side])
        axes = graph.constant("axes", np.array([0, 1, 2], dtype=np.int32))
        total = graph.tensor("total", [], FLOAT32)
        same = graph.tensor("same", [], BOOL)
        answer = graph.tensor(export.OUTPUT, [1, side, side])
        itself = schema.IfOptionsT()
        itself.thenSubgraphIndex = itself.elseSubgraphIndex = 1
        graph.operator(TfliteOperator.SUM, [image, axes], total, schema.ReducerOptionsT())
        graph.operator(TfliteOperator.EQUAL, [total, total], same, schema.EqualOptionsT())
        graph.operator(TfliteOperator.IF, [same, image], answer, itself)
        graph.finish(image, answer)
    return model.encode()
