# SPDX-License-Identifier: BSD-3-Clause
"""The fit of the matching kernel on images made with a known kernel."""

import numpy as np
import pytest

from diffrun.engine.basis import gaussian_basis, matching_sigmas
from diffrun.engine.candidates import Candidates
from diffrun.engine.kernelstamps import cut
from diffrun.engine.orders import affordable_order
from diffrun.engine.solve import solve
from diffrun.errors import NoStarsError
from diffrun.files.afw.exposure import Exposure

N = 512
BOX = (-0.5, -0.5, N - 0.5, N - 0.5)
NARROW, RATIO, SKY = 1.6, 1.07, 1000.0


def wide(x):
    """Sigma of the wide image, growing by 6 % over the field."""
    return 2.4 * (1 + 0.06 * x / N)


def pair(seed, stars=60, brightest=2e5, variable=0):
    """Two noisy images of Gaussian stars; returns them and the positions."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(45, N - 45, (2, stars))
    flux = brightest * 10 ** rng.uniform(-1.2, 0, stars)
    factor = np.ones(stars)
    factor[:variable] = rng.uniform(0.3, 3.0, variable)
    images = []
    for sigma, scale in ((lambda _: NARROW, np.ones(stars)), (wide, RATIO * factor)):
        image = np.full((N, N), SKY)
        for xi, yi, fi in zip(x, y, flux * scale, strict=True):
            rows, columns = slice(int(yi) - 25, int(yi) + 26), slice(int(xi) - 25, int(xi) + 26)
            yy, xx = np.mgrid[rows, columns]
            s = sigma(xi)
            profile = np.exp(-0.5 * ((xx - xi) ** 2 + (yy - yi) ** 2) / s**2) / (2 * np.pi * s**2)
            image[rows, columns] += fi * profile
        counts = rng.poisson(image).astype(np.float32)
        images.append(Exposure(counts - np.float32(SKY), np.zeros((N, N), np.int32), counts, wcs=None))
    return images, Candidates(x, y, flux, {})


def fit(images, candidates, order=1):
    basis = gaussian_basis(25, matching_sigmas(NARROW, wide(N / 2)), (4, 2, 2))
    return solve(cut(images[0], images[1], candidates, basis, 22), basis, BOX, order)


def test_the_kernel_sum_is_the_flux_ratio():
    sums = [fit(*pair(seed)).kernel.at(256, 256).sum() for seed in range(3)]
    assert np.mean(sums) == pytest.approx(RATIO, rel=0.001)


def test_faint_stars_do_not_draw_the_sum_down():
    """The template's own noise would take off 3 % here if it were not accounted for."""
    sums = [fit(*pair(seed, brightest=2e4)).kernel.at(256, 256).sum() for seed in range(4)]
    assert np.mean(sums) == pytest.approx(RATIO, rel=0.01)


def test_the_width_follows_the_field():
    solution = fit(*pair(5, brightest=6e5))
    u = np.arange(25) - 12
    for x in (50.0, 256.0, 460.0):
        kernel = solution.kernel.at(x, 256)
        variance = (kernel * u[None, :] ** 2).sum() / kernel.sum()
        assert variance == pytest.approx(wide(x) ** 2 - NARROW**2, rel=0.05)


def test_residuals_are_noise():
    solution = fit(*pair(6))
    assert np.median(solution.chi2) == pytest.approx(1, abs=0.05)
    assert solution.used.mean() > 0.9


def test_variable_stars_are_left_out():
    images, candidates = pair(7, variable=6)
    solution = fit(images, candidates)
    assert solution.used[6:].mean() > 0.9
    assert solution.kernel.at(256, 256).sum() == pytest.approx(RATIO, rel=0.005)


def clouded(images, ratio):
    """The second image with its signal times a factor of the column."""
    factor = ratio(np.arange(N)).astype(np.float32)
    return [images[0], images[1].replace(image=images[1].image * factor)]


def test_a_scale_that_is_the_same_everywhere_is_found_constant():
    solution = fit(*pair(10), order=2)
    assert solution.sum_order == 0
    assert solution.order >= 1
    assert solution.mismatch < 0.02


