# SPDX-License-Identifier: BSD-3-Clause
"""The whitening kernel against worked-out values and against real noise."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from diffrun.engine.decorrelate import whitening
from diffrun.engine.kernel import correlate
from diffrun.files.afw.kernel import LinearCombinationKernel

BOX = (-0.5, -0.5, 511.5, 511.5)


def gaussian(sigma, size):
    u = np.arange(size) - size // 2
    profile = np.exp(-0.5 * (u / sigma) ** 2)
    image = np.outer(profile, profile)
    return image / image.sum()


def constant(image):
    return LinearCombinationKernel(image[None], np.ones((1, 1)), BOX)


@pytest.mark.parametrize(
    ("size", "sigma", "convolved", "centre", "power"),
    [
        (21, 1.5, 1.0, 1.39538, 1.95097),
        (21, 1.5, 0.1, 1.04702, 1.09629),
        (27, 2.0, 1.0, 1.40362, 1.97242),
        (35, 3.0, 1.0, 1.40951, 1.98774),
    ],
)
def test_psi_has_the_worked_out_values(size, sigma, convolved, centre, power):
    psi = whitening(constant(gaussian(sigma, size)), 1.0, convolved).at(100, 100)
    middle = psi.shape[0] // 2
    assert psi.sum() == pytest.approx(1, abs=1e-9)
    assert psi[middle, middle] == pytest.approx(centre, abs=3e-4)
    assert (psi**2).sum() == pytest.approx(power, abs=1e-3)


def test_real_noise_is_white_afterwards():
    rng = np.random.default_rng(3)
    plain = rng.normal(0, 1, (512, 512))
    convolved = gaussian_filter(rng.normal(0, 1.2, (512, 512)), 1.7, mode="wrap")
    psi = whitening(constant(gaussian(1.7, 27)), 1.0, 1.44)
    white = correlate((plain - convolved).astype(np.float32), psi, (0, 0))[30:-30, 30:-30]
    expected = np.sqrt(1 + 1.44)
    assert white.std() == pytest.approx(expected, rel=0.01)
    for shifted in (white[:, 1:] * white[:, :-1], white[1:] * white[:-1]):
        assert abs(shifted.mean() / white.var()) < 0.01


def test_the_kernel_sum_counts():
    psi = whitening(constant(2.5 * gaussian(1.5, 21)), 1.0, 1.0).at(0, 0)
    transfer = np.abs(np.fft.fft2(2.5 * gaussian(1.5, 21), s=(128, 128))) ** 2
    expected = np.sqrt((1 + 2.5**2) / (1 + transfer))
    np.testing.assert_allclose(np.abs(np.fft.fft2(psi, s=(128, 128))), expected, atol=5e-3)
