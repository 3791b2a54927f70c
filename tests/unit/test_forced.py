# SPDX-License-Identifier: BSD-3-Clause
"""Forced fluxes: of known sources in noise, alone, overlapping and cut off, and their errors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scenes import XY0, Floats, Profile, draw, exposure
from scipy.signal import fftconvolve

from diffrun.engine import forced
from diffrun.engine.scene import design
from diffrun.files.afw.kernel import LinearCombinationKernel

VARIANCE = 25.0
PROFILE = Profile(4.2)


def scene(x: Floats, y: Floats, flux: Floats, size: int, seed: int) -> Floats:
    """Sources in white noise."""
    noise = np.random.default_rng(seed).normal(0.0, VARIANCE**0.5, (size, size))
    return draw((size, size), PROFILE, x, y, flux) + noise


def test_blends_are_unbiased_and_their_errors_true() -> None:
    """120 blends of two, a PSF's width apart, of either sign."""
    rng = np.random.default_rng(5)
    grid = np.arange(30.0, 630.0, 55.0)
    x, y = (values.ravel() for values in np.meshgrid(grid, grid))
    x, y = x + XY0[0] + rng.uniform(-0.5, 0.5, len(x)), y + XY0[1] + rng.uniform(-0.5, 0.5, len(y))
    angle = rng.uniform(0, 2 * np.pi, len(x))
    x = np.concatenate([x, x + PROFILE.fwhm * np.cos(angle)])
    y = np.concatenate([y, y + PROFILE.fwhm * np.sin(angle)])
    true = rng.normal(0.0, 3000.0, len(x))
    found, blended = forced.fluxes_at(exposure(scene(x, y, true, 660, 6), VARIANCE, PROFILE), x, y)
    pulls = (found.flux - true) / found.sigma
    assert blended.all() and len(pulls) > 200
    assert abs(pulls.mean()) < 0.2
    assert 0.9 < pulls.std() < 1.1
    assert (found.sigma > PROFILE.sigma_of_flux(VARIANCE)).all()  # a neighbour costs precision


def test_as_least_squares_over_every_pixel() -> None:
    """The slow way: one column a source over the whole image, without the bad pixels."""
    x = XY0[0] + np.array([40.3, 43.9, 41.0, 90.2])
    y = XY0[1] + np.array([50.1, 51.2, 54.6, 30.7])
    image = scene(x, y, np.array([4e3, -2e3, 1e3, 800.0]), 120, 7)
    image[49:52, 39] = np.nan
    columns = np.stack([draw(image.shape, PROFILE, *place, 1.0).ravel() for place in zip(x, y, strict=True)])
    good = np.isfinite(image.ravel())
    slow = np.linalg.lstsq(columns[:, good].T, image.ravel()[good], rcond=None)[0]
    error = np.sqrt(VARIANCE * np.diag(np.linalg.inv(columns[:, good] @ columns[:, good].T)))
    found, blended = forced.fluxes_at(exposure(image, VARIANCE, PROFILE), x, y)
    np.testing.assert_allclose(found.flux, slow, atol=0.2 * error.max())
    np.testing.assert_allclose(found.sigma, error, rtol=5e-3)
    assert blended.tolist() == [True, True, True, False]
    assert not found.edge.any() and not found.empty.any()


def test_two_at_one_place_share_the_flux() -> None:
    x, y = np.full(2, XY0[0] + 60.0), np.full(2, XY0[1] + 60.0)
    image = draw((120, 120), PROFILE, x[0], y[0], 1000.0)
    found, _ = forced.fluxes_at(exposure(image, VARIANCE, PROFILE), x, y)
    np.testing.assert_allclose(found.flux, 500.0, rtol=2e-3)
    assert np.isfinite(found.sigma).all()


def test_at_the_edge_beyond_it_and_where_all_is_bad() -> None:
    x, y = XY0[0] + np.array([1.0, -60.0, 80.0]), XY0[1] + np.array([60.0, 60.0, 60.0])
    image = draw((120, 120), PROFILE, x[0], y[0], 1000.0)
    image[:, 50:] = np.nan
    found, _ = forced.fluxes_at(exposure(image, VARIANCE, PROFILE), x, y)
    assert found.flux[0] == pytest.approx(1000.0, rel=2e-3)
    assert np.isnan(found.flux[1:]).all()
    assert found.edge.tolist() == [True, True, False] and found.empty.tolist() == [False, True, True]


def test_of_none() -> None:
    found, blended = forced.fluxes_at(exposure(np.zeros((50, 50)), 1.0, PROFILE), np.empty(0), np.empty(0))
    assert len(found.flux) == len(blended) == 0


def test_errors_on_a_convolved_image() -> None:
    """White noise convolved: the scatter of the fluxes is the error times the gain."""
    kernel = Profile(5.0, np.inf).stamp(0.0, 0.0, 31)
    kernel /= kernel.sum()
    white = np.random.default_rng(8).normal(0.0, 1.0, (1500, 1500))
    image = fftconvolve(white, kernel, mode="same")
    on = replace(exposure(image, float((kernel**2).sum()), PROFILE))
    grid = np.arange(40.0, 1460.0, 30.0)
    x, y = (values.ravel() for values in np.meshgrid(XY0[0] + grid, XY0[1] + grid))
    found, _ = forced.fluxes_at(on, x, y)
    spatial = LinearCombinationKernel(kernel[None], np.ones((1, 1)), (0.0, 0.0, 4e3, 4e3))
    gain = forced.noise_gain(on, spatial)
    assert gain > 1.5
    assert found.flux.std() == pytest.approx(gain * np.median(found.sigma), rel=0.04)


def test_a_chain_of_very_many() -> None:
    """400 sources, each in reach of the next ones: as one dense system, in a moment."""
    rng = np.random.default_rng(9)
    grid = np.arange(30.0, 190.0, 8.0)
    x, y = (
        values.ravel() + rng.uniform(-1.5, 1.5, 400) for values in np.meshgrid(grid + XY0[0], grid + XY0[1])
    )
    true = rng.normal(0.0, 3000.0, 400)
    image = exposure(scene(x, y, true, 220, 10), VARIANCE, PROFILE)
    found, blended = forced.fluxes_at(image, x, y)
    pulls = (found.flux - true) / found.sigma
    assert blended.all() and abs(pulls.mean()) < 0.2 and 0.9 < pulls.std() < 1.1
    part = design(image, x, y).profile.toarray()
    inverse = np.linalg.inv(part.T @ part)
    slow = inverse @ (part.T @ image.image.ravel()[design(image, x, y).pixels])
    np.testing.assert_allclose(found.flux, slow, atol=0.01 * found.sigma.min())
    np.testing.assert_allclose(found.sigma, np.sqrt(VARIANCE * np.diag(inverse)), rtol=0.02)
