# SPDX-License-Identifier: BSD-3-Clause
"""Hot pixels and cosmic rays are marked, and never a star."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from diffrun.engine.spikes import repaired
from diffrun.files.afw.exposure import DEFAULT_PLANES, Exposure
from diffrun.files.afw.psf import GaussianPsf

SKY = 100.0


def scene(fwhm, peak=1e4, n=200):
    """Stars at every sub-pixel phase, on a sky at 0."""
    y, x = np.mgrid[:n, :n]
    image = np.zeros((n, n))
    for k, (i, j) in enumerate((i, j) for i in range(20, n - 10, 30) for j in range(20, n - 10, 30)):
        r2 = (x - j - k % 6 / 6) ** 2 + (y - i - k // 6 / 6) ** 2
        image += peak * np.exp(-4 * np.log(2) * r2 / fwhm**2)
    noisy = np.random.default_rng(5).poisson(image + SKY) - SKY
    return Exposure(
        noisy.astype(np.float32),
        np.zeros((n, n), np.int32),
        (image + SKY).astype(np.float32),
        None,
        GaussianPsf((21, 21), fwhm / 2.3548),
    )


@pytest.mark.parametrize("fwhm", [1.5, 2.0, 3.0, 5.0])
def test_no_star_is_marked(fwhm):
    exposure = scene(fwhm)
    before = exposure.image.copy()
    assert repaired(exposure, "image", logging.getLogger()) is exposure
    np.testing.assert_array_equal(exposure.image, before)


@pytest.mark.parametrize("fwhm", [2.5, 4.0])
def test_single_pixels_and_tracks_are_marked_and_closed(fwhm, caplog):
    exposure = scene(fwhm)
    hit = np.zeros(exposure.shape, bool)
    hit[5, 5], hit[35, 35], hit[100:103, 5] = True, True, True
    exposure.image[hit] += 4000
    found = repaired(exposure, "template image", logging.getLogger())
    np.testing.assert_array_equal(found.has("CR"), hit)
    np.testing.assert_array_equal(found.has("INTRP"), hit)
    assert np.abs(found.image[hit]).max() < 60
    assert "5 pixels of the template image are too sharp" in caplog.text


def test_charge_that_ran_over_from_a_saturated_star_is_none():
    exposure = scene(3.0)
    exposure.image[60:90, 50] = 60000
    mask = exposure.mask.copy()
    mask[62:88, 50] = 1 << DEFAULT_PLANES["SAT"]
    exposure = exposure.replace(mask=mask)
    assert repaired(exposure, "image", logging.getLogger()) is exposure
