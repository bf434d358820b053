"""A blurred image is the means of the cells that the release signed, and nothing finer."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from muster_agent.observe.sampling.taking import blurred
from muster_protocol.wire.errors import LimitError
from muster_protocol.wire.sampling import Blur, SampledFeature

SIDES = st.integers(8, 40)
CELLS = st.integers(1, 8)


def split(image, cells, axis):
    edges = [image.shape[axis] * cell // cells for cell in range(1, cells)]
    return np.split(image, edges, axis)


@given(SIDES, SIDES, CELLS, CELLS, st.integers(0, 2**32 - 1))
def test_each_number_is_the_mean_of_a_cell_and_every_pixel_is_in_one(
    height: int, width: int, rows: int, columns: int, seed: int
) -> None:
    image = np.random.default_rng(seed).uniform(size=(height, width, 2))
    found = blurred(image, SampledFeature("x", blur=Blur(rows, columns)))
    want = np.array([
        cell.mean(axis=(0, 1))
        for band in split(image, rows, 0)
        for cell in split(band, columns, 1)
    ])  # fmt: skip
    np.testing.assert_allclose(found, want.ravel(), rtol=1e-6)


@given(st.integers(0, 2**32 - 1))
def test_images_that_differ_within_cells_only_can_not_be_told_apart(seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (3, 32, 32)).astype(np.uint8)
    cells = image.reshape(3, 4, 8, 4, 8).transpose(0, 1, 3, 2, 4).reshape(48, 64)
    other = rng.permuted(cells, axis=1).reshape(3, 4, 4, 8, 8).transpose(0, 1, 3, 2, 4)
    signed = SampledFeature("x", privacy="blur", blur=Blur(4, 4, 1, 2))
    first, second = (blurred(each.reshape(3, 32, 32), signed) for each in (image, other))
    np.testing.assert_array_equal(first, second)
    assert first.shape == (48,)


def test_a_pixel_that_is_no_number_hides_its_cell_and_no_other() -> None:
    image = np.ones((8, 8), np.float32)
    image[0, 0] = np.nan
    found = blurred(image, SampledFeature("x", blur=Blur(2, 2)))
    assert np.isnan(found).tolist() == [True, False, False, False]


def test_without_a_signed_grid_nothing_is_taken() -> None:
    with pytest.raises(LimitError, match="no grid is signed"):
        blurred(np.ones((8, 8)), SampledFeature("x"))
