# SPDX-License-Identifier: BSD-3-Clause
"""PSF fluxes at given places, where neighbours that overlap are fitted together."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from diffrun.engine.fluxes import Fluxes
from diffrun.engine.smoothpsf import full_convolution
from diffrun.engine.stamps import Floats, cut, kernel_images, nearest_pixel, shifted
from diffrun.files.afw.exposure import Exposure
from diffrun.files.afw.kernel import LinearCombinationKernel

Bools = NDArray[np.bool_]
#: Sources that are fitted at a time, where no more are neighbours of each other.
_CHUNK = 256
#: Two PSFs overlap that share this part of their power, Σ m₁ m₂ / √(Σ m₁² Σ m₂²): 2.2 FWHM of a Gaussian.
_OVERLAP = 1e-3
#: Smallest eigenvalue of a group of neighbours, of its largest, that is told from 0.
_SINGULAR = 1e-6


def fluxes_at(exposure: Exposure, x: Floats, y: Floats) -> tuple[Fluxes, Bools]:
    """PSF fluxes at parent positions, those of neighbours by one least squares fit of all their PSFs.

    Alone, a source has the flux of `diffrun.engine.fluxes.weigh`: f = Σ m d / Σ m². Neighbours have
    f = (MᵀM)⁻¹ Mᵀ d with one column of M for each, and the covariance (MᵀM)⁻¹ MᵀVM (MᵀM)⁻¹.

    Parameters
    ----------
    exposure : `Exposure`
        With a PSF.
    x, y : `numpy.ndarray`, (N,)

    Returns
    -------
    fluxes : `Fluxes`
    blended : `numpy.ndarray`, (N,), bool
        What was fitted together with a neighbour.
    """
    flux, sigma = np.full((2, len(x)), np.nan)
    empty, edge, blended = np.ones((3, len(x)), bool)
    for some in _batches(x, y, _reach(exposure)):
        found, blended[some] = _fit(exposure, x[some], y[some])
        flux[some], sigma[some] = found.flux, found.sigma
        empty[some], edge[some] = found.empty, found.edge
    return Fluxes(flux, sigma, empty, edge), blended


def _reach(exposure: Exposure) -> float:
    """Distance in pixels beyond which two PSFs do not overlap, by the PSF in the middle of the field."""
    stamp = exposure.psf.kernel_image(*exposure.psf.average_position)
    overlap = full_convolution(stamp, stamp[::-1, ::-1])
    rows, columns = np.nonzero(overlap > _OVERLAP / 2 * overlap.max())
    middle = (len(overlap) - 1) / 2
    return float(np.hypot(rows - middle, columns - middle).max())


def _batches(x: Floats, y: Floats, reach: float) -> Iterator[NDArray[np.intp]]:
    """Some hundred sources at a time, neighbours never apart."""
    if not len(x):
        return
    pairs = cKDTree(np.stack([x, y], axis=1)).query_pairs(reach, output_type="ndarray")
    order, starts = _linked(pairs.T, len(x))
    cuts = [*starts.tolist(), len(x)]
    first = 0
    for cut_, after in itertools.pairwise(cuts):
        if after - first > _CHUNK and cut_ > first:
            yield order[first:cut_]
            first = cut_
    yield order[first:]


def _fit(exposure: Exposure, x: Floats, y: Floats) -> tuple[Fluxes, Bools]:
    """One least squares fit of some sources."""
    part, used, edge = _design(exposure, x, y)
    image, variance = (plane.ravel()[used].astype(float) for plane in (exposure.image, exposure.variance))
    normal = (part.T @ part).tocsc()
    projected = part.T @ image
    noise = (part.T @ part.multiply(variance[:, None])).tocsc()
    norm = normal.diagonal()
    empty = ~(norm > 0)
    safe = np.where(empty, np.nan, norm)
    flux, sigma = projected / safe, np.sqrt(noise.diagonal()) / safe
    blended = np.zeros(len(x), bool)
    for group in _groups(normal, norm):
        of_group = np.ix_(group, group)
        inverse = np.linalg.pinv(normal[of_group].toarray(), rcond=_SINGULAR, hermitian=True)
        flux[group] = inverse @ projected[group]
        sigma[group] = np.sqrt(np.diag(inverse @ noise[of_group].toarray() @ inverse))
        blended[group] = True
    return Fluxes(flux, sigma, empty, edge), blended


def _design(exposure: Exposure, x: Floats, y: Floats) -> tuple[csc_matrix, NDArray[np.int64], Bools]:
    """What a source of flux 1 at each place adds to each pixel, (pixels, N).

    Only the usable pixels under a PSF are there; their numbers in the image, and whose PSF is cut off.
    """
    nx = exposure.shape[1]
    values, pixels, counts = [np.empty(0)], [np.empty(0, np.int64)], [np.zeros(1, np.int64)]
    edge = np.zeros(len(x), bool)
    for first in range(0, len(x), _CHUNK):
        some = np.s_[first : first + _CHUNK]
        column, row = nearest_pixel(x[some]), nearest_pixel(y[some])
        kernels = kernel_images(exposure.psf, x[some], y[some])
        half = kernels.shape[-1] // 2
        stamps = cut(exposure, column, row, half)
        profile = shifted(kernels, x[some] - column, y[some] - row, half)
        steps = np.arange(-half, half + 1)
        rows = (row - exposure.xy0[1])[:, None, None] + steps[:, None]
        columns = (column - exposure.xy0[0])[:, None, None] + steps
        place = rows.astype(np.int64) * nx + columns
        values.append(profile[stamps.good])
        pixels.append(place[stamps.good])
        counts.append(stamps.good.sum(axis=(1, 2)))
        edge[some] = ~stamps.inside.all(axis=(1, 2))
    used, place = np.unique(np.concatenate(pixels), return_inverse=True)
    parts = np.concatenate(values), place, np.cumsum(np.concatenate(counts))
    return csc_matrix(parts, shape=(len(used), len(x))), used, edge


def _groups(normal: csc_matrix, norm: Floats) -> list[NDArray[np.intp]]:
    """Sources whose PSFs overlap, by the rows of each group of two or more."""
    pairs = normal.tocoo()
    root = np.sqrt(norm)
    linked = (pairs.row != pairs.col) & (np.abs(pairs.data) > _OVERLAP * root[pairs.row] * root[pairs.col])
    order, starts = _linked((pairs.row[linked], pairs.col[linked]), len(norm))
    return [group for group in np.split(order, starts[1:]) if len(group) > 1]


def _linked(pairs: Any, count: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Numbers below ``count``, those linked by pairs together; and where each group of them begins."""
    links = csc_matrix((np.ones(len(pairs[0])), pairs), shape=(count, count))
    _, label = connected_components(links, directed=False)
    order = np.argsort(label, kind="stable")
    return order, np.flatnonzero(np.diff(label[order], prepend=-1))


def noise_gain(exposure: Exposure, kernel: LinearCombinationKernel) -> float:
    """How much larger the error of a PSF flux is than its variance plane tells, on a convolved image.

    The pixels of K ⊗ T are not independent: a sum with weights w has the variance Σ (w ⊗ K)² v instead of
    Σ w² ΣK² v, with v that of T. Taken in the middle of the field.
    """
    x, y = exposure.psf.average_position
    w, k = exposure.psf.kernel_image(x, y), kernel.at(x, y)
    return float(np.sqrt((full_convolution(w, k) ** 2).sum() / ((k**2).sum() * (w**2).sum())))
