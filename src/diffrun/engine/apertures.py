# SPDX-License-Identifier: BSD-3-Clause
"""Fluxes in circles, every pixel weighed by the exact part of its area that lies within."""

from __future__ import annotations

from collections.abc import Sequence
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


def measure(exposure: Exposure, x: Floats, y: Floats, radii: Sequence[float]) -> list[Apertures]:
    """Fluxes around parent positions (x, y) within each of some ascending radii (pixels)."""
    column, row = (np.asarray(at - first, float) for at, first in zip((x, y), exposure.xy0, strict=True))
    bits, circles = np.int32(exposure.bits(*UNUSABLE)), np.array(radii, float)
    sums = _sum_circles(exposure.image, exposure.variance, exposure.mask, bits, column, row, circles)
    sums[sums[:, :, 2] == 0, :2] = np.nan
    flux, variance, _, unusable, beyond = np.moveaxis(sums, 2, 0)
    truncated = beyond > 0
    parts = flux.T, np.sqrt(variance).T, truncated.T, (truncated | (unusable > 0)).T
    return [Apertures(*part) for part in zip(*parts, strict=True)]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _sum_circles(image, variance, mask, bits, x, y, radii):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Sums of image and variance, and counts of used, unusable and missing pixels, (N, radii, 5).

    A pixel goes whole to the smallest circle that holds all of it, and in part to those that cut it; then the
    larger circles get what the smaller hold whole.
    """
    ny, nx = image.shape
    n, m = len(x), len(radii)
    sums = np.zeros((n, m, 5))
    reach = radii[-1] + _DIAGONAL
    for k in range(n):
        whole, part = np.zeros((m, 5)), np.zeros((m, 5))
        for row in range(int(np.ceil(y[k] - reach)), int(np.floor(y[k] + reach)) + 1):
            across = np.sqrt(max(reach**2 - (row - y[k]) ** 2, 0.0))
            for column in range(int(np.ceil(x[k] - across)), int(np.floor(x[k] + across)) + 1):
                value, noise, kind = 0.0, 0.0, 4
                if 0 <= row < ny and 0 <= column < nx:
                    value, noise, kind = float(image[row, column]), float(variance[row, column]), 2
                    if mask[row, column] & bits or not (np.isfinite(value) and 0 < noise < np.inf):
                        value, noise, kind = 0.0, 0.0, 3
                distance = np.sqrt((column - x[k]) ** 2 + (row - y[k]) ** 2)
                at = 0
                while at < m and radii[at] <= distance - _DIAGONAL:
                    at += 1
                while at < m and radii[at] < distance + _DIAGONAL:
                    weight = area_in_circle(column - x[k], row - y[k], radii[at])
                    if weight > 0:
                        _add(part[at], weight, value, noise, kind)
                    at += 1
                if at < m:
                    _add(whole[at], 1.0, value, noise, kind)
        for at in range(m):
            for i in range(5):  # one by one: numba takes seconds to compile what assigns rows
                whole[at, i] += whole[at - 1, i] if at else 0.0
                sums[k, at, i] = whole[at, i] + part[at, i]
    return sums


@numba.njit(cache=True, inline="always")
def _add(sums, weight, value, noise, kind):  # type: ignore[no-untyped-def]  # pragma: no cover
    sums[0] += weight * value
    sums[1] += weight * weight * noise
    sums[kind] += 1


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
