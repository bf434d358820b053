"""Models as people export them: ``python exports.py FOLDER``, with the converters on the path."""

import sys
from pathlib import Path

import lightgbm
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxmltools import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType as LightFloats
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

RANDOM = np.random.default_rng(0)
ROWS = RANDOM.normal(size=(300, 4)).astype(np.float32)
KINDS = (ROWS[:, 0] + ROWS[:, 1] > 0).astype(int) + (ROWS[:, 2] > 1)
NAMES = np.array(["calm", "gust", "storm"])[KINDS]
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def forest():
    """Its default export: a label as text, and a ZipMap."""
    model = RandomForestClassifier(10, random_state=0).fit(ROWS, NAMES)
    return to_onnx(model, ROWS[:1])


def logistic():
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(ROWS, KINDS)
    return to_onnx(model, ROWS[:1], options={"zipmap": False})


def regression():
    model = GradientBoostingRegressor(n_estimators=20, random_state=0).fit(ROWS, ROWS[:, 0])
    return to_onnx(model, ROWS[:1])


def strings():
    """Columns by name, one of them text."""
    table = np.empty((300, 2), object)
    table[:, 0], table[:, 1] = NAMES, ROWS[:, 0]
    encode = ColumnTransformer(
        [("kind", OneHotEncoder(handle_unknown="ignore"), [0])], remainder="passthrough"
    )
    model = make_pipeline(encode, LogisticRegression()).fit(table, KINDS)
    types = [("kind", StringTensorType([None, 1])), ("flow", FloatTensorType([None, 1]))]
    return to_onnx(model, initial_types=types, options={"zipmap": False})


def boosted_trees():
    model = lightgbm.LGBMClassifier(n_estimators=10, verbose=-1).fit(ROWS, KINDS)
    return convert_lightgbm(model, initial_types=[("x", LightFloats([None, 4]))], target_opset=15)


def detector():
    """Boxes after non-maximum suppression: as many as there are."""
    nodes = [
        helper.make_node("Relu", ["image"], ["seen"]),
        helper.make_node("ReduceMean", ["seen"], ["level"], axes=[2, 3], keepdims=1),
        helper.make_node("Mul", ["level", "weights"], ["weighted"]),
        helper.make_node("Reshape", ["weighted", "as_scores"], ["scores"]),
        helper.make_node(
            "NonMaxSuppression", ["boxes", "scores", "most", "overlap", "least"], ["selected"]
        ),
    ]
    corners = RANDOM.random((1, 20, 2)).astype(np.float32)
    constants = {
        "weights": RANDOM.random((1, 1, 1, 20)).astype(np.float32) * 2,
        "as_scores": np.array([1, 1, 20]),
        "boxes": np.concatenate([corners, corners + 0.2], axis=2).astype(np.float32),
        "most": np.array([10]),
        "overlap": np.array([0.3], np.float32),
        "least": np.array([0.6], np.float32),
    }
    return _graph(
        nodes, ("image", FLOAT, [1, 1, 16, 16]), ("selected", INT64, ["boxes_found", 3]), constants
    )


def outside():
    """Its weights lie in a file beside it."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    weights = {"w": RANDOM.normal(size=(64, 64)).astype(np.float32)}
    return _graph(nodes, ("x", FLOAT, ["n", 64]), ("y", FLOAT, ["n", 64]), weights)


def _graph(nodes, taken, given, constants):
    graph = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info(*taken)],
        [helper.make_tensor_value_info(*given)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def main(folder: Path) -> None:
    for export in (forest, logistic, regression, strings, boosted_trees, detector):
        onnx.save(export(), folder / f"{export.__name__}.onnx")
    onnx.save(
        outside(), folder / "outside.onnx", save_as_external_data=True, size_threshold=0,
        location="outside.data",
    )  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]))
