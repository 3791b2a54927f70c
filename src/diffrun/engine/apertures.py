# SPDX-License-Identifier: BSD-3-Clause
"""Fluxes in circles, every pixel weighed by the exact part of its area that lies within."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from diffrun.engine.stamps import UNUSABLE, Floats
from diffrun.files.afw.exposure import Exposure

Bools = NDArray[np.bool_]

#: Radii in pixels of base_CircularApertureFlux.
RADII = (3.0, 4.5, 6.0, 9.0, 12.0, 17.0, 25.0, 35.0, 50.0, 70.0)
#: Half a pixel's diagonal: how far from its centre a circle may cut it.
_DIAGONAL = 0.5**0.5


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
    """Fluxes within a radius (pixels) around parent positions (x, y)."""
    flux, variance, used, unusable, beyond = _sum_circles(
        exposure.image, exposure.variance, exposure.mask, np.int32(exposure.bits(*UNUSABLE)),
        np.asarray(x - exposure.xy0[0], float), np.asarray(y - exposure.xy0[1], float), float(radius),
    )  # fmt: skip
    flux[used == 0] = variance[used == 0] = np.nan
    return Apertures(flux, np.sqrt(variance), beyond > 0, beyond + unusable > 0)


@numba.njit(cache=True, parallel=True, error_model="numpy")
def _sum_circles(image, variance, mask, bits, x, y, radius):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Sums of image and variance, and how many pixels are used, unusable and beyond the image, (N,) each."""
    ny, nx = image.shape
    n = len(x)
    flux, noise = np.zeros(n), np.zeros(n)
    used, unusable, beyond = np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, np.int64)
    reach = radius + _DIAGONAL
    for k in numba.prange(n):
        total, square, good, bad, off = 0.0, 0.0, 0, 0, 0
        for row in range(int(np.ceil(y[k] - reach)), int(np.floor(y[k] + reach)) + 1):
            across = np.sqrt(max(reach**2 - (row - y[k]) ** 2, 0.0))
            for column in range(int(np.ceil(x[k] - across)), int(np.floor(x[k] + across)) + 1):
                weight = area_in_circle(column - x[k], row - y[k], radius)
                if weight <= 0:
                    continue
                if not (0 <= row < ny and 0 <= column < nx):
                    off += 1
                    continue
                value, v = image[row, column], variance[row, column]
                if mask[row, column] & bits == 0 and np.isfinite(value) and v > 0 and np.isfinite(v):
                    total += weight * value
                    square += weight * weight * v
                    good += 1
                else:
                    bad += 1
        flux[k], noise[k], used[k], unusable[k], beyond[k] = total, square, good, bad, off
    return flux, noise, used, unusable, beyond


@numba.njit(cache=True, error_model="numpy")
def area_in_circle(dx, dy, radius):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The part of a unit pixel at (dx, dy) that lies within a circle about the origin."""
    distance2 = dx * dx + dy * dy
    if distance2 < max(radius - _DIAGONAL, 0.0) ** 2:
        return 1.0
    if distance2 >= (radius + _DIAGONAL) ** 2:
        return 0.0
    area = (
        _corner_area(dx + 0.5, dy + 0.5, radius)
        - _corner_area(dx - 0.5, dy + 0.5, radius)
        - _corner_area(dx + 0.5, dy - 0.5, radius)
        + _corner_area(dx - 0.5, dy - 0.5, radius)
    )
    return min(max(area, 0.0), 1.0)


@numba.njit(cache=True, error_model="numpy")
def _corner_area(x, y, radius):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Signed area of the disc between the axes and the lines X = x and Y = y; odd in x and in y."""
    a, b = min(abs(x), radius), min(abs(y), radius)
    # Up to the abscissa c the line Y = b bounds the area, beyond it the circle does.
    c = min(a, np.sqrt(radius * radius - b * b))
    area = b * c + _under_arc(a, radius) - _under_arc(c, radius)
    return np.sign(x) * np.sign(y) * area


@numba.njit(cache=True, error_model="numpy")
def _under_arc(t, radius):  # type: ignore[no-untyped-def]  # pragma: no cover
    """∫₀ᵗ √(r² − s²) ds."""
    return 0.5 * (t * np.sqrt(max(radius * radius - t * t, 0.0)) + radius * radius * np.arcsin(t / radius))
