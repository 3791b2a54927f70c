# SPDX-License-Identifier: BSD-3-Clause
"""Regions kept as runs of pixels are those of the image."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from diffrun.engine import regions


def winding() -> np.ndarray:
    """One path through the whole image."""
    image = np.zeros((201, 60), bool)
    image[::2] = True
    image[1::4, -1] = image[3::4, 0] = True
    return image


@pytest.mark.parametrize(
    "image",
    [np.random.default_rng(1).random((120, 90)) < part for part in (0.0, 0.1, 0.3, 0.4, 1.0)] + [winding()],
)
def test_pixels_that_touch_are_one_region(image: np.ndarray) -> None:
    rows, columns = (place.astype(np.int32) for place in np.nonzero(image))
    runs = regions.of_pixels(rows, columns, image.shape[1])
    label, _ = ndimage.label(image, np.ones((3, 3)))  # numbered by their first pixels, from 1
    assert np.array_equal(regions.components(runs, image.shape[1]) + 1, label[runs[:, 0], runs[:, 1]])
