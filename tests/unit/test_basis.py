# SPDX-License-Identifier: BSD-3-Clause
"""The Alard-Lupton basis against numbers worked out from the definition of release 12.1."""

import numpy as np
import pytest
from scipy.ndimage import correlate

from diffrun.engine.basis import gaussian_basis, kernel_size, matching_sigmas

SIGMA_PER_FWHM = 1 / (2 * np.sqrt(2 * np.log(2)))


@pytest.fixture(scope="module")
def basis():
    return gaussian_basis(21, (0.7, 1.5, 3.0), (4, 2, 2))


def test_the_default_list_has_the_numbers_of_the_stack(basis):
    images = basis.images
    assert images.shape == (27, 21, 21)
    c = 10
    assert images[0, c, c] == pytest.approx(0.324724, abs=1e-6)
    assert images[0, c, c + 1] == pytest.approx(0.117046, abs=1e-6)
    assert np.linalg.norm(images[0]) == pytest.approx(0.40929, abs=1e-5)
    assert images[1, c, c] == pytest.approx(0, abs=1e-12)
    assert images[1, c, c + 1] == pytest.approx(0.627092, abs=1e-6)
    assert images[3, c, c] == pytest.approx(-0.777161, abs=1e-6)
    assert images[3, c, c + 1] == pytest.approx(0.292957, abs=1e-6)
    assert images[3, c + 1, c] == pytest.approx(-0.280126, abs=1e-6)
    assert images[15, c, c] == pytest.approx(-0.863206, abs=1e-6)
    assert images[15, c, c + 1] == pytest.approx(-0.205294, abs=1e-6)
    assert images[21, c, c] == pytest.approx(-0.812482, abs=1e-6)
    assert images[21, c + 1, c] == pytest.approx(-0.265433, abs=1e-6)


def test_only_the_first_has_a_sum(basis):
    sums = basis.images.sum(axis=(1, 2))
    assert sums[0] == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(sums[1:], 0, atol=1e-9)


def test_the_separable_way_equals_a_direct_correlation(basis):
    stamp = np.random.default_rng(1).normal(size=(41, 41))
    pixels = np.flatnonzero(np.hypot(*np.mgrid[-10:11, -10:11]) <= 8)
    fast = basis.correlate(stamp.astype(np.float32), basis.bands(41), pixels)
    for image, result in zip(basis.images, fast, strict=True):
        np.testing.assert_allclose(result, correlate(stamp, image)[10:-10, 10:-10].ravel()[pixels], atol=3e-6)


def test_the_wing_is_one_more_gaussian():
    plain, winged = gaussian_basis(35, (0.7, 1.4), (2, 1)), gaussian_basis(35, (0.7, 1.4), (2, 1), wing=6.0)
    assert winged.has_wing and not plain.has_wing
    np.testing.assert_array_equal(winged.images[:-1], plain.images)
    yy, xx = np.mgrid[-17:18, -17:18]
    wing = np.exp(-(xx**2 + yy**2) / 72)
    wing = wing / wing.sum() - plain.images[0]
    np.testing.assert_allclose(winged.images[-1], wing / np.linalg.norm(wing), atol=1e-12)


@pytest.mark.parametrize(
    ("template", "science", "sigmas"),
    [
        (3.5, 3.6, (0.7, 1.4, 2.8)),
        (3.5, 4.0, (0.822, 1.645, 3.289)),
        (3.5, 4.5, (1.201, 2.402, 4.804)),
        (3.5, 6.0, (1.035, 2.070, 4.139)),
    ],
)
def test_sigmas_follow_the_rule(template, science, sigmas):
    found = matching_sigmas(template * SIGMA_PER_FWHM, science * SIGMA_PER_FWHM)
    k = max(np.sqrt(science**2 - template**2) * SIGMA_PER_FWHM, 0.7)
    assert found[0] == pytest.approx(max(0.7, k / 2))
    if k / 2 > 0.7 or k == 0.7:  # there 12.1 and today's rule agree
        np.testing.assert_allclose(found, sigmas, atol=1e-3)


def test_sigmas_do_not_jump():
    science = np.linspace(3.5, 8, 400)
    first = [matching_sigmas(3.5 * SIGMA_PER_FWHM, s * SIGMA_PER_FWHM)[0] for s in science]
    assert np.abs(np.diff(first)).max() < 0.02


def test_the_size_is_odd_and_between_its_bounds():
    assert kernel_size((0.7, 1.4, 2.8), 3.0, 6.0, 21, 35) == 21
    assert kernel_size((0.7, 1.4, 2.8), 4.4, 6.0, 21, 35) == 27
    assert kernel_size((1.0, 2.0, 9.0), 4.4, 6.0, 21, 35) == 35
