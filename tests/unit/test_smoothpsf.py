# SPDX-License-Identifier: BSD-3-Clause
"""Sizes of PSFs, and smooth models that are warped and convolved, against Gaussians."""

import numpy as np
import pytest

from diffrun.engine import smoothpsf
from diffrun.files.afw.kernel import LinearCombinationKernel

BOX = (-0.5, -0.5, 999.5, 999.5)


class Gaussian:
    """An elliptical Gaussian PSF whose width grows over the field."""

    average_position = (500.0, 500.0)

    def sigmas(self, x, y):
        return 2.0 * (1 + 0.1 * x / 1000), 2.5

    def kernel_image(self, x, y):
        sx, sy = self.sigmas(x, y)
        u = np.arange(-25, 26)
        image = np.exp(-0.5 * (u[None, :] / sx) ** 2 - 0.5 * (u[:, None] / sy) ** 2)
        return image / image.sum()


def widths(stamp):
    half = stamp.shape[0] // 2
    u = np.arange(-half, half + 1)
    return np.sqrt((stamp * u[None, :] ** 2).sum()), np.sqrt((stamp * u[:, None] ** 2).sum())


def test_the_determinant_radius_of_a_gaussian_is_the_mean_sigma():
    stamp = Gaussian().kernel_image(0, 0)
    assert smoothpsf.determinant_radius(stamp) == pytest.approx(np.sqrt(2.0 * 2.5), rel=1e-4)
    assert smoothpsf.fwhm(Gaussian(), 0, 0) == pytest.approx(2.35482 * np.sqrt(5.0), rel=1e-4)


def test_a_smooth_model_is_the_psf():
    model = smoothpsf.smooth(Gaussian(), BOX, half=22)
    for x, y in ((10, 20), (500, 700), (990, 990)):
        np.testing.assert_allclose(
            model.kernel_image(x, y), Gaussian().kernel_image(x, y)[3:-3, 3:-3], atol=3e-6
        )


def test_a_psf_turns_and_shrinks_with_its_image():
    def quarter_turn_at_half_scale(x, y):
        return 2 * np.asarray(y), -2 * np.asarray(x) + 1000

    model = smoothpsf.warped(Gaussian(), quarter_turn_at_half_scale, (0, 0, 400, 400), half=15)
    sx, sy = Gaussian().sigmas(400, 600)
    np.testing.assert_allclose(widths(model.kernel_image(200, 200)), (sy / 2, sx / 2), rtol=0.02)


def test_convolution_adds_variances():
    u = np.arange(-12, 13)
    stamp = np.exp(-0.5 * (u[None, :] / 1.5) ** 2 - 0.5 * (u[:, None] / 1.0) ** 2)
    kernel = LinearCombinationKernel((stamp / stamp.sum())[None], np.ones((1, 1)), BOX)
    model = smoothpsf.convolved(smoothpsf.smooth(Gaussian(), BOX, half=22), kernel)
    sx, sy = Gaussian().sigmas(300, 300)
    expected = np.hypot(sx, 1.5), np.hypot(sy, 1.0)
    np.testing.assert_allclose(widths(model.kernel_image(300, 300)), expected, rtol=2e-3)
