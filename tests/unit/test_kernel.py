# SPDX-License-Identifier: BSD-3-Clause
"""Convolution with a varying kernel against the slow sum of its definition."""

import numpy as np
import pytest
import scipy.ndimage

from diffrun.engine.kernel import FOR_VARIANCE, correlate, low_rank, product, squared
from diffrun.files.afw.kernel import LinearCombinationKernel, chebyshev_terms

BOX = (99.5, 199.5, 159.5, 249.5)


def varying(rng, n=7, order=2):
    terms = (order + 1) * (order + 2) // 2
    return LinearCombinationKernel(rng.normal(size=(3, n, n)), rng.normal(size=(3, terms)), BOX)


def test_chebyshev_terms_are_those_of_afw():
    x, y = np.array([120.0]), np.array([210.0])
    u, v = (120 - 129.5) / 30, (210 - 224.5) / 25
    expected = [1, u, v, 2 * u * u - 1, u * v, 2 * v * v - 1]
    np.testing.assert_allclose(chebyshev_terms(x, y, 2, BOX)[0], expected)


def test_a_constant_kernel_is_a_plain_correlation():
    rng = np.random.default_rng(0)
    image = rng.normal(size=(50, 60)).astype(np.float32)
    stamp = rng.normal(size=(9, 5))
    kernel = LinearCombinationKernel(stamp[None], np.ones((1, 1)), BOX)
    expected = scipy.ndimage.correlate(image.astype(float), stamp, mode="constant")
    np.testing.assert_allclose(correlate(image, kernel, (100, 200)), expected, atol=2e-5)


def test_a_varying_kernel_is_taken_at_the_output_pixel():
    rng = np.random.default_rng(1)
    image = rng.normal(size=(50, 60)).astype(np.float32)
    kernel = varying(rng)
    result = correlate(image, kernel, (100, 200))
    padded = np.pad(image.astype(float), 3)
    for row, column in rng.integers(0, 50, (40, 2)):
        window = padded[row : row + 7, column : column + 7]
        expected = (kernel.at(column + 100, row + 200) * window).sum()
        assert result[row, column] == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("shape", [(9, 9), (7, 5), (1, 1)])
def test_a_small_kernel_for_variances_is_good_to_a_percent(shape):
    rng = np.random.default_rng(4)
    box = (-0.5, -0.5, 3999.5, 3999.5)
    coefficients = np.array([[1, 0.2, -0.1, 0.05, 0.1, 0.05], [0.1, 0.1, 0.1, 0.1, 0.1, 0.1]])
    kernel = LinearCombinationKernel(rng.uniform(0.5, 1, (2, *shape)), coefficients, box)
    image = rng.uniform(1, 2, (131, 1003)).astype(np.float32)
    result = correlate(image, kernel, (400, 700), FOR_VARIANCE)
    half_y, half_x = shape[0] // 2, shape[1] // 2
    padded = np.pad(image.astype(float), ((half_y, half_y), (half_x, half_x)))
    corners = [(0, 0), (130, 1002), (64, 63), (63, 64)]
    for row, column in [*corners, *zip(rng.integers(0, 131, 40), rng.integers(0, 1003, 40), strict=True)]:
        window = padded[row : row + shape[0], column : column + shape[1]]
        expected = (kernel.at(column + 400, row + 700) * window).sum()
        assert result[row, column] == pytest.approx(expected, rel=1e-2)


def test_a_kernel_of_one_pixel_scales_the_image():
    image = np.random.default_rng(5).normal(size=(40, 50)).astype(np.float32)
    kernel = LinearCombinationKernel(np.array([[[2.0]]]), np.array([[1, 0.5, -0.25]]), BOX)
    result = correlate(image, kernel, (100, 200))
    for row, column in ((0, 0), (39, 49), (20, 7)):
        expected = kernel.at(column + 100, row + 200)[0, 0] * image[row, column]
        assert result[row, column] == pytest.approx(expected, rel=1e-6)


def test_two_correlations_are_their_product():
    rng = np.random.default_rng(2)
    image = rng.normal(size=(50, 60)).astype(np.float32)
    first = LinearCombinationKernel(rng.normal(size=(1, 5, 5)), np.ones((1, 1)), BOX)
    second = LinearCombinationKernel(rng.normal(size=(1, 7, 7)), np.ones((1, 1)), BOX)
    twice = correlate(correlate(image, first, (100, 200)), second, (100, 200))
    once = correlate(image, product(first, second), (100, 200))
    np.testing.assert_allclose(once[6:-6, 6:-6], twice[6:-6, 6:-6], atol=1e-4)


def test_squares_of_a_linear_kernel_are_exact():
    kernel = varying(np.random.default_rng(3), order=1)
    for x, y in ((100, 200), (140, 222), (159, 249)):
        np.testing.assert_allclose(squared(kernel).at(x, y), kernel.at(x, y) ** 2, atol=1e-10)


def test_few_images_stand_for_a_kernel_that_varies_little():
    rng = np.random.default_rng(5)
    images = rng.normal(size=(2, 9, 9))
    coefficients = np.array([[1.0, 0.1, -0.2, 0.05, 0.0, 0.02], [0.0, 0.3, 0.1, 0.0, 0.2, 0.1]])
    kernel = LinearCombinationKernel(images, coefficients, BOX)
    few, mixing = low_rank(kernel, 1e-6)
    assert len(few) == 2
    along = np.array([1.0, 0.3, 2 * 0.3**2 - 1])
    x, y = (BOX[0] + BOX[2]) / 2 + 0.3 * 30, (BOX[1] + BOX[3]) / 2 + 0.3 * 25
    rebuilt = np.tensordot(along @ mixing @ along, few, axes=1)
    np.testing.assert_allclose(rebuilt, kernel.at(x, y), atol=1e-5)


def test_a_tolerance_is_kept():
    kernel = varying(np.random.default_rng(6))
    image = np.random.default_rng(7).normal(size=(50, 60)).astype(np.float32)
    exact, coarse = (correlate(image, kernel, (100, 200), tolerance) for tolerance in (0.0, 0.1))
    size = np.sqrt((kernel.at(130, 225) ** 2).sum())
    assert np.std(coarse - exact) < 0.2 * size
