# SPDX-License-Identifier: BSD-3-Clause
"""The parts of the measurement against independent implementations and closed forms."""

from __future__ import annotations

from typing import Any

import galsim
import numpy as np
import pytest
import sep
from scenes import SIZE, XY0, Profile, exposure

from diffrun.engine import apertures, centroid, fluxes
from diffrun.engine.footprint import Footprint, all_pixels
from diffrun.engine.shape import adaptive_moments
from diffrun.engine.stamps import Stamps, kernel_images, nearest_pixel, shifted, shifted_with_slopes
from diffrun.files.afw.psf import psf_image


def stamps_of(images: Any, variance: float = 1.0) -> Stamps:
    everywhere = np.ones(images.shape, bool)
    return Stamps(images, np.full(images.shape, variance), everywhere, everywhere)


def ellipses(n: int, snr: float, rng: Any, fwhm: float = 4.0, q: float = 0.7, angle: float = 0.5) -> Any:
    """Elliptical Gaussians in noise of variance 1: images, fluxes and the covariance of the ellipse."""
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    covariance = turn @ np.diag([1.0, q**2]) @ turn.T * (fwhm / 2.3548) ** 2
    inverse = np.linalg.inv(covariance)
    steps = np.arange(SIZE) - SIZE // 2
    dx, dy = rng.uniform(-0.5, 0.5, (2, n, 1))
    x, y = (steps - dx)[:, None, :], (steps - dy)[:, :, None]
    radius2 = inverse[0, 0] * x**2 + 2 * inverse[0, 1] * x * y + inverse[1, 1] * y**2
    profile = np.exp(-0.5 * radius2) / (2 * np.pi * np.sqrt(np.linalg.det(covariance)))
    flux = snr / np.sqrt((profile**2).sum(axis=(1, 2)))
    return flux[:, None, None] * profile + rng.normal(0, 1, profile.shape), flux, covariance