def test_clouds_are_followed():
    """A tenth from one side of the field to the other."""
    images, candidates = pair(11, brightest=6e5)
    images = clouded(images, lambda x: 0.95 + 0.1 * x / N)
    solution = fit(images, candidates, order=2)
    assert solution.sum_order == 1
    for x in (100, 256, 400):
        expected = RATIO * (0.95 + 0.1 * x / N)
        assert solution.kernel.at(x, 256).sum() == pytest.approx(expected, rel=0.005)


def test_what_is_asked_for_literally_is_taken():
    """The clouds would ask for an order of the sum, and nothing for the second order of the kernel."""
    images, candidates = pair(11, brightest=6e5)
    images = clouded(images, lambda x: 0.95 + 0.1 * x / N)
    basis = gaussian_basis(25, matching_sigmas(NARROW, wide(N / 2)), (4, 2, 2))
    solution = solve(cut(images[0], images[1], candidates, basis, 22), basis, BOX, 2, literal=True)
    assert (solution.order, solution.sum_order) == (2, 0)
    sums = [solution.kernel.at(x, y).sum() for x, y in ((10, 10), (500, 20), (256, 400))]
    assert np.ptp(sums) < 1e-9


def test_the_mismatch_is_the_error_of_the_model():
    """Each pixel's light is off by 5 % of itself, at random."""
    images, candidates = pair(12, brightest=6e5)
    good = fit(images, candidates).mismatch
    off = 1 + 0.05 * np.random.default_rng(1).normal(size=(N, N)).astype(np.float32)
    images[1] = images[1].replace(image=images[1].image * off)
    assert good < 0.01
    assert 0.03 < fit(images, candidates).mismatch < 0.06


def test_variable_stars_feign_no_clouds():
    """Stars off by up to 4 %, which no clipping sees, and a gradient in them by chance."""
    images, candidates = pair(13, brightest=3e5)
    factor = np.ones((N, N), np.float32)
    off = np.random.default_rng(1).uniform(-0.04, 0.04, len(candidates))
    for x, y, part in zip(candidates.x, candidates.y, off, strict=True):
        column, row = round(x), round(y)
        factor[max(row - 12, 0) : row + 13, max(column - 12, 0) : column + 13] = 1 + part
    images[1] = images[1].replace(image=images[1].image * factor)
    assert fit(images, candidates, order=2).sum_order == 0


def test_changes_beside_the_stars_are_not_in_the_kernel():
    """Something of S/N 15 that only the second image has, at the same place beside every fourth star."""
    images, candidates = pair(14, brightest=6e5)
    image, (yy, xx) = images[1].image.copy(), np.mgrid[:N, :N]
    for x, y in zip(candidates.x[::4], candidates.y[::4], strict=True):
        profile = np.exp(-0.5 * ((xx - x - 10) ** 2 + (yy - y) ** 2) / wide(x) ** 2)
        image += (110 * profile).astype(np.float32)
    images[1] = images[1].replace(image=image)
    kernel = fit(images, candidates).kernel.at(256, 256)
    assert kernel.sum() == pytest.approx(RATIO, rel=0.003)
    assert abs(kernel[:, 19:].sum() - kernel[:, :6].sum()) < 0.0007


@pytest.mark.parametrize(("count", "order"), [(1, 0), (5, 0), (6, 1), (11, 1), (12, 2), (100, 2)])
def test_few_candidates_lower_the_order(count, order):
    assert affordable_order(count, 2) == order


def test_three_stars_give_a_constant_kernel():
    images, candidates = pair(8, stars=3, brightest=1e6)
    solution = fit(images, candidates)
    assert solution.order == 0
    assert solution.kernel.at(256, 256).sum() == pytest.approx(RATIO, rel=0.02)


def test_no_usable_pixel_is_refused():
    images, candidates = pair(9, stars=10)
    blocked = images[1].replace(mask=np.full((N, N), 1 << 1, np.int32))
    with pytest.raises(NoStarsError, match="none of 10 kernel candidates"):
        fit([images[0], blocked], candidates)
