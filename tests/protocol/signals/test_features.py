"""What is read off tensors: the same scalars everywhere, in bulk."""

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from muster_protocol.signals import features
from muster_protocol.signals.features import Element, Extractor, Feature, Norm
from muster_protocol.wire.errors import LimitError, ProtocolError


def extract(spec: list[Feature], **tensors: np.ndarray) -> np.ndarray:
    matrix, _ = Extractor(spec).extract(tensors)
    return matrix


def test_elements_are_the_columns_of_a_tensor_in_any_order() -> None:
    x = np.arange(12, dtype=np.float64).reshape(3, 2, 2)
    spec = [Feature("last", Element("x", 3)), *features.elements("x", ["a", "b"])]
    np.testing.assert_array_equal(extract(spec, x=x), [[3, 7, 11], [0, 4, 8], [1, 5, 9]])


@given(hnp.arrays(np.float32, (4, 3, 5, 2), elements=st.floats(0, 16, width=32)))
def test_image_statistics_are_those_of_the_pixels(images: np.ndarray) -> None:
    spec = features.image("x", height=3, width=5)
    brightness, contrast, sharpness = extract(list(spec), x=images)
    np.testing.assert_allclose(brightness, images.mean(axis=(1, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(contrast, images.std(axis=(1, 2, 3)), rtol=1e-4, atol=1e-4)
    want = []
    for image in images.astype(np.float64):
        inner = [
            image[1, c - 1] + image[1, c + 1] + image[0, c] + image[2, c] - 4 * image[1, c]
            for c in (1, 2, 3)
        ]
        want.append(np.square(inner).mean())
    np.testing.assert_allclose(sharpness, want, rtol=1e-4, atol=1e-4)


def test_channels_may_come_first_or_last() -> None:
    images = np.random.default_rng(0).normal(size=(5, 4, 6, 3)).astype(np.float32)
    last = extract(list(features.image("x", height=4, width=6)), x=images)
    first = extract(
        list(features.image("x", height=4, width=6, channels_first=True)),
        x=np.ascontiguousarray(images.transpose(0, 3, 1, 2)),
    )
    np.testing.assert_allclose(first, last, rtol=1e-4)


def test_norms() -> None:
    x = np.array([[3.0, -4.0], [0.0, 2.0]])
    spec = [Feature(order, Norm("x", order)) for order in ("mean_abs", "rms", "max_abs")]
    got = extract(spec, x=x)
    np.testing.assert_allclose(got, [[3.5, 1], [np.sqrt(12.5), np.sqrt(2)], [4, 2]], rtol=1e-6)


def test_a_projection_is_fixed_by_its_seed_alone() -> None:
    spec = features.projections("x", 3, b"eight888")
    signs = [features.signs(feature.source, 7) for feature in spec]
    scaled = np.array(signs) * np.sqrt(7)
    # Frozen: another platform or release must draw the same signs.
    np.testing.assert_allclose(
        scaled,
        np.array([[int(c) * 2 - 1 for c in row] for row in FROZEN_SIGNS]),
        rtol=1e-6,
    )
    x = np.random.default_rng(0).normal(size=(4, 7)).astype(np.float32)
    np.testing.assert_allclose(extract(list(spec), x=x), np.array(signs) @ x.T, rtol=1e-4)


FROZEN_SIGNS = ("0001011", "0110101", "1110011")


def test_class_and_confidence_of_a_classifier() -> None:
    scores = np.array([[0.1, 0.7, 0.2], [0.5, 0.25, 0.25], [np.nan, 0.5, 0.5]])
    matrix, coded = Extractor(features.classifier("p")).extract({"p": scores})
    np.testing.assert_allclose(matrix[0, :2], [0.7, 0.5], rtol=1e-6)
    assert np.isnan(matrix[0, 2])
    np.testing.assert_array_equal(coded[0], [1, 0, np.nan])


def test_text_may_be_a_category() -> None:
    spec = features.elements("x", ["colour"], kind="categorical")
    _, coded = Extractor(spec).extract({"x": np.array([["red"], ["blue"]])})
    assert coded[0].tolist() == ["red", "blue"]


@pytest.mark.parametrize(
    ("spec", "tensors", "message"),
    [
        (features.elements("x", 2), {"y": np.ones((3, 2))}, "'x', which is not among y"),
        (features.elements("x", 3), {"x": np.ones((3, 2))}, "element 2 of 'x', which has 2"),
        (features.image("x", height=4, width=4), {"x": np.ones((3, 15))}, "15 elements per row"),
        (features.image("x", height=2, width=8), {"x": np.ones((3, 16))}, "at least 3×3"),
        (
            (*features.elements("x", 1), *features.elements("y", 1)),
            {"x": np.ones((3, 1)), "y": np.ones((2, 1))},
            "2 rows, others have 3",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named(spec, tensors, message) -> None:
    with pytest.raises(ProtocolError, match=message):
        Extractor(spec).extract(tensors)


def test_a_name_stands_for_one_feature() -> None:
    with pytest.raises(ProtocolError, match="'a' is listed twice"):
        Extractor(features.elements("x", ["a", "a"]))
    with pytest.raises(LimitError, match="1025 features"):
        Extractor(features.elements("x", 1025))


def test_no_rows_give_no_values() -> None:
    spec = [*features.image("x", height=3, width=3), *features.elements("x", 9)]
    assert extract(spec, x=np.empty((0, 9))).shape == (12, 0)
