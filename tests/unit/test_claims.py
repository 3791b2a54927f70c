# SPDX-License-Identifier: BSD-3-Clause
"""Stars contradict a file whose PSF or zero point is wrong."""

import numpy as np
import pytest

from diffrun.engine import quality
from diffrun.engine.candidates import Candidates
from diffrun.engine.claims import claims, psf_flux_ratio
from diffrun.files.afw.exposure import Exposure
from diffrun.files.afw.kernel import LinearCombinationKernel
from diffrun.files.afw.psf import KernelPsf

N, SIGMA, NOISE = 400, 2.4, 30.0


def gaussian(dx, dy, sigma):
    return np.exp(-0.5 * (dx**2 + dy**2) / sigma**2) / (2 * np.pi * sigma**2)


def psf(sigma):
    """A constant PSF on 41 x 41 pixels."""
    y, x = np.mgrid[-20:21, -20:21]
    stamp = gaussian(x, y, sigma)
    box = (-0.5, -0.5, N - 0.5, N - 0.5)
    return KernelPsf(LinearCombinationKernel(stamp[None] / stamp.sum(), np.ones((1, 1)), box), (N / 2, N / 2))


@pytest.fixture(scope="module")
def field():
    """Stars of S/N 60 to 600 on a sloping sky, and their places, parent pixels."""
    rng = np.random.default_rng(3)
    places = [(c, r) for c in range(40, N - 39, 40) for r in range(40, N - 39, 40)]
    x, y = (np.array(a) + rng.uniform(-0.5, 0.5, len(a)) for a in zip(*places, strict=True))
    yy, xx = np.mgrid[:N, :N]
    image = rng.normal(0, NOISE, (N, N)) + 0.1 * xx
    flux = NOISE * 8.5 * 10 ** rng.uniform(1.8, 2.8, len(x))
    for column, row, f in zip(x, y, flux, strict=True):
        image += f * gaussian(xx - column, yy - row, SIGMA)
    variance = np.full((N, N), NOISE**2, np.float32)
    exposure = Exposure(
        image.astype(np.float32), np.zeros((N, N), np.int32), variance, wcs=None, xy0=(100, 50)
    )
    return exposure, Candidates(x + 100, y + 50, flux / (8.5 * NOISE), {})


@pytest.mark.parametrize("factor", [0.9, 1.0, 1.03, 1.1])
def test_a_wrong_psf_is_measured(field, factor):
    """A Gaussian of sigma m in place of s has the flux 2 m^2 / (s^2 + m^2) and another share in apertures."""
    exposure, stars = field
    ratio = psf_flux_ratio(exposure, psf(SIGMA * factor), 2.3548 * SIGMA, stars)
    ours, theirs = 1 - np.exp(-0.5 * (1.5 * 2.3548 / np.array([factor, 1])) ** 2)
    assert ratio == pytest.approx(2 * factor**2 / (1 + factor**2) * ours / theirs, abs=0.004)


def test_a_few_stars_that_are_none_do_no_harm(field):
    exposure, stars = field
    image = exposure.image.copy()
    for x, y in zip(stars.x[::4], stars.y[::4], strict=True):
        image[round(y) - 50 + 6, round(x) - 100] += 2e5
    ratio = psf_flux_ratio(exposure.replace(image=image), psf(SIGMA), 2.3548 * SIGMA, stars)
    assert ratio == pytest.approx(1, abs=0.004)


def test_too_few_stars_tell_nothing(field):
    exposure, stars = field
    few = Candidates(stars.x[:4], stars.y[:4], stars.snr[:4], {})
    assert np.isnan(psf_flux_ratio(exposure, psf(SIGMA), 2.3548 * SIGMA, few))
    masked = exposure.replace(mask=np.full((N, N), exposure.bits("SAT"), np.int32))
    assert np.isnan(psf_flux_ratio(masked, psf(SIGMA), 2.3548 * SIGMA, stars))
    assert claims(masked, psf(SIGMA), SIGMA, stars, float("nan")) == {}


@pytest.mark.parametrize(
    ("factor", "scale", "said"),
    [(1.0, 1.01, ()), (1.06, 1.01, ("by the PSF",)), (1.0, 1.2, ("zero points",))],
)
def test_what_is_wrong_is_said(field, factor, scale, said):
    exposure, stars = field
    lines = quality.warnings(claims(exposure, psf(SIGMA * factor), SIGMA, stars, scale))
    assert len(lines) == len(said)
    assert all(words in line for words, line in zip(said, lines, strict=True))
