# SPDX-License-Identifier: BSD-3-Clause
"""Fluxes in circles, every pixel weighed by the exact part of its area that lies within."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffrun.engine.stamps import Floats, cut, nearest_pixel
from diffrun.files.afw.exposure import Exposure

Bools = NDArray[np.bool_]

#: Radii in pixels of base_CircularApertureFlux.
RADII = (3.0, 4.5, 6.0, 9.0, 12.0, 17.0, 25.0, 35.0, 50.0, 70.0)
#: Pixels held in memory at once.
BLOCK_PIXELS = 1_000_000


@dataclass(frozen=True)
class Apertures:
    """Fluxes within one radius around N sources.

    Attributes
    ----------
    flux, sigma : `numpy.ndarray`, (N,)
        Sum of the usable pixels and its error; NaN where there is none.
    truncated : `numpy.ndarray`, (N,), bool
        The circle reaches beyond the image.
    incomplete : `numpy.ndarray`, (N,), bool
        A pixel within the circle is unusable or beyond the image: the flux is that of the rest.
    """

    flux: Floats
    sigma: Floats
    truncated: Bools
    incomplete: Bools


def measure(exposure: Exposure, x: Floats, y: Floats, radius: float) -> Apertures:
    """Fluxes within a radius (pixels) around parent positions (x, y), a block of sources at a time."""
    half = int(np.ceil(radius + 0.5))
    size = max(1, BLOCK_PIXELS // (2 * half + 1) ** 2)
    starts = range(0, len(x), size)
    blocks = [_block(exposure, x[i : i + size], y[i : i + size], radius, half) for i in starts]
    columns = np.concatenate(blocks, axis=1) if blocks else np.zeros((4, 0))
    return Apertures(columns[0], columns[1], columns[2] > 0, columns[3] > 0)


def _block(exposure: Exposure, x: Floats, y: Floats, radius: float, half: int) -> Floats:
    """Rows flux, sigma, truncated, incomplete, (4, N)."""
    column, row = nearest_pixel(x), nearest_pixel(y)
    stamps = cut(exposure, column, row, half)
    steps = stamps.offsets
    weights = circle_weights(steps - (x - column)[:, None], steps - (y - row)[:, None], radius)
    flux = np.einsum("nij,nij->n", weights, stamps.image)
    sigma = np.sqrt(np.einsum("nij,nij,nij->n", weights, weights, stamps.variance))
    within = weights > 0
    truncated = (within & ~stamps.inside).any(axis=(1, 2))
    incomplete = (within & ~stamps.good).any(axis=(1, 2))
    empty = ~(within & stamps.good).any(axis=(1, 2))
    flux[empty] = sigma[empty] = np.nan
    return np.stack([flux, sigma, truncated.astype(float), incomplete.astype(float)])


def circle_weights(dx: Floats, dy: Floats, radius: float) -> Floats:
    """The part of each unit pixel within a circle about the origin.

    Parameters
    ----------
    dx, dy : `numpy.ndarray`, (N, s)
        Pixel centres along each axis, relative to the centre of the circle.
    radius : `float`
        Pixels.

    Returns
    -------
    weights : `numpy.ndarray`, (N, s, s)
        Rows along y.
    """
    distance2 = dy[:, :, None] ** 2 + dx[:, None, :] ** 2
    reach = np.sqrt(0.5)
    weights = (distance2 < radius**2).astype(float)
    n, i, j = np.nonzero((distance2 > max(radius - reach, 0.0) ** 2) & (distance2 < (radius + reach) ** 2))
    x, y = dx[n, j], dy[n, i]
    weights[n, i, j] = (
        _corner_area(x + 0.5, y + 0.5, radius)
        - _corner_area(x - 0.5, y + 0.5, radius)
        - _corner_area(x + 0.5, y - 0.5, radius)
        + _corner_area(x - 0.5, y - 0.5, radius)
    )
    return np.asarray(np.clip(weights, 0.0, 1.0))


def _corner_area(x: Floats, y: Floats, radius: float) -> Floats:
    """Signed area of the disc between the axes and the lines X = x and Y = y; odd in x and in y."""
    r2 = radius**2
    a, b = np.minimum(np.abs(x), radius), np.minimum(np.abs(y), radius)
    # Up to the abscissa c the line Y = b bounds the area, beyond it the circle does.
    c = np.minimum(a, np.sqrt(r2 - b**2))
    area = b * c + _under_arc(a, r2) - _under_arc(c, r2)
    return np.asarray(np.sign(x) * np.sign(y) * area)


def _under_arc(t: Floats, r2: float) -> Floats:
    """∫₀ᵗ √(r² − s²) ds."""
    return np.asarray(0.5 * (t * np.sqrt(np.maximum(r2 - t**2, 0.0)) + r2 * np.arcsin(t / np.sqrt(r2))))
