"""An int8 model is asked for, is smaller, proves itself, and what it loses is measured."""

import re

import numpy as np
import pytest
from onnx import TensorProto, helper

import muster_client
from muster_agent.worker.startup import open_engine
from muster_client.failures import WrongUsage
from support.models import dense_tflite, graph_onnx, weights

HIDDEN, CLASSES = 64, 3
RANDOM = np.random.default_rng(5)
ROWS = RANDOM.normal(size=(300, 4)).astype(np.float32)


def network() -> bytes:
    """4 → 64 → 3, a model that says what it is unsure of."""
    first = RANDOM.normal(size=(4, HIDDEN)).astype(np.float32)
    second = (RANDOM.normal(size=(HIDDEN, CLASSES)) / 4).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["summed"]),
        helper.make_node("Relu", ["summed"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "second"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
    ]
    return graph_onnx(
        nodes,
        inputs=[("x", TensorProto.FLOAT, ["batch", 4])],
        outputs=[("probabilities", TensorProto.FLOAT, ["batch", CLASSES])],
        initializers={"first": first, "second": second},
    )


@pytest.fixture
def model(tmp_path):
    (tmp_path / "net.onnx").write_bytes(network())
    return tmp_path / "net.onnx"


@pytest.mark.parametrize("kind", ["dynamic", "static"])
def test_an_int8_model_proves_itself_and_says_what_it_loses(model, tmp_path, kind):
    plain = muster_client.pack(model, ROWS, out=tmp_path / "plain", shuffled=True)
    found = muster_client.pack(model, ROWS, out=tmp_path / "int8", shuffled=True, quantise=kind)
    (said,) = [each.text for each in found.advice if each.code == "quantised"]
    assert re.match(rf"int8 \({kind}\): \d+ KiB instead of \d+\. In 300 rows of the data", said)
    worst = float(re.search(r"on average, (\S+) at most", said)[1])
    (others,) = re.findall(r"another class is best in (\d+) of 300 rows", said)
    assert found.manifest.lineage.source == f"net.onnx, as int8 ({kind})"
    with open_engine(plain.folder) as whole, open_engine(found.folder) as small:
        want = [whole.infer({"x": row[np.newaxis]}).outputs["probabilities"] for row in ROWS]
        got = [small.infer({"x": row[np.newaxis]}).outputs["probabilities"] for row in ROWS]
    apart = np.abs(np.concatenate(got) - np.concatenate(want))
    assert 0 < apart.max() < 0.2
    assert 0 < worst < 0.2
    changed = np.concatenate(got).argmax(axis=1) != np.concatenate(want).argmax(axis=1)
    assert abs(int(others) - int(changed.sum())) <= 6  # The loss was measured in batches.


def test_what_can_t_become_int8_is_refused_with_what_to_do(model, tmp_path):
    w, b = weights(4, 3)
    (tmp_path / "net.tflite").write_bytes(dense_tflite(w, b))
    relu = graph_onnx(
        [helper.make_node("Relu", ["x"], ["y"])],
        inputs=[("x", TensorProto.FLOAT, ["batch", 4])],
        outputs=[("y", TensorProto.FLOAT, ["batch", 4])],
        initializers={},
    )
    (tmp_path / "relu.onnx").write_bytes(relu)
    for name, data, kind, says in (
        ("net.tflite", ROWS, "dynamic", "do it where it is exported, with tf.lite.TFLiteConverter"),
        ("relu.onnx", ROWS, "dynamic", "nothing in it would become int8: that takes one of Att"),
        ("net.onnx", None, "static", "static learns ranges from data: give --data, or say dynamic"),
    ):
        with pytest.raises(WrongUsage, match=says):
            muster_client.pack(tmp_path / name, data, out=tmp_path / "out", quantise=kind)
    assert not (tmp_path / "out").exists()
