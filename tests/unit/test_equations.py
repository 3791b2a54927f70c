# SPDX-License-Identifier: BSD-3-Clause
"""Stamps and normal equations of the kernel against plain least squares, pixel by pixel."""

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, correlate

from diffrun.engine.basis import gaussian_basis
from diffrun.engine.candidates import Candidates
from diffrun.engine.equations import debiased, equations, over_field
from diffrun.engine.kernelstamps import cut
from diffrun.engine.orders import Orders
from diffrun.files.afw.exposure import Exposure
from diffrun.files.afw.kernel import chebyshev_terms

N, HALF, XY0 = 90, 8, (40, 70)
BOX = (40.0, 70.0, 130.0, 160.0)
BASIS = gaussian_basis(9, (0.8, 1.6), (2, 1), wing=3.0)


def noise_image(seed, xy0=XY0):
    rng = np.random.default_rng(seed)
    image = correlate(rng.normal(size=(N, N)), np.ones((3, 3))) * 50
    mask = np.zeros((N, N), np.int32)
    mask[50, 30] = 1 << 1
    variance = rng.uniform(1, 2, (N, N))
    return Exposure(image.astype(np.float32), mask, variance.astype(np.float32), wcs=None, xy0=xy0)


@pytest.fixture(scope="module")
def stamps():
    """Some in the middle, two that reach over a border."""
    x, y = np.array([70.0, 75.4, 100.0, 44.0, 127.0]), np.array([118.0, 121.0, 90.0, 100.0, 157.0])
    found = Candidates(x, y, np.ones(5), {})
    return cut(noise_image(1), noise_image(2), found, BASIS, HALF)


def test_stamps_are_windows_of_the_convolved_image(stamps):
    convolved, target = noise_image(1), noise_image(2)
    whole = np.stack(
        [correlate(convolved.image.astype(float), image, mode="constant") for image in BASIS.images]
    )
    bad = binary_dilation(convolved.mask != 0, np.ones((7, 7))) | (target.mask != 0)
    offset_y, offset_x = np.mgrid[-HALF : HALF + 1, -HALF : HALF + 1]
    disc = np.hypot(offset_x, offset_y) <= HALF + 0.5
    for i, (x, y) in enumerate(zip(stamps.x, stamps.y, strict=True)):
        rows, columns = round(y) - XY0[1] + offset_y[disc], round(x) - XY0[0] + offset_x[disc]
        inside = (rows >= 0) & (rows < N) & (columns >= 0) & (columns < N)
        at = rows[inside], columns[inside]
        np.testing.assert_allclose(stamps.design[i][:, inside], whole[:, *at], atol=2e-4)
        np.testing.assert_array_equal(stamps.target[i][inside], target.image[at])
        np.testing.assert_array_equal(stamps.target_variance[i][inside], target.variance[at])
        np.testing.assert_array_equal(stamps.convolved_variance[i][inside], convolved.variance[at])
        margin = np.minimum.reduce([rows, columns, N - 1 - rows, N - 1 - columns])[inside]
        np.testing.assert_array_equal(stamps.usable[i][inside], ~bad[at] & (margin >= 3))
        assert not stamps.usable[i][~inside].any()


def weights_of(stamps, seed):
    rng = np.random.default_rng(seed)
    return np.where(stamps.usable, rng.uniform(0.5, 1.5, stamps.usable.shape), 0).astype(np.float32)


def test_equations_of_the_field_are_those_of_all_pixels(stamps):
    """A background of its own for each stamp, a varying kernel and its sum, as one long linear model."""
    weights, share = weights_of(stamps, 3), np.array([1.0, 0.5, 0.7, 1.0, 0.0])
    orders = Orders(1, 1, True)
    terms = chebyshev_terms(stamps.x, stamps.y, 1, BOX)
    free = orders.free(BASIS, terms.shape[1])
    field = over_field(equations(stamps, weights, True), share, terms, np.zeros_like(BASIS.gram))
    coefficients, _ = field.solution(free)

    rows, values, roots = [], [], []
    for i in range(len(stamps)):
        columns = np.einsum("bp,t->pbt", stamps.design[i].astype(float), terms[i])[:, free]
        background = np.zeros((len(columns), len(stamps)))
        background[:, i] = 1
        rows.append(np.hstack([columns, background]))
        values.append(stamps.target[i])
        roots.append(np.sqrt(weights[i] * share[i]))
    root = np.concatenate(roots)
    expected = np.linalg.lstsq(np.vstack(rows) * root[:, None], np.concatenate(values) * root, rcond=1e-12)[0]
    model, direct = np.vstack(rows)[:, : free.sum()] @ coefficients[free], np.vstack(rows) @ expected
    backgrounds = np.vstack(rows)[:, free.sum() :] @ expected[free.sum() :]
    np.testing.assert_allclose((model * root), (direct - backgrounds) * root, atol=1e-3)
    np.testing.assert_allclose(field.plain_solution(free)[free], coefficients[free], rtol=1e-3, atol=1e-6)
    assert not coefficients[~free].any()


def test_deviances_are_squares_of_residuals(stamps):
    weights = weights_of(stamps, 4)
    made = equations(stamps, weights, False)
    coefficients = np.random.default_rng(5).normal(size=(len(stamps), len(BASIS.mixing)))
    which = np.array([0, 2, 3])
    for value, i in zip(made.deviances(coefficients[which], which), which, strict=True):
        residual = stamps.target[i] - coefficients[i] @ stamps.design[i].astype(float)
        assert value == pytest.approx((weights[i].astype(float) * residual**2).sum(), rel=1e-6)


def test_only_changed_stamps_are_made_again(stamps):
    weights = weights_of(stamps, 6)
    made = equations(stamps, weights, True)
    first = made.matrix.copy()
    changed = weights * np.float32(1.001)
    changed[2, np.flatnonzero(changed[2])[:5]] = 0
    again = equations(stamps, changed, True, made)
    same = np.array([0, 1, 3, 4])
    np.testing.assert_array_equal(again.matrix[same], first[same])
    np.testing.assert_array_equal(again.weights[same], weights[same])
    np.testing.assert_array_equal(again.matrix[2], equations(stamps, changed, True).matrix[2])


def test_noise_in_the_columns_is_taken_off():
    """A straight line through points whose abscissae have noise of a known size: Fuller 1987, 1.2."""
    rng = np.random.default_rng(7)
    true = rng.normal(size=100_000)
    seen = true + rng.normal(scale=0.5, size=len(true))
    values = 3 * true + rng.normal(size=len(true))
    matrix, vector = np.array([[seen @ seen]]), np.array([seen @ values])
    assert vector / matrix[0] == pytest.approx(3 / 1.25, rel=0.01)
    slope, _ = debiased(matrix, np.array([[0.25 * len(true)]]), vector)
    assert slope == pytest.approx(3, rel=0.01)
