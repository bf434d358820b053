"""What a model's answers hang on: found at packing, on the data, within bounds."""

import numpy as np
import pytest

import muster_client
from muster_client.packing import explaining
from muster_client.packing.explain import explained
from muster_protocol.wire import explanation, limits
from muster_protocol.wire.errors import ProtocolError
from support import models as fixtures

WEIGHTS = np.array([[0.0, 4.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]], np.float32)
"""Of inputs to two scores: the first column matters most, the third not at all."""
BIAS = np.zeros(2, np.float32)
ROWS = np.random.default_rng(5).normal(size=(400, 4)).astype(np.float32)
ROWS[:, 3] = 1.0
TRUTH = fixtures.softmax(ROWS, WEIGHTS, BIAS).argmax(axis=1)
NAMES = ("flow", "temp", "noise", "constant")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pump.onnx").write_bytes(fixtures.dense_onnx(WEIGHTS, BIAS))
    (tmp_path / "pump.tflite").write_bytes(fixtures.dense_tflite(WEIGHTS, BIAS))
    return tmp_path


def packed(folder, model="pump.onnx", labels=True, **options):
    frame = dict(zip(NAMES, ROWS.T, strict=True)) | {"state": np.array(["ok", "worn"])[TRUTH]}
    return muster_client.pack(
        folder / model, frame, out=folder / "bundle", classes=["ok", "worn"], no_baseline=True,
        **({"labels": "state"} if labels else {"drop": ["state"]}), **options,
    )  # fmt: skip


def test_importance_and_curves_tell_what_the_model_was_made_of(folder):
    found = packed(folder).explanation
    assert (found.measure, found.reference, found.of) == ("accuracy", 1.0, "worn")
    assert [each.name for each in found.features[:2]] == ["flow", "temp"]
    by_name = {each.name: each for each in found.features}
    assert by_name["flow"].importance > 0.3 > by_name["temp"].importance > 0.02
    assert by_name["noise"].importance == by_name["noise"].spread == 0.0
    means = [point.mean for point in by_name["flow"].curve]
    assert len(means) == limits.EXPLAINED_CURVE_POINTS_MAX
    assert means == sorted(means)
    assert means[0] < 0.1 < 0.9 < means[-1]
    assert all(point.low <= point.mean <= point.high for point in by_name["flow"].curve)
    assert max(p.mean for p in by_name["noise"].curve) == min(
        p.mean for p in by_name["noise"].curve
    )
    assert by_name["constant"].curve == ()


def test_a_partial_dependence_is_the_mean_answer_with_the_column_set_in_every_row(folder):
    found = packed(folder).explanation
    curve = next(each.curve for each in found.features if each.name == "temp")
    rows = ROWS[explaining.picked(len(ROWS), explaining.ROWS_MAX)].copy()
    rows[:, 1] = curve[3].at
    want = fixtures.softmax(rows, WEIGHTS, BIAS)[:, 1]
    assert curve[3].mean == pytest.approx(want.mean(), rel=1e-4)
    assert (curve[3].low, curve[3].high) == pytest.approx(np.quantile(want, (0.1, 0.9)), rel=1e-4)


def test_the_same_data_give_the_same_report_which_is_a_file_of_the_bundle(folder):
    first = packed(folder)
    stored = (first.folder / explanation.FILE).read_bytes()
    assert explanation.decode(stored) == first.explanation
    assert explanation.FILE in {file.path for file in first.manifest.files}
    assert packed(folder).explanation == first.explanation
    (paragraph,) = [text for text in explained(first) if "answers hang on" in text]
    assert "the share of right answers falls" in paragraph
    assert "flow 0." in paragraph


def test_without_labels_importance_is_by_change_and_says_so(folder):
    found = packed(folder, labels=False)
    assert (found.explanation.measure, found.explanation.reference) == ("output_change", None)
    assert found.explanation.features[0].name == "flow"
    (note,) = [each.text for each in found.advice if each.code == "explained_by_change"]
    assert "give --labels" in note


def test_what_cannot_be_explained_is_packed_without_and_says_why(folder):
    found = packed(folder, "pump.tflite")
    (note,) = [each.text for each in found.advice if each.code == explaining.ADVICE]
    assert note.endswith("only ONNX models are explained, this is one for tflite.")
    assert explanation.FILE not in {file.path for file in found.manifest.files}
    few = muster_client.pack(folder / "pump.onnx", {"x": ROWS[:7]}, out=folder / "few")
    (note,) = [each.text for each in few.advice if each.code == explaining.ADVICE]
    assert "there are 7 rows, it takes 20" in note


def test_nobody_who_does_not_want_a_report_gets_one(folder):
    found = packed(folder, no_explanation=True)
    assert found.explanation is None
    assert not {explaining.ADVICE, "explained_by_change"} & {each.code for each in found.advice}
    made_up = muster_client.pack(folder / "pump.onnx", out=folder / "other")
    assert made_up.explanation is None


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b" " * (limits.EXPLANATION_BYTES_MAX + 1), "the limit is"),
        (b'{"measure": "beauty"}', "beauty"),
        (b"[" * 100_000, "explanation.json"),
    ],
)
def test_a_file_that_is_no_report_is_refused(data, says):
    with pytest.raises(ProtocolError, match=says):
        explanation.decode(data)
