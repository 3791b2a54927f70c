# SPDX-License-Identifier: BSD-3-Clause
"""What bright stars do to a difference: the halo of a saturated star, and the error of the match."""

import numpy as np
import pytest
from scenes import Profile, exposure
from scipy.ndimage import label

from diffrun.engine import brightstars
from diffrun.engine.significance import Filter, Sums

N = 200


def scene(rng):
    """A difference of noise 1, and a science image with light in patches."""
    difference = exposure(rng.normal(0, 1, (N, N)), 1.0, Profile(4.0))
    science = np.where(rng.random((N, N)) < 0.4, 500, 0).astype(np.float32)
    mask = difference.mask.copy()
    for n in range(20):
        y, x = rng.integers(0, N - 3, 2)
        mask[y : y + 2, x : x + 3] |= difference.bits("SAT" if n % 2 else "BAD")
    return difference.replace(mask=mask), science


def test_halos_are_the_bright_regions_that_touch_saturation():
    """The slow twin labels all that is bright or saturated."""
    difference, science = scene(np.random.default_rng(1))
    found = np.zeros((N, N), bool)
    found.ravel()[brightstars.halos(difference, science, 3.0)] = True
    saturated = difference.has("SAT")
    bright = np.maximum(science, science - difference.image) > 300
    regions, _ = label(bright | saturated, structure=np.ones((3, 3)))
    np.testing.assert_array_equal(found, (regions > 0) & np.isin(regions, regions[saturated]))
    assert saturated.sum() < found.sum() < bright.sum()


def test_without_saturation_there_is_no_halo():
    difference, science = scene(np.random.default_rng(2))
    none = difference.replace(mask=np.zeros_like(difference.mask))
    assert len(brightstars.halos(none, science, 3.0)) == 0


@pytest.mark.parametrize("error", [0.004, 0.02])
def test_the_error_of_the_match_is_told_by_the_stars_that_did_not_vary(error):
    rng = np.random.default_rng(3)
    contrast2 = np.repeat(rng.uniform(200, 2000, (300, 1)) ** 2, 25, axis=1)
    # Residuals of one star hang together: few of its points are independent.
    residual = rng.normal(0, 1, (300, 5)).repeat(5, axis=1) * np.sqrt(1 + error**2 * contrast2)
    residual[:40] += 300
    sums = Sums(residual.ravel(), np.ones(residual.size), contrast2.ravel())
    assert brightstars.fitted_error(sums, 300) == pytest.approx(error, rel=0.2)


def test_too_few_stars_tell_nothing():
    difference, _ = scene(np.random.default_rng(4))
    dark = np.zeros((N, N), np.float32)
    assert brightstars.model_error(Filter(difference, dark), 3.0) == brightstars.UNKNOWN
