# SPDX-License-Identifier: BSD-3-Clause
"""The PSF of an exposure from its own stars: principal components with Chebyshev coefficients.

The form is that of meas_algorithms' ``pcaPsfDeterminer`` (afw.md 2.3): component 0 has sum 1, every other
one sum 0, and its weight varies as a Chebyshev polynomial over the image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from visits import SIZE, STAMP, XY0

from diffrun.files.afw.kernel import LinearCombinationKernel, chebyshev_terms
from diffrun.files.afw.psf import KernelPsf, psf_image

Array = NDArray[np.float64]
HALF = STAMP // 2
COMPONENTS = 3  # beside the mean
LIMITS = (20.0, 8.0, 3.0, 1.5, 1.5)  # reduced chi squared a star may have, round by round
GRID = 2.0**-28  # components are stored as multiples of it, so that no last bit of a fit is kept


@dataclass(frozen=True)
class Stars:
    """PSF stars: parent positions, cut-outs with variance, and which pixels are theirs."""

    x: Array
    y: Array
    data: Array  # (n, STAMP, STAMP)
    variance: Array
    good: NDArray[np.bool_]


def lanczos_shift(image: Array, dx: float, dy: float) -> Array:
    """The image moved by (dx, dy) pixels, |d| <= 0.5, with Lanczos-5, as afw's ``offsetImage`` does."""
    return np.asarray(_taps(image.shape[0], dy) @ image @ _taps(image.shape[1], dx).T)


def _taps(n: int, shift: float) -> Array:
    """Row i holds the weights with which output pixel i gathers input pixels."""
    t = np.arange(n)[:, None] - np.arange(n)[None, :] - shift
    weights = np.where(np.abs(t) < 5, np.sinc(t) * np.sinc(t / 5), 0.0)
    taps = np.arange(-5, 6) - shift
    total = np.sum(np.where(np.abs(taps) < 5, np.sinc(taps) * np.sinc(taps / 5), 0.0))
    return np.asarray(weights / total)


def cut(image: Array, x: float, y: float) -> Array:
    """The stamp around the pixel nearest to a parent position; it must lie inside the image."""
    ix, iy = int(np.floor(x + 0.5)) - XY0[0], int(np.floor(y + 0.5)) - XY0[1]
    return image[iy - HALF : iy + HALF + 1, ix - HALF : ix + HALF + 1]


def fit_psf(stars: Stars) -> tuple[KernelPsf, NDArray[np.bool_]]:
    """Fit the PSF; returns it and which stars were used in the end."""
    x, y = stars.x.copy(), stars.y.copy()
    used = np.ones(len(x), bool)
    psf = _first(stars)
    for allowed in LIMITS:
        flux, x, y, chi2 = _refine(psf, stars, x, y)
        limit = np.median(chi2[used]) + 3 * 1.4826 * np.median(np.abs(chi2[used] - np.median(chi2[used])))
        used = (chi2 < max(limit, allowed)) & (np.hypot(x - stars.x, y - stars.y) < 1.0)
        psf = _solve(psf, stars, flux, x, y, used)
    return psf, used


def _constant(image: Array) -> KernelPsf:
    box = (float(XY0[0]), float(XY0[1]), float(XY0[0] + SIZE), float(XY0[1] + SIZE))
    kernel = LinearCombinationKernel(image[None] / image.sum(), np.ones((1, 1)), box)
    return KernelPsf(kernel, (XY0[0] + (SIZE - 1) / 2, XY0[1] + (SIZE - 1) / 2))


def _first(stars: Stars) -> KernelPsf:
    """The mean of the stars, each moved onto the middle of its stamp."""
    total = np.zeros((STAMP, STAMP))
    for x, y, data, good in zip(stars.x, stars.y, stars.data, stars.good, strict=True):
        clean = np.where(good, data, 0.0)
        total += lanczos_shift(clean, np.floor(x + 0.5) - x, np.floor(y + 0.5) - y)
    return _constant(total)


def _refine(psf: KernelPsf, stars: Stars, x: Array, y: Array) -> tuple[Array, Array, Array, Array]:
    """Flux, position and reduced chi squared of every star under the present PSF."""
    flux, chi2, new_x, new_y = np.zeros(len(x)), np.zeros(len(x)), x.copy(), y.copy()
    for i in range(len(x)):
        for _ in range(2):
            model = psf_image(psf, new_x[i], new_y[i])[0]
            inner = np.hypot(*np.mgrid[-HALF : HALF + 1, -HALF : HALF + 1]) < HALF
            weight = np.where(stars.good[i] & inner, 1 / stars.variance[i], 0.0)
            slopes = np.gradient(model)
            terms = np.stack([model, -slopes[1], -slopes[0]]).reshape(3, -1)
            normal = (terms * weight.ravel()) @ terms.T
            found = np.linalg.solve(normal, (terms * weight.ravel()) @ stars.data[i].ravel())
            flux[i] = found[0]
            new_x[i] = np.clip(new_x[i] + found[1] / found[0], stars.x[i] - 0.49, stars.x[i] + 0.49)
            new_y[i] = np.clip(new_y[i] + found[2] / found[0], stars.y[i] - 0.49, stars.y[i] + 0.49)
        residual = stars.data[i] - flux[i] * psf_image(psf, new_x[i], new_y[i])[0]
        softened = stars.variance[i] + (0.02 * flux[i] * model) ** 2
        chi2[i] = np.mean((residual**2 / softened)[weight > 0])
    return flux, new_x, new_y, chi2


