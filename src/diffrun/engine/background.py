# SPDX-License-Identifier: BSD-3-Clause
"""The smooth background that is left in a difference."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RectBivariateSpline

Float = NDArray[np.float32]


def residual_background(image: Float, usable: NDArray[np.bool_], cell: int, stride: int = 1) -> Float:
    """A smooth background: medians of cells of usable pixels, joined by a spline of order 1 to 3.

    Parameters
    ----------
    image : `numpy.ndarray`, (ny, nx), float32
    usable : `numpy.ndarray`, (ny, nx), bool
        Pixels of blank sky.
    cell : `int`
        Side of a cell, pixels; a cell with less than a tenth of its pixels usable takes the overall median.
    stride : `int`
        Distance of the rows and columns that are looked at.
    """
    ny, nx = image.shape
    my, mx = max(1, round(ny / cell)), max(1, round(nx / cell))
    ye, xe = np.linspace(0, ny, my + 1).astype(int), np.linspace(0, nx, mx + 1).astype(int)
    some = image[::4, ::4][usable[::4, ::4]]
    overall = float(np.median(some)) if len(some) else 0.0
    grid = np.full((my, mx), overall)
    for j in range(my):
        for i in range(mx):
            window = np.s_[ye[j] : ye[j + 1] : stride, xe[i] : xe[i + 1] : stride]
            sample = image[window][usable[window]]
            if len(sample) > 0.1 * usable[window].size:
                grid[j, i] = _clipped_median(sample)
    if min(my, mx) < 2:
        return np.full(image.shape, overall, np.float32)
    order = min(3, my - 1, mx - 1)
    spline = RectBivariateSpline(
        (ye[:-1] + ye[1:] - 1) / 2, (xe[:-1] + xe[1:] - 1) / 2, grid, kx=order, ky=order
    )
    y, x = np.arange(ny), np.arange(nx)
    inner_y = np.clip(y, (ye[0] + ye[1]) / 2, (ye[-2] + ye[-1]) / 2 - 1)
    inner_x = np.clip(x, (xe[0] + xe[1]) / 2, (xe[-2] + xe[-1]) / 2 - 1)
    return np.asarray(spline(inner_y, inner_x), np.float32)


def _clipped_median(sample: Float) -> float:
    middle = float(np.median(sample))
    scatter = 1.4826 * float(np.median(np.abs(sample - middle)))
    inside = sample[np.abs(sample - middle) < 3 * scatter] if scatter > 0 else sample
    return float(np.median(inside))
