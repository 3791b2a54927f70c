# SPDX-License-Identifier: BSD-3-Clause
"""The tangent plane with SIP polynomials that is nearest to any world coordinates over an image.

Files that old and new programs read hold no other kind; what an image was measured with stays exact.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from diffrun.errors import DataError
from diffrun.files.afw.exposure import Wcs
from diffrun.files.afw.wcs import TanSipWcs, checked

Array = NDArray[np.float64]
_GRID = 24
_ORDERS = range(1, 8)
#: Pixels: what a polynomial of higher order would not better, and what no measurement notices.
_EXACT, _TOLERABLE = 1e-6, 0.05


def tan_sip(wcs: Wcs, box: tuple[float, float, float, float]) -> TanSipWcs:
    """Fit a tangent plane at the middle of a box, with the lowest order of SIP that is exact.

    Parameters
    ----------
    wcs : `Wcs`
    box : `tuple` of `float`
        ``(min_x, min_y, max_x, max_y)``, parent pixels.

    Returns
    -------
    nearest : `TanSipWcs`
        With reverse polynomials where it has any.

    Raises
    ------
    diffrun.errors.DataError
        If it is further than a twentieth of a pixel from ``wcs`` anywhere in the box.
    """
    middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    ra0, dec0 = (float(value) for value in wcs.pixel_to_sky(np.array(middle[0]), np.array(middle[1])))
    plane = TanSipWcs((ra0, dec0), (0.0, 0.0), np.eye(2))
    x, y = (
        grid.ravel()
        for grid in np.meshgrid(np.linspace(box[0], box[2], _GRID), np.linspace(box[1], box[3], _GRID))
    )
    sky = wcs.pixel_to_sky(x, y)
    xi, eta = plane.sky_to_pixel(*sky)
    if not (np.isfinite(xi).all() and np.isfinite(eta).all()):
        raise DataError(
            "the image's WCS does not map all of its pixels to one side of the sky",
            "give an image with another WCS",
        )
    scale = max(box[2] - box[0], box[3] - box[1], 1.0) / 2
    u, v = (x - middle[0]) / scale, (y - middle[1]) / scale
    for order in _ORDERS:
        found = _fit(u, v, xi, eta, order, scale)
        nearest = TanSipWcs((ra0, dec0), middle, *found)
        away = _distance(nearest, x, y, sky)
        if away < _EXACT:
            break
    if not away < _TOLERABLE:
        raise DataError(
            f"the image's WCS is {away:.3g} pixels away from the nearest one of TAN-SIP",
            "give an image with a smoother WCS",
        )
    return checked(nearest).with_reverse(box)


def agree(one: Wcs, other: Wcs, box: tuple[float, float, float, float]) -> bool:
    """Whether two world coordinates are the same over a box, to a millionth of a pixel."""
    x, y = np.meshgrid(np.linspace(box[0], box[2], 5), np.linspace(box[1], box[3], 5))
    back_x, back_y = one.sky_to_pixel(*other.pixel_to_sky(x, y))
    return bool((np.hypot(back_x - x, back_y - y) < _EXACT).all())


def _fit(
    u: Array, v: Array, xi: Array, eta: Array, order: int, scale: float
) -> tuple[Array, Array | None, Array | None]:
    """CD matrix and SIP polynomials of one order, by least squares without a constant."""
    powers = [(i, n - i) for n in range(1, order + 1) for i in range(n, -1, -1)]
    design = np.stack([u**i * v**j for i, j in powers], axis=1)
    solved = np.linalg.lstsq(design, np.stack([xi, eta], axis=1), rcond=None)[0]
    cd = np.asarray(solved[:2].T / scale, float)
    if order == 1:
        return cd, None, None
    # (ξ, η) = cd (u + A(u, v), v + B(u, v))
    higher = np.linalg.solve(cd, solved[2:].T)
    a, b = np.zeros((2, order + 1, order + 1))
    for (i, j), (in_a, in_b) in zip(powers[2:], higher.T, strict=True):
        a[i, j], b[i, j] = in_a / scale ** (i + j), in_b / scale ** (i + j)
    return cd, a, b


def _distance(nearest: TanSipWcs, x: Array, y: Array, sky: tuple[Array, Array]) -> float:
    """The largest distance of the two, pixels."""
    back_x, back_y = dataclasses.replace(nearest, ap=None, bp=None).sky_to_pixel(*sky)
    away = np.hypot(back_x - x, back_y - y)
    return float(away.max()) if np.isfinite(away).all() else np.inf