def _solve(
    psf: KernelPsf, stars: Stars, flux: Array, x: Array, y: Array, used: NDArray[np.bool_]
) -> KernelPsf:
    """New components from the centred stars, then the Chebyshev coefficients of their weights."""
    images, errors = [], []
    for i in np.nonzero(used)[0]:
        here = psf_image(psf, x[i], y[i])[0]
        ix, iy = np.floor(stars.x[i] + 0.5), np.floor(stars.y[i] + 0.5)
        clean = np.where(stars.good[i], stars.data[i] / flux[i], here)
        images.append(lanczos_shift(clean, ix - x[i], iy - y[i]))
        errors.append(stars.variance[i] / flux[i] ** 2 + (0.01 * here) ** 2)
    data, error = np.stack(images), np.stack(errors)
    weight = 1 / error
    mean = np.sum(data * weight, axis=0) / np.sum(weight, axis=0)
    mean = _centred(mean / mean.sum())
    data = data - _drift(data, mean, weight)
    share = 1 / np.sqrt(np.mean(error, axis=(1, 2)))
    left = ((data - mean) * share[:, None, None]).reshape(len(data), -1)
    eigen = np.linalg.svd(left, full_matrices=False)[2][:COMPONENTS].reshape(-1, STAMP, STAMP)
    eigen = eigen - mean * eigen.sum(axis=(1, 2))[:, None, None]
    eigen = eigen / np.abs(eigen).max(axis=(1, 2))[:, None, None] * mean.max()
    parts = np.rint(np.concatenate([mean[None], eigen]) / GRID) * GRID
    return _place(parts, data, weight, x[used], y[used], psf)


def _centred(image: Array) -> Array:
    """The image with its centroid, under a Gaussian window, on the middle pixel.

    Positions and PSF are fitted in turn, so that without this both could drift together.
    """
    y, x = np.mgrid[-HALF : HALF + 1, -HALF : HALF + 1].astype(float)
    for _ in range(3):
        weight = image * np.exp(-(x * x + y * y) / (2 * 2.5**2))
        dx, dy = np.sum(weight * x) / np.sum(weight), np.sum(weight * y) / np.sum(weight)
        image = lanczos_shift(image, -2 * float(dx), -2 * float(dy))
    return image / image.sum()


def _drift(data: Array, mean: Array, weight: Array) -> Array:
    """The part of each star that is the mean moved sideways: an error of its position, not of its shape."""
    slopes = np.stack([mean, *np.gradient(mean)]).reshape(3, -1)
    moved = np.zeros_like(data)
    for i, (star, w) in enumerate(
        zip(data.reshape(len(data), -1), weight.reshape(len(data), -1), strict=True)
    ):
        found = np.linalg.solve((slopes * w) @ slopes.T, (slopes * w) @ star)
        moved[i] = (found[1:] @ slopes[1:]).reshape(mean.shape)
    return moved


def _place(parts: Array, data: Array, weight: Array, x: Array, y: Array, psf: KernelPsf) -> KernelPsf:
    """Least squares for the Chebyshev coefficients of all components but the first, whose weight is 1."""
    order = 2 if len(x) >= 60 else 1
    terms = chebyshev_terms(x, y, order, psf.kernel.box)
    n_parts, n_terms = len(parts) - 1, terms.shape[1]
    normal, right = np.zeros((n_parts * n_terms,) * 2), np.zeros(n_parts * n_terms)
    flat = parts[1:].reshape(n_parts, -1)
    for star, w, term in zip(data - parts[0], weight, terms, strict=True):
        inner = (flat * w.ravel()) @ flat.T
        normal += np.kron(inner, np.outer(term, term))
        right += np.kron((flat * w.ravel()) @ star.ravel(), term)
    solved = np.linalg.solve(normal, right).reshape(n_parts, n_terms)
    first = np.zeros((1, n_terms))
    first[0, 0] = 1.0
    coefficients = np.rint(np.concatenate([first, solved]) * 2**20) / 2**20
    return KernelPsf(LinearCombinationKernel(parts, coefficients, psf.kernel.box), psf.average_position)
