# SPDX-License-Identifier: BSD-3-Clause
"""Photometric calibrations: one zero point, or one that varies over the image (afw.md 1.5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.polynomial.chebyshev import chebvander
from numpy.typing import NDArray

from diffrun.errors import DataError
from diffrun.files.afw.archive import Archive
from diffrun.files.afw.exposure import Exposure

Array = NDArray[np.float64]
#: Flux of an AB magnitude 0 source in nJy, as afw rounds it.
FLUX_MAG0_NJY = 3630780547701.0024
#: nJy of one count, by what BUNIT says.
_UNITS = {"nJy": 1.0, "uJy": 1e3, "mJy": 1e6, "Jy": 1e9}
_ROWS = 64
_MAX_TERMS = 10_000


@dataclass(frozen=True)
class ChebyshevField:
    """afw's ``ChebyshevBoundedField``: nJy per count over parent pixels.

    Attributes
    ----------
    coefficients : `numpy.ndarray`, (order_y + 1, order_x + 1), float64
        Element (j, i) goes with T_i(x') T_j(y').
    box : `tuple` of `int`
        ``(min_x, min_y, max_x, max_y)``; x' and y' run from -1 to 1 over its pixels, edges included.
    """

    coefficients: Array
    box: tuple[int, int, int, int]

    def grid(self, x: Array, y: Array) -> Array:
        """The field at each pair of columns ``x`` and rows ``y``, (len(y), len(x))."""
        min_x, min_y, max_x, max_y = self.box
        ny, nx = self.coefficients.shape
        along_x = chebvander((2 * x - min_x - max_x) / (max_x - min_x + 1), nx - 1)
        along_y = chebvander((2 * y - min_y - max_y) / (max_y - min_y + 1), ny - 1)
        return np.asarray(along_y @ (self.coefficients @ along_x.T))


def read(archive: Archive, number: int) -> tuple[float, float, ChebyshevField | None]:
    """A ``PhotoCalib``.

    Returns
    -------
    flux_mag0, flux_mag0_err : `float`
        Counts of an AB magnitude 0 source by the mean calibration, NaN for none.
    field : `ChebyshevField` or `None`
        How the calibration varies.

    Raises
    ------
    diffrun.errors.DataError
        If it varies by a field of a class that is not known here; the message names it.
    """
    row = archive.row(number)
    mean, error = float(row["calibrationMean"]), float(row["calibrationErr"])
    if not 0 < mean < np.inf:
        return float("nan"), 0.0, None
    # A constant one has a field with an empty box, which cannot be evaluated.
    constant = bool(int(np.ravel(row["flags"])[0]) & 0x80)
    field = None if constant else _field(archive, int(row["field"]))
    return FLUX_MAG0_NJY / mean, FLUX_MAG0_NJY * error / mean**2, field


def of_unit(unit: Any) -> float:
    """Counts of an AB magnitude 0 source by the unit of the pixels, NaN for one that is no flux."""
    return FLUX_MAG0_NJY / _UNITS.get(str(unit).strip(), float("nan"))


def flattened(exposure: Exposure) -> Exposure:
    """The exposure with one zero point everywhere: image and variance scaled by how it varies.

    An exposure that has one already is given back as it is.
    """
    field = exposure.calibration
    if field is None:
        return exposure
    (ny, nx), (x0, y0) = exposure.shape, exposure.xy0
    image, variance = np.empty((2, ny, nx), np.float32)
    x, y = x0 + np.arange(nx, dtype=float), y0 + np.arange(ny, dtype=float)
    for first in range(0, ny, _ROWS):
        rows = np.s_[first : first + _ROWS]
        ratio = (field.grid(x, y[rows]) * (exposure.flux_mag0 / FLUX_MAG0_NJY)).astype(np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            image[rows] = exposure.image[rows] * ratio
            variance[rows] = exposure.variance[rows] * ratio * ratio
    return exposure.replace(image=image, variance=variance, calibration=None)


def _field(archive: Archive, number: int) -> ChebyshevField:
    name = archive.name(number)
    if name != "ChebyshevBoundedField":
        raise DataError(
            f"the zero point varies by a field of the class {name or '(missing)'}",
            "give an image with one zero point, or one that varies by a ChebyshevBoundedField",
        )
    row = archive.row(number)
    flat, nx = np.array(np.ravel(row["coefficients"]), float), int(row["order_x"]) + 1
    corners = tuple(int(row[f"bbox_{end}_{axis}"]) for end in ("min", "max") for axis in "xy")
    whole = 0 < nx <= flat.size <= _MAX_TERMS and flat.size % nx == 0 and bool(np.isfinite(flat).all())
    if not whole or corners[0] > corners[2] or corners[1] > corners[3]:
        raise DataError("the field by which the zero point varies cannot be evaluated", "make the file anew")
    return ChebyshevField(flat.reshape(-1, nx), (corners[0], corners[1], corners[2], corners[3]))
