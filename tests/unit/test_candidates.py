# SPDX-License-Identifier: BSD-3-Clause
"""The choice of kernel candidates."""

import numpy as np
import pytest

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
