"""A folder of pictures as training data: prepared as on a device, with folders as labels."""

import json

import msgspec
import numpy as np
import pytest

import muster_client
from muster_agent.worker.startup import open_engine
from muster_client.failures import WrongUsage
from muster_protocol.images.decoding import decoded
from muster_protocol.images.preparing import prepared
from support.pictures import IMAGE, TENSOR, classifier_onnx, expected, png

CLASSES = ("dark", "grey", "light")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "parts.onnx").write_bytes(classifier_onnx())
    image = msgspec.to_builtins(IMAGE)
    (tmp_path / "features.json").write_text(json.dumps({"image": image}))
    for number in range(30):
        data = png(30 + 5 * number, seed=number)
        place = tmp_path / "train" / CLASSES[int(expected(decoded(data)).argmax())]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:03}.png").write_bytes(data)
    return tmp_path


def packed(folder, **options):
    given = {"features": str(folder / "features.json"), "classes": CLASSES} | options
    return muster_client.pack(
        folder / "parts.onnx", str(folder / "train"), out=folder / "bundle", window_rows=5, **given
    )


def test_pictures_become_golden_vectors_a_baseline_and_an_accuracy(folder):
    found = packed(folder)
    assert found.manifest.image == IMAGE
    assert found.manifest.format == 2
    assert found.rows == 30
    assert found.accuracy == 1.0
    watched = {each.name for each in found.baseline.features}
    assert {"x.brightness", "x.contrast", "x.sharpness"} <= watched
    with np.load(found.folder / "golden.npz") as golden:
        first = next((folder / "train").glob("*/000.png"))
        want = prepared(decoded(first.read_bytes()), IMAGE, TENSOR)
        np.testing.assert_array_equal(golden["0/input:x"][0], want)
    with open_engine(found.folder) as engine:
        answer = engine.infer({"x": want[np.newaxis]}).outputs["probabilities"]
        np.testing.assert_allclose(answer[0], expected(decoded(first.read_bytes())), rtol=1e-4)


def test_only_the_last_rows_are_used_where_that_is_asked(folder):
    assert packed(folder, rows=20).rows == 20


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: (f / "train" / "dark" / "bad.png").write_bytes(b"?"), "bad.png: no PNG"),
        (lambda f: (f / "train" / "loose.png").write_bytes(png()), "put each into the folder"),
        (
            lambda f: (f / "features.json").write_text('{"features": [{"name": "x"}]}'),
            'folder of pictures: say how .* "image"',
        ),
        (lambda f: (f / "features.json").write_text("{}"), "neither 'features' nor 'image'"),
        (
            lambda f: (f / "features.json").write_text('{"image": {"colour": "rgb"}}'),
            "input 'x' has the shape",
        ),
        (lambda f: (f / "features.json").write_text('{"image": {"turn": 90}}'), "turn"),
    ],
)
def test_what_is_at_fault_is_named(folder, spoil, words):
    (folder / "train" / "dark").mkdir(exist_ok=True)
    spoil(folder)
    with pytest.raises(WrongUsage, match=words):
        packed(folder)


def test_an_empty_folder_is_named(folder):
    (folder / "empty").mkdir()
    with pytest.raises(WrongUsage, match="no picture"):
        muster_client.pack(
            folder / "parts.onnx", str(folder / "empty"), features=str(folder / "features.json")
        )
