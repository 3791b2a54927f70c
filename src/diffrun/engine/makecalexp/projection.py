# SPDX-License-Identifier: BSD-3-Clause
"""Any FITS world coordinate system as the TAN-SIP one that an exposure holds."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diffrun.errors import DataError
from diffrun.files.afw.wcs import TanSipWcs

if TYPE_CHECKING:
    from astropy.io import fits

Array = NDArray[np.float64]

#: The fit goes on to higher orders until it is as good as this, in pixels, everywhere on the image.
_GOOD_ENOUGH = 2e-4
_ACCEPTED = 0.05
_MOST_ORDER = 7
_GRID = 24
_ANOTHER = "give an image with a celestial WCS that astropy can read, or none at all"
#: Scale of the made-up coordinates of an image without any, degrees.
_STEP = 1.0 / 3600


def read(header: fits.Header, shape: tuple[int, int]) -> tuple[TanSipWcs | None, list[str]]:
    """The WCS of an image header, and what was assumed; `None` where there is none.

    Parameters
    ----------
    header : `astropy.io.fits.Header`
    shape : `tuple` [`int`, `int`]
        (ny, nx).

    Raises
    ------
    diffrun.errors.DataError
        If there is one that cannot be used.
    """
    from astropy.wcs import WCS

    if not str(header.get("CTYPE1", "")).strip():
        return None, []
    notes: list[str] = []
    kinds = f"{header['CTYPE1']}, {header.get('CTYPE2', '')}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            world = WCS(header, relax=True).celestial
            if not world.has_celestial or world.pixel_n_dim != 2:
                return None, [f"the axes {kinds} are not on the sky: taken as an image without a WCS"]
            named = any(card in header for card in ("RADESYS", "RADECSYS", "EQUINOX"))
            if not named and world.wcs.lngtyp.strip().startswith("RA"):
                world.wcs.radesys = "ICRS"
                notes.append("neither RADESYS nor EQUINOX is given: ICRS is assumed")
            wcs, worst = fitted(world, shape)
    except DataError:
        raise
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(f"the WCS ({kinds}) cannot be used: {first}", _ANOTHER) from error
    if world.sip is not None and "-SIP" not in str(header["CTYPE1"]):
        notes.append(f"the SIP cards are applied although CTYPE1 is {header['CTYPE1']}")
    if worst > _GOOD_ENOUGH * 10:
        notes.append(f"the WCS ({kinds}) is followed to {worst:.2g} pixels")
    return wcs, notes


def made_up() -> TanSipWcs:
    """Coordinates for an image without any, until stars tell better."""
    return TanSipWcs((0.0, 0.0), (0.0, 0.0), np.diag([-_STEP, _STEP]))


def fitted(world: Any, shape: tuple[int, int]) -> tuple[TanSipWcs, float]:
    """As `followed`, of a celestial `astropy.wcs.WCS` of two axes."""
    origin = None
    if "TAN" in world.wcs.ctype[0]:
        # Exactly the reference point where there is no distortion; else what its pixel really sees.
        origin = (float(world.wcs.crpix[0]) - 1, float(world.wcs.crpix[1]) - 1)
    return followed(lambda x, y: _icrs(world, x, y), shape, origin)


def followed(
    to_sky: Callable[[Array, Array], tuple[Array, Array]],
    shape: tuple[int, int],
    origin: tuple[float, float] | None = None,
) -> tuple[TanSipWcs, float]:
    """TAN-SIP as near as possible to another map, and the largest distance between them in pixels.

    Parameters
    ----------
    to_sky : callable
        ICRS degrees of pixels.
    shape : `tuple` [`int`, `int`]
        (ny, nx) of the image.
    origin : `tuple` [`float`, `float`], optional
        Pixel of the tangent point; the middle of the image if there is none.

    Notes
    -----
    On the tangent plane of that point a polynomial of the pixel is fitted by least squares, of the least
    order that follows the other map.
    """
    ny, nx = shape
    origin = origin or ((nx - 1) / 2, (ny - 1) / 2)
    x, y = (
        g.ravel() for g in np.meshgrid(np.linspace(-0.5, nx - 0.5, _GRID), np.linspace(-0.5, ny - 0.5, _GRID))
    )
    ra, dec = to_sky(x, y)
    point = to_sky(np.array([origin[0]]), np.array([origin[1]]))
    tangent = (float(point[0][0]), float(point[1][0]))
    if not np.isfinite([*ra, *dec, *tangent]).all():
        raise DataError("the image reaches beyond the sky of its WCS", _ANOTHER)
    plane = TanSipWcs(tangent, (0.0, 0.0), np.eye(2))
    xi, eta = plane.sky_to_pixel(ra, dec)
    best = None
    for order in range(1, _MOST_ORDER + 1):
        wcs = _sip(x - origin[0], y - origin[1], xi, eta, order, tangent, origin)
        back = wcs.pixel_to_sky(x, y)
        off = np.hypot(*(np.linalg.solve(wcs.cd, np.stack([a - b for a, b in zip(
            plane.sky_to_pixel(*back), (xi, eta), strict=True)]))))  # fmt: skip
        worst = float(off.max())
        if best is None or worst < 0.5 * best[1]:
            best = (wcs, worst)
        if worst < _GOOD_ENOUGH:
            break
    assert best is not None
    if not best[1] < _ACCEPTED:
        raise DataError(f"no TAN-SIP projection follows the WCS better than {best[1]:.2g} pixels", _ANOTHER)
    return best


def _icrs(world: Any, x: Array, y: Array) -> tuple[Array, Array]:
    sky = world.pixel_to_world(x, y).icrs
    return np.asarray(sky.ra.deg), np.asarray(sky.dec.deg)


def _sip(u: Array, v: Array, xi: Array, eta: Array, order: int, tangent: tuple[float, ...],
         origin: tuple[float, ...]) -> TanSipWcs:  # fmt: skip
    """The SIP polynomial of one order about a pixel, from the tangent plane's coordinates."""
    scale = max(float(np.abs(u).max()), float(np.abs(v).max()), 1.0)
    powers = [(i, j) for m in range(1, order + 1) for i, j in ((m - k, k) for k in range(m + 1))]
    design = np.stack([(u / scale) ** i * (v / scale) ** j for i, j in powers], axis=1)
    found = np.linalg.lstsq(design, np.stack([xi, eta], axis=1), rcond=None)[0]
    rows = {power: found[n] / scale ** sum(power) for n, power in enumerate(powers)}
    cd = np.stack([rows[1, 0], rows[0, 1]], axis=1)
    a = b = None
    if order > 1:
        inverse = np.linalg.inv(cd)
        a, b = np.zeros((order + 1, order + 1)), np.zeros((order + 1, order + 1))
        for (i, j), row in rows.items():
            if i + j > 1:
                a[i, j], b[i, j] = inverse @ row
    return TanSipWcs((tangent[0], tangent[1]), (origin[0], origin[1]), cd, a, b)
