"""From pixels to a model's input: each word of the signed manifest does what it says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_protocol.images.preparing import prepared
from muster_protocol.wire.imaging import InputImage
from muster_protocol.wire.tensors import Quantisation, Tensor

GREY = np.arange(48, dtype=np.uint8).reshape(6, 8)
COLOUR = np.stack([GREY, GREY + 50, GREY + 100], axis=2)


def tensor(*shape: int, datatype: str = "FP32", **fields: object) -> Tensor:
    return Tensor("image", datatype, (-1, *shape), **fields)


def test_pixels_of_the_wanted_size_stay_as_they_are():
    np.testing.assert_array_equal(prepared(COLOUR, InputImage(), tensor(6, 8, 3)), COLOUR)


def test_colours_come_in_the_order_of_the_manifest_and_grey_by_its_weights():
    bgr = prepared(COLOUR, InputImage(colour="bgr"), tensor(6, 8, 3))
    np.testing.assert_array_equal(bgr, COLOUR[..., ::-1])
    grey = prepared(COLOUR, InputImage(colour="grey"), tensor(6, 8, 1))
    np.testing.assert_allclose(grey[..., 0], COLOUR @ [0.299, 0.587, 0.114], rtol=1e-6)
    np.testing.assert_array_equal(
        prepared(GREY, InputImage(), tensor(6, 8, 3)), np.repeat(GREY[..., None], 3, 2)
    )


def test_channels_first_with_an_offset_and_a_scale_for_each():
    image = InputImage(layout="CHW", offset=(1.0, 2.0, 3.0), scale=(2.0, 4.0, 8.0))
    made = prepared(COLOUR, image, tensor(3, 6, 8))
    for channel in range(3):
        want = (COLOUR[..., channel] - (1.0 + channel)) / 2.0 ** (1 + channel)
        np.testing.assert_allclose(made[channel], want)


def test_a_crop_takes_its_share_and_a_pixel_at_least():
    image = InputImage(colour="grey", crop=(0.25, 0.5, 0.75, 1.0))
    np.testing.assert_array_equal(prepared(GREY, image, tensor(3, 4, 1))[..., 0], GREY[3:, 2:6])
    image = InputImage(colour="grey", crop=(0.99, 0.99, 1.0, 1.0))
    np.testing.assert_array_equal(prepared(GREY, image, tensor(1, 1, 1)), [[[47]]])


def test_a_smaller_picture_is_the_mean_of_what_it_covers_and_skips_nothing():
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 200  # single pixels would be all or nothing of it
    made = prepared(stripes, InputImage(colour="grey"), tensor(8, 8, 1))
    np.testing.assert_allclose(made, 100, atol=8)
    nearest = prepared(stripes, InputImage(colour="grey", resize="nearest"), tensor(8, 8, 1))
    assert set(np.unique(nearest)) <= {0.0, 200.0}


def test_another_shape_is_stretched_or_covered_or_padded():
    wide = np.repeat(np.arange(40, dtype=np.uint8)[np.newaxis], 20, axis=0)

    def row(fit: str) -> list[float]:
        image = InputImage(colour="grey", fit=fit, padding=255.0)
        return prepared(wide, image, tensor(20, 20, 1))[10, :, 0].tolist()

    assert (row("stretch")[0], row("stretch")[-1]) == pytest.approx((0.8, 38.2), abs=0.4)
    assert row("cover") == list(range(10, 30))
    padded = prepared(wide, InputImage(colour="grey", fit="pad", padding=255.0), tensor(20, 20, 1))
    assert (padded[:5] == 255).all()
    assert (padded[15:] == 255).all()
    assert (padded[5:15] < 40).all()


def test_whole_numbers_are_quantised_rounded_and_kept_in_their_range():
    image = InputImage(colour="grey", scale=(255.0,))
    int8 = tensor(1, 3, 1, datatype="INT8", quantisation=Quantisation(1 / 255, -128))
    made = prepared(np.array([[0, 100, 255]], np.uint8), image, int8)
    assert made.dtype == np.int8
    assert made.ravel().tolist() == [-128, -28, 127]
    beyond = InputImage(colour="grey", offset=(300.0,))
    clipped = prepared(np.array([[0]], np.uint8), beyond, tensor(1, 1, 1, datatype="UINT8"))
    assert clipped.ravel().tolist() == [0]


@given(
    st.integers(1, 40), st.integers(1, 40), st.integers(1, 16), st.integers(1, 16),
    st.sampled_from(["stretch", "cover", "pad"]), st.sampled_from(["bilinear", "nearest"]),
    st.sampled_from(["rgb", "grey"]), st.booleans(),
)  # fmt: skip
def test_pictures_of_any_size_give_numbers_within_their_own_range(
    had_height, had_width, height, width, fit, resize, colour, grey
):
    random = np.random.default_rng(had_height * 41 + had_width)
    shape = (had_height, had_width) if grey else (had_height, had_width, 3)
    pixels = random.integers(0, 256, shape).astype(np.uint8)
    image = InputImage(colour=colour, fit=fit, resize=resize, padding=7.0)
    made = prepared(pixels, image, tensor(height, width, image.channels))
    assert made.shape == (height, width, image.channels)
    assert made.min() >= -1e-3
    assert made.max() <= 255.001
    flat = prepared(np.full_like(pixels, 100), InputImage(colour=colour, fit="stretch",
                    resize=resize), tensor(height, width, image.channels))  # fmt: skip
    np.testing.assert_allclose(flat, 100, rtol=1e-5)