def test_shifted_psf_is_that_of_the_file_layer() -> None:
    psf = Profile(3.0).psf
    x, y = np.random.default_rng(1).uniform(0, 50, (2, 20))
    ix, iy = nearest_pixel(x), nearest_pixel(y)
    images = shifted(kernel_images(psf, x, y), x - ix, y - iy, SIZE // 2)
    for k in range(20):
        expected, x0, y0 = psf_image(psf, float(x[k]), float(y[k]))
        assert (x0, y0) == (ix[k] - SIZE // 2, iy[k] - SIZE // 2)
        np.testing.assert_allclose(images[k], expected, atol=2e-8)


def test_shifted_psf_is_the_profile_itself() -> None:
    profile = Profile(3.5)
    dx, dy = np.random.default_rng(2).uniform(-0.5, 0.5, (2, 30))
    kernels = kernel_images(profile.psf, dx, dy)
    images = shifted(kernels, dx, dy, 10)
    truth = np.stack([profile.stamp(a, b)[10:-10, 10:-10] for a, b in zip(dx, dy, strict=True)])
    assert np.abs(images - truth).max() < 0.003 * truth.max()


def test_slopes_of_the_psf_are_its_differences() -> None:
    kernels = kernel_images(Profile(3.0).psf, np.zeros(3), np.zeros(3))
    dx, dy, step = np.array([0.1, -0.4, 0.3]), np.array([0.45, -0.2, 0.0]), 1e-4
    _, by_x, by_y = shifted_with_slopes(kernels, dx, dy, 12)
    numeric_x = (shifted(kernels, dx + step, dy, 12) - shifted(kernels, dx - step, dy, 12)) / (2 * step)
    numeric_y = (shifted(kernels, dx, dy + step, 12) - shifted(kernels, dx, dy - step, 12)) / (2 * step)
    # The weights' norm, which the slopes leave aside, changes by some 1e-3 over a pixel.
    assert np.abs(by_x - numeric_x).max() < 0.02 * np.abs(numeric_x).max()
    assert np.abs(by_y - numeric_y).max() < 0.02 * np.abs(numeric_y).max()


@pytest.mark.parametrize("radius", [3.0, 4.5, 12.0, 35.0])
def test_apertures_agree_with_sep(radius: float) -> None:
    rng = np.random.default_rng(3)
    image = rng.normal(0, 1, (200, 220))
    x, y = rng.uniform(60, 140, (2, 40))
    measured = apertures.measure(exposure(image, 1.0, Profile(3.0)), x + XY0[0], y + XY0[1], (radius,))[0]
    expected, _, _ = sep.sum_circle(image.astype(np.float32).astype(float), x, y, radius, subpix=0)
    np.testing.assert_allclose(measured.flux, expected, atol=1e-5)
    assert not measured.truncated.any()
    assert not measured.incomplete.any()


@pytest.mark.parametrize("radius", [0.3, 1.0, 3.0, 6.5])
def test_areas_of_pixels_in_a_circle_by_a_slow_twin(radius: float) -> None:
    dx, dy = np.arange(-8, 9) - 0.23, np.arange(-8, 9) + 0.41
    weights = np.array([[apertures.area_in_circle(x, y, radius) for x in dx] for y in dy])
    sub = (np.arange(100) - 49.5) / 100
    x = (dx[:, None] + sub)[None, None]
    y = (dy[:, None] + sub)[:, :, None, None]
    inside = (x**2 + y**2 < radius**2).mean(axis=(1, 3))
    np.testing.assert_allclose(weights, inside, atol=3e-3)
    assert weights.sum() == pytest.approx(np.pi * radius**2, rel=1e-12)


def test_apertures_tell_what_they_miss() -> None:
    """A twin with stamps of subpixels: pixels beyond the image, unusable ones, and circles without any."""
    rng = np.random.default_rng(11)
    image = rng.normal(0, 1, (60, 50))
    image[30, 20:24] = np.nan
    x, y = np.r_[rng.uniform(-8, 58, 40), 200.0, 21.0], np.r_[rng.uniform(-8, 68, 40), 30.0, 30.0]
    small, measured = apertures.measure(
        exposure(image, 1.0, Profile(3.0)), x + XY0[0], y + XY0[1], (0.4, 5.0)
    )
    assert np.isnan(small.flux[-2:]).all()
    rows, columns = np.mgrid[-20:80, -20:70]
    padded = np.pad(image, 20, constant_values=np.inf)
    sub = (np.arange(20) - 9.5) / 20
    for k in range(40):
        weights = np.zeros(rows.shape)
        for dy in sub:
            for dx in sub:
                weights += np.hypot(columns + dx - x[k], rows + dy - y[k]) < 5.0
        weights /= len(sub) ** 2
        # A corner that is less than a few subpixels is left open.
        sure, within = weights > 0.03, weights > 0
        near = np.hypot(columns - x[k], rows - y[k]) < 5.0 + 0.5**0.5
        for told, missing in (
            (measured.truncated, np.isinf(padded)),
            (measured.incomplete, ~np.isfinite(padded)),
        ):
            assert missing[sure].any() <= told[k] <= missing[near].any()
        usable = within & np.isfinite(padded)
        if usable.any():
            assert measured.flux[k] == pytest.approx((weights[usable] * padded[usable]).sum(), abs=0.1)


@pytest.mark.parametrize("radius", [3.0, 6.0, 9.0])
def test_apertures_hold_the_flux_that_a_gaussian_has_within(radius: float) -> None:
    profile = Profile(4.0, beta=np.inf)
    image = np.zeros((101, 101))
    image[30:71, 30:71] = profile.stamp(0.3, -0.2)
    measured = apertures.measure(
        exposure(image, 1.0, profile), np.array([XY0[0] + 50.3]), np.array([XY0[1] + 49.8]), (radius,)
    )[0]
    # Pixels average the sky, and parts of their area are counted: each widens the profile by 1/12 pixel².
    expected = 1 - np.exp(-(radius**2) / 2 / ((4.0 / 2.3548) ** 2 + 1 / 6))
    assert measured.flux[0] == pytest.approx(expected, abs=1e-3)


def test_aperture_error_is_that_of_its_weights() -> None:
    rng = np.random.default_rng(4)
    place = np.full(1, 20.0 + XY0[0]), np.full(1, 20.5 + XY0[1])
    runs = [
        apertures.measure(exposure(rng.normal(0, 2, (41, 41)), 4.0, Profile(3.0)), *place, (4.5,))[0]
        for _ in range(800)
    ]
    assert np.std([r.flux[0] for r in runs]) == pytest.approx(runs[0].sigma[0], rel=0.08)


@pytest.mark.parametrize("snr", [15.0, 100.0])
def test_moments_agree_with_hsm(snr: float) -> None:
    images, _, _ = ellipses(30, snr, np.random.default_rng(5))
    zero = np.zeros(len(images))
    shapes = adaptive_moments(stamps_of(images), (zero, zero), 1.5, 3.0)
    assert not shapes.failed.any()
    for k, image in enumerate(images):
        hsm = galsim.hsm.FindAdaptiveMom(galsim.Image(np.ascontiguousarray(image)), guess_sig=1.5)
        trace = shapes.xx[k] + shapes.yy[k]
        assert (shapes.xx[k] * shapes.yy[k] - shapes.xy[k] ** 2) ** 0.25 == pytest.approx(
            hsm.moments_sigma, abs=1e-4
        )
        assert (shapes.xx[k] - shapes.yy[k]) / trace == pytest.approx(hsm.observed_shape.e1, abs=1e-4)
        assert 2 * shapes.xy[k] / trace == pytest.approx(hsm.observed_shape.e2, abs=1e-4)
        assert shapes.dx[k] + SIZE // 2 + 1 == pytest.approx(hsm.moments_centroid.x, abs=1e-3)


def test_errors_of_moments_and_their_flux() -> None:
    images, flux, truth = ellipses(500, 50.0, np.random.default_rng(6))
    zero = np.zeros(len(images))
    shapes = adaptive_moments(stamps_of(images), (zero, zero), 1.5, 3.0)
    sigma = np.sqrt(np.einsum("nii->ni", shapes.covariance))
    measured = np.stack(
        [shapes.flux - flux, shapes.xx - truth[0, 0], shapes.yy - truth[1, 1], shapes.xy - truth[0, 1]]
    )
    pulls = measured.T / sigma
    assert np.abs(pulls.std(axis=0) - 1).max() < 0.12
    assert np.abs(pulls.mean(axis=0)).max() < 0.25
    expected = np.median(shapes.covariance[:, 0, 1] / sigma[:, 0] / sigma[:, 1])
    assert np.corrcoef(measured[0], measured[1])[0, 1] == pytest.approx(expected, abs=0.1)


def test_moments_of_noise_end_without_a_warning() -> None:
    noise = np.random.default_rng(7).normal(0, 1, (100, 15, 15))
    zero = np.zeros(100)
    shapes = adaptive_moments(stamps_of(noise), (zero, zero), 1.5, 3.0)
    assert shapes.failed.any()
    assert np.isfinite(shapes.xx[~shapes.unweighted_bad]).all()


def test_centroid_reaches_the_bound_of_cramer_and_rao() -> None:
    rng, profile, n = np.random.default_rng(8), Profile(3.0), 800
    dx, dy = rng.uniform(-0.5, 0.5, (2, n))
    flux = 30 * profile.sigma_of_flux(1.0)
    images = np.stack([flux * profile.stamp(a, b, 21) for a, b in zip(dx, dy, strict=True)])
    images += rng.normal(0, 1, images.shape)
    kernels = kernel_images(profile.psf, dx, dy)
    fit = centroid.fit_psf(stamps_of(images), kernels, 3.0)
    step = 1e-3
    slope = (profile.stamp(step, 0, 21) - profile.stamp(-step, 0, 21)) / (2 * step)
    bound = 1 / np.sqrt((slope**2).sum()) / flux
    assert fit.fitted.all()
    assert np.std(fit.dx - dx) == pytest.approx(bound, rel=0.08)
    assert np.median(fit.dx_sigma) == pytest.approx(bound, rel=0.05)


def test_psf_flux_has_no_bias_from_the_fitted_position() -> None:
    rng, profile, n, size = np.random.default_rng(9), Profile(3.0), 3000, 21
    phases = [profile.stamp(*rng.uniform(-0.5, 0.5, 2), size) for _ in range(100)]
    flux = 10 * profile.sigma_of_flux(1.0)
    images = flux * np.concatenate([phases] * (n // 100)) + rng.normal(0, 1, (n, size, size))
    kernels = np.tile(profile.stamp(0.0, 0.0), (n, 1, 1))
    stamps = stamps_of(images)
    fit = centroid.fit_psf(stamps, kernels, 3.0)
    raw = fluxes.weigh(stamps, shifted(kernels, fit.dx, fit.dy, size // 2))
    corrected = raw.without_centroid_bias(fit.fitted)
    assert raw.flux.mean() / flux == pytest.approx(1.01, abs=0.005)
    assert corrected.flux.mean() / flux == pytest.approx(1.0, abs=0.005)
    assert np.std((corrected.flux - flux) / corrected.sigma) == pytest.approx(1.0, abs=0.05)


def test_centroid_of_nothing_is_the_peak() -> None:
    kernels = kernel_images(Profile(3.0).psf, np.zeros(3), np.zeros(3))
    images = np.zeros((3, 15, 15))
    images[1] = -100 * kernels[1, 13:28, 13:28]
    images[2] = 100 * shifted(kernels[:1], np.array([4.0]), np.zeros(1), 7)[0]
    stamps = stamps_of(images)
    stamps.good[0] = False
    fit = centroid.fit_psf(stamps, kernels, 2.0)
    assert list(fit.singular) == [True, False, False]
    assert fit.not_maximum[1]
    assert fit.reset.all()
    assert not fit.dx.any()


def test_footprint_pixels() -> None:
    spans = np.array([[5, 10, 12], [6, 9, 9], [7, 8, 11]], np.int32)
    one = Footprint(spans, np.array([10, 9]), np.array([6, 7]), np.array([5.0, -7.0]))
    assert one.area == 8
    assert one.bbox == (8, 5, 12, 7)
    assert one.main_peak == 1
    assert sorted(zip(*one.pixels(), strict=True)) == [
        (8, 7), (9, 6), (9, 7), (10, 5), (10, 7), (11, 5), (11, 7), (12, 5),
    ]  # fmt: skip
    assert one.mask((9, 5), (2, 3)).tolist() == [[False, True, True], [True, False, False]]
    rows, columns, owner = all_pixels([one, one], (0, 0), (7, 12))
    assert owner.tolist() == [0, 0, 0, 1, 1, 1]
    assert rows.max() == 6
    assert columns.max() == 11
