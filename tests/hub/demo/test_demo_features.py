"""What the demo watches can be extracted from any number of images, none included."""

import numpy as np
import pytest

from muster_hub.demo.digits import SIDE
from muster_protocol.signals import features


@pytest.mark.parametrize("rows", [0, 1, 3])
@pytest.mark.parametrize("channels_first", [False, True])
def test_image_statistics_of_any_number_of_images(rows: int, channels_first: bool) -> None:
    watched = features.image("image", height=SIDE, width=SIDE, channels_first=channels_first)
    image = np.ones((rows, 2 * SIDE * SIDE), np.float32)
    matrix, _ = features.Extractor(watched).extract({"image": image})
    assert matrix.shape == (3, rows)
    assert (matrix.T == [1.0, 0.0, 0.0]).all()
