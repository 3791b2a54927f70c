# SPDX-License-Identifier: BSD-3-Clause
"""The whitening kernel against worked-out values and against real noise."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from diffrun.engine.decorrelate import Noise, blurred, whitening
from diffrun.engine.kernel import correlate, product
from diffrun.engine.warp import warp
from diffrun.files.afw.exposure import Exposure
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
    psi = whitening(constant(gaussian(sigma, size)), Noise(1.0), Noise(convolved)).kernel.at(100, 100)
    middle = psi.shape[0] // 2
    assert psi.sum() == pytest.approx(1, abs=1e-9)
    assert psi[middle, middle] == pytest.approx(centre, abs=3e-4)
    assert (psi**2).sum() == pytest.approx(power, abs=1e-3)


def test_real_noise_is_white_afterwards():
    rng = np.random.default_rng(3)
    plain = rng.normal(0, 1, (512, 512))
    convolved = gaussian_filter(rng.normal(0, 1.2, (512, 512)), 1.7, mode="wrap")
    psi = whitening(constant(gaussian(1.7, 27)), Noise(1.0), Noise(1.44)).kernel
    white = correlate((plain - convolved).astype(np.float32), psi, (0, 0))[30:-30, 30:-30]
    expected = np.sqrt(1 + 1.44)
    assert white.std() == pytest.approx(expected, rel=0.01)
    for shifted in (white[:, 1:] * white[:, :-1], white[1:] * white[:-1]):
        assert abs(shifted.mean() / white.var()) < 0.01


def test_the_kernel_sum_counts():
    psi = whitening(constant(2.5 * gaussian(1.5, 21)), Noise(1.0), Noise(1.0)).kernel.at(0, 0)
    transfer = np.abs(np.fft.fft2(2.5 * gaussian(1.5, 21), s=(128, 128))) ** 2
    expected = np.sqrt((1 + 2.5**2) / (1 + transfer))
    np.testing.assert_allclose(np.abs(np.fft.fft2(psi, s=(128, 128))), expected, atol=5e-3)


class Turned:
    """A linear map of pixels to "degrees" that are pixels of another grid, turned by half a degree."""

    def __init__(self, angle):
        self.cos, self.sin = np.cos(angle), np.sin(angle)

    def pixel_to_sky(self, x, y):
        return self.cos * x - self.sin * y + 20.3, self.sin * x + self.cos * y + 8.6

    def sky_to_pixel(self, a, b):
        a, b = a - 20.3, b - 8.6
        return self.cos * a + self.sin * b, self.cos * b - self.sin * a


@pytest.mark.parametrize("sigma", [0.8, 1.7])
def test_noise_is_white_at_every_phase_of_an_interpolation(sigma):
    """Where the warped image is not the one that is convolved, its noise varies most with the phase."""
    n, size = 1024, 1100
    rng = np.random.default_rng(4)
    template = Exposure(
        rng.normal(0, 1, (size, size)).astype(np.float32),
        np.zeros((size, size), np.int32),
        np.ones((size, size), np.float32),
        Turned(0.0),
    )
    science = Exposure(
        *(np.zeros((n, n), t) for t in (np.float32, np.int32, np.float32)), Turned(np.radians(0.5))
    )
    warped = warp(template, science)
    kernel = constant(gaussian(sigma, 27))
    other = correlate(rng.normal(0, 1.2, (n, n)).astype(np.float32), kernel, (0, 0))
    plain, convolved = Noise(1.0, warped.resampling), Noise(1.44)
    psi = whitening(kernel, plain, convolved)
    white = correlate(warped.exposure.image - other, psi.kernel, (0, 0), ripples=psi.ripples)[60:-60, 60:-60]
    variance = (blurred(psi.noise, plain).at(0, 0) ** 2).sum()
    variance += 1.44 * (product(kernel, psi.noise).at(0, 0) ** 2).sum()
    z = white / np.sqrt(variance)
    assert z.std() == pytest.approx(1, abs=0.005)
    assert 1.4826 * np.median(np.abs(z)) == pytest.approx(1, abs=0.005)  # 0.989 if ψ does not know the phase
    for shifted in (z[:, 1:] * z[:, :-1], z[1:] * z[:-1]):
        assert abs(shifted.mean()) < 0.006
    filtered = correlate(z, constant(gaussian(2.0, 25)), (0, 0))[20:-20, 20:-20]
    assert filtered.std() / np.sqrt((gaussian(2.0, 25) ** 2).sum()) == pytest.approx(1, abs=0.015)
