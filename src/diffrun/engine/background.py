# SPDX-License-Identifier: BSD-3-Clause
"""The smooth background that is left in a difference."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from diffrun.files import splines
from diffrun.threads import bands, each

Float = NDArray[np.float32]

#: Pixels of a cell from which its first mean and scatter are told, at least.
_SAMPLE = 1000
#: Part of a cell's pixels that must be usable.
_ENOUGH = 0.1
#: Rows at a time in which a surface is evaluated.
_ROWS = 256


@dataclass(frozen=True)
class Surface:
    """A smooth surface over an image, the product of two narrow matrices: never held as a plane.

    Attributes
    ----------
    along_y, along_x : `numpy.ndarray`, (ny, m) and (m, nx), float32
    """

    along_y: Float
    along_x: Float

    @property
    def largest(self) -> float:
        """Largest absolute value at one pixel in sixteen."""
        return float(np.abs(self.along_y[::4] @ self.along_x[:, ::4]).max())

    def take_off(self, image: Float) -> None:
        """Take the surface off an image, in place."""
        for start in range(0, len(image), _ROWS):
            rows = slice(start, start + _ROWS)
            image[rows] -= self.along_y[rows] @ self.along_x


def residual_background(image: Float, usable: NDArray[np.bool_], cell: int) -> Surface:
    """A smooth background: clipped means of the usable pixels of cells, joined by a spline of order 1 to 3.

    Parameters
    ----------
    image : `numpy.ndarray`, (ny, nx), float32
    usable : `numpy.ndarray`, (ny, nx), bool
        Pixels of blank sky.
    cell : `int`
        Side of a cell, pixels; a cell with less than a tenth of its pixels usable takes the overall mean.
    """
    edges = [np.linspace(0, n, max(1, round(n / cell)) + 1).astype(np.int64) for n in image.shape]
    grid = np.full([len(edge) - 1 for edge in edges], np.nan)
    each(
        lambda band: _clipped_means(image, usable, edges[0], edges[1], _SAMPLE, _ENOUGH, band, grid),
        bands(grid.size, 1),
    )
    known = np.isfinite(grid)
    grid[~known] = np.median(grid[known]) if known.any() else 0.0
    in_y, in_x = (_spline(edge) for edge in edges)
    return Surface((in_y @ grid).astype(np.float32), np.ascontiguousarray(in_x.T, np.float32))


def _spline(edges: NDArray[np.int64]) -> NDArray[np.float64]:
    """The splines that are 1 at one cell's centre and 0 at the others, at every pixel, (n, cells)."""
    n, cells = int(edges[-1]), len(edges) - 1
    if cells < 2:
        return np.ones((n, 1))
    centres = (edges[:-1] + edges[1:] - 1) / 2
    pixels = np.clip(np.arange(n), centres[0], centres[-1])
    return splines.not_a_knot(centres, np.eye(cells)).at(pixels).T


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _clipped_means(image, usable, edges_y, edges_x, sample, enough, band, means):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Mean of the usable pixels within 3 sigma of each cell; NaN where too few are usable.

    A first centre and scatter come from the quantiles of a sample, then the mean is taken twice.
    """
    mx = len(edges_x) - 1
    for cell in range(*band):
        j, i = cell // mx, cell % mx
        top, bottom, left, right = edges_y[j], edges_y[j + 1], edges_x[i], edges_x[i + 1]
        area = (bottom - top) * (right - left)
        stride = max(1, int(np.sqrt(area / (2.0 * sample))))
        some = np.empty(((bottom - top) // stride + 1) * ((right - left) // stride + 1), np.float32)
        n = 0
        for y in range(top, bottom, stride):
            for x in range(left, right, stride):
                if usable[y, x]:
                    some[n] = image[y, x]
                    n += 1
        if n * stride * stride <= enough * area or n < 3:
            continue
        some = np.sort(some[:n])
        centre, scatter = float(some[n // 2]), (some[int(0.84 * n)] - some[int(0.16 * n)]) / 2.0
        for _ in range(2):
            low, high = np.float32(centre - 3 * scatter), np.float32(centre + 3 * scatter)
            total, count = 0.0, 0
            for y in range(top, bottom):
                part = 0.0
                for x in range(left, right):
                    value = image[y, x]
                    if usable[y, x] and low <= value <= high:
                        part += value
                        count += 1
                total += part
            centre = total / count if count else centre
        means[j, i] = centre
