# SPDX-License-Identifier: BSD-3-Clause
"""The choice of kernel candidates."""

import numpy as np
import pytest
from scipy.ndimage import correlate

from diffrun.engine import candidates as stars
from diffrun.errors import NoStarsError
from diffrun.files.afw.exposure import Exposure


def field(seed, factor=1.0, n=300, count=40):
    rng = np.random.default_rng(0)
    x, y = rng.uniform(30, n - 30, (2, count))
    flux = 10 ** rng.uniform(4.0, 5.0, count) * factor
    yy, xx = np.mgrid[:n, :n]
    image = np.full((n, n), 100.0)
    for xi, yi, fi in zip(x, y, flux, strict=True):
        image += fi / (8 * np.pi) * np.exp(-((xx - xi) ** 2 + (yy - yi) ** 2) / 8)
    counts = np.random.default_rng(seed).poisson(image).astype(np.float32)
    exposure = Exposure(counts, np.zeros((n, n), np.int32), counts, wcs=None)
    return exposure, stars.Candidates(x, y, flux / 100, {})


def test_variable_stars_are_found_by_their_flux_ratio():
    factor = np.ones(40)
    factor[:6] = [0.5, 0.8, 1.3, 2.0, 0.7, 1.5]
    (science, found), (template, _) = field(1, factor), field(2)
    kept = stars.constant(found, science, template, radius=6.0)
    assert kept.rejected["variable"] >= 6
    assert not set(kept.x) & set(found.x[:6])
    assert len(kept) >= 30


def test_a_sky_that_varies_is_followed():
    """Thin clouds: a tenth from one side to the other, with a fifth of the stars variable."""
    rng = np.random.default_rng(4)
    x, y = rng.uniform(0, 4000, (2, 300))
    true = 0.95 * (1 + 0.10 * x / 4000 - 0.03 * (y / 4000) ** 2)
    error = rng.uniform(0.003, 0.02, 300)
    ratio = true * (1 + error * rng.normal(size=300))
    ratio[::5] *= rng.uniform(0.5, 2.0, 60)
    common = stars.common_ratio(x, y, ratio, error)
    np.testing.assert_allclose(common, true, rtol=0.01)
    flat = stars.common_ratio(x, y, ratio / true, error)
    np.testing.assert_allclose(flat, 1, rtol=0.005)
    assert np.ptp(flat) == pytest.approx(0, abs=1e-9)


def test_stars_are_found_without_src():
    """Against a matched filter with the true profile; a gradient of the sky is no source."""
    exposure, true = field(3, n=600, count=60)
    exposure = exposure.replace(
        image=exposure.image - np.float32(100) + np.linspace(0, 100, 600, dtype=np.float32)
    )
    u = np.arange(-9, 10)
    profile = np.exp(-(u**2) / 8.0)
    power = (profile[:, None] * profile) ** 2 / (8 * np.pi) ** 2
    variance = correlate(exposure.variance, power / power.sum(), mode="nearest")
    snr = (
        true.snr
        * 100
        * np.sqrt(power.sum() / variance[np.rint(true.y).astype(int), np.rint(true.x).astype(int)])
    )
    found = stars.from_image(exposure, fwhm=4.7, minimum_snr=20)
    distance = np.hypot(found.x[:, None] - true.x, found.y[:, None] - true.y)
    lonely = np.sort(np.hypot(true.x[:, None] - true.x, true.y[:, None] - true.y))[:, 1] > 12
    assert (distance.min(axis=0)[lonely & (snr > 25)] < 0.5).all()
    assert (distance.min(axis=1) < 5).all()
    nearest = distance.argmin(axis=0)
    np.testing.assert_allclose(found.snr[nearest][lonely & (snr > 25)], snr[lonely & (snr > 25)], rtol=0.15)


@pytest.mark.parametrize("seed", range(5))
def test_the_mode_is_where_most_are(seed):
    rng = np.random.default_rng(seed)
    values = np.concatenate([rng.normal(1.0, 0.01, 30), rng.uniform(0, 3, 25)])
    assert stars.half_sample_mode(values) == pytest.approx(1.0, abs=0.03)


def test_an_unusable_pixel_in_the_core_is_enough():
    science, found = field(1)
    mask = science.mask.copy()
    mask[round(found.y[3]) + 2, round(found.x[3])] = 1 << 1
    kept = stars.with_clean_cores(found, [science, science.replace(mask=mask)], core=5.0, border=6)
    assert found.x[3] not in kept.x
    assert kept.rejected == {"unusable pixels": 1}


def test_each_cell_gives_its_brightest():
    exposure, _ = field(1)
    x, y = np.array([10.0, 20, 30, 200]), np.array([10.0, 20, 30, 200])
    kept = stars.spread(stars.Candidates(x, y, np.array([5.0, 9, 7, 1]), {}), exposure, 128, 128, 2)
    np.testing.assert_array_equal(kept.snr, [9, 7, 1])


def test_too_few_are_refused_with_the_causes():
    none = stars.Candidates(*np.zeros((3, 0)), {"faint": 4, "variable": 2})
    with pytest.raises(
        NoStarsError, match=r"0 kernel candidates in common, 1 needed \(4 faint, 2 variable\)"
    ):
        stars.require(none, 1, "in common")
