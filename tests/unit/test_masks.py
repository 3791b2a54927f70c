# SPDX-License-Identifier: BSD-3-Clause
"""Missing data, merged masks and the smooth background."""

import numpy as np
import pytest

from diffrun.engine.background import residual_background
from diffrun.engine.masks import cropped, fill, grown, merged
from diffrun.errors import DataError
from diffrun.files.afw.exposure import Exposure


def exposure(n=60, planes=None):
    rng = np.random.default_rng(0)
    image = rng.normal(100, 3, (n, n)).astype(np.float32)
    extra = {} if planes is None else {"planes": planes}
    return Exposure(image, np.zeros((n, n), np.int32), np.full((n, n), 9, np.float32), None, **extra)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_becomes_no_data(bad):
    image, variance = exposure().image.copy(), exposure().variance.copy()
    image[3, 4], variance[7, 8], variance[9, 9] = bad, bad, 0
    filled = fill(exposure().replace(image=image, variance=variance), "science")
    expected = np.zeros((60, 60), bool)
    expected[3, 4] = expected[7, 8] = expected[9, 9] = True
    np.testing.assert_array_equal(filled.has("NO_DATA"), expected)
    assert np.isfinite(filled.image).all()
    assert (filled.variance > 0).all()
    assert filled.image[3, 4] == pytest.approx(100, abs=2)


def test_an_image_of_nothing_is_refused_by_name():
    nothing = exposure().replace(image=np.full((60, 60), np.nan, np.float32))
    with pytest.raises(DataError, match="the template image has no usable pixel"):
        fill(nothing, "template")


@pytest.mark.parametrize("reach", [0, 1, 2, 3, 5, 8])
def test_a_region_grows_by_a_square(reach):
    region = np.random.default_rng(2).random((37, 52)) > 0.99
    region[0, 3] = region[36, 51] = True
    expected = np.zeros_like(region)
    for y, x in np.argwhere(region):
        expected[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1] = True
    np.testing.assert_array_equal(grown(region, reach), expected)


def test_masks_merge_by_name():
    science = exposure(planes={"SAT": 1, "NO_DATA": 8, "EDGE": 4, "DETECTED": 5, "DETECTED_NEGATIVE": 6})
    template = exposure(planes={"BAD": 1, "BRIGHT": 9, "DETECTED": 0, "NO_DATA": 3})
    mask = template.mask.copy()
    mask[5, 5], mask[6, 6], mask[7, 7] = 1 << 1, 1 << 9, 1 << 0
    science = science.replace(mask=np.full((60, 60), 1 << 5, np.int32))
    nowhere = np.zeros((60, 60), bool)
    result = merged(science, template.replace(mask=mask), nowhere, nowhere)
    assert result.has("BAD").sum() == 1
    assert result.has("BAD")[5, 5]
    assert result.has("BRIGHT")[6, 6]
    assert not result.has("SAT", "DETECTED").any()
    assert len(set(result.planes.values())) == len(result.planes)


def test_cropping_keeps_parent_pixels():
    whole = exposure().replace(xy0=(10, 20))
    part = cropped(whole, 7)
    assert part.xy0 == (17, 27)
    np.testing.assert_array_equal(part.image, whole.image[7:-7, 7:-7])


def test_the_background_is_found_under_sources():
    rng = np.random.default_rng(1)
    yy, xx = np.mgrid[:512, :512]
    truth = 5 + 8 * (xx / 512) ** 2 - 6 * yy / 512
    image = (truth + rng.normal(0, 10, (512, 512))).astype(np.float32)
    usable = np.ones((512, 512), bool)
    for y, x in rng.integers(20, 490, (40, 2)):
        image[y - 8 : y + 9, x - 8 : x + 9] += 500
        usable[y - 8 : y + 9, x - 8 : x + 9] = False
    left = truth.astype(np.float32)
    residual_background(image, usable, 64).take_off(left)
    assert np.abs(left)[32:-32, 32:-32].max() < 1.5
    assert np.abs(left).mean() < 0.5
