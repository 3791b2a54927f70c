# SPDX-License-Identifier: BSD-3-Clause
"""Blocks of one exact value, as gaps between detectors are filled with: no data, whatever the mask says."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffrun.engine.masks import grown, with_planes
from diffrun.files.afw.exposure import Exposure

#: Side of the cells that are looked at; noise does not give one of them a single value.
_CELL = 4
#: How far beyond such cells pixels of their value belong to the block, cells; most values that are followed.
_REACH, _MOST = 2, 16
#: Planes whose pixels are known to be made up, or cut off at one level.
_KNOWN = ("NO_DATA", "SAT", "INTRP", "CR")
#: A value so far above the sky is light: a core cut off, not a filling.
_BRIGHT = 50.0
#: An image whose neighbours differ by less than this part of their noise has none: it is a model.
_NOISELESS = 0.2
#: Where values are counted in steps of more than this part of the noise, chance makes blocks.
_COARSE = 0.8
_SPARSE = 8

Image = NDArray[np.float32]
Index = NDArray[np.intp]


def marked(exposure: Exposure) -> tuple[Exposure, int]:
    """The exposure with its filled blocks marked NO_DATA, and how many pixels that are.

    Parameters
    ----------
    exposure : `Exposure`
        As it is in its file: once a sky is added, a block has no longer one value. Its mask is changed in
        place.

    Notes
    -----
    The ends of one row of each cell of 4 x 4 pixels are compared; the rest is looked at where they are equal.
    A block of 7 x 7 pixels, and more, holds such a cell.
    """
    rows, columns = _equal_ends(exposure.image)
    if not len(rows):
        return exposure, 0
    unknown = (exposure.mask[rows, columns] & np.int32(exposure.bits(*_KNOWN))) == 0
    rows, columns = rows[unknown], columns[unknown]
    cells = exposure.image[_pixels(rows, columns)]
    flat = (cells == cells[:, :1, :1]).all(axis=(1, 2))
    rows, columns, values = rows[flat], columns[flat], cells[flat, 0, 0]
    dark = values < _brightest(exposure) if len(rows) else flat[:0]
    if not dark.any():
        return exposure, 0
    return _with_blocks(exposure, rows[dark], columns[dark], values[dark])


def _equal_ends(image: Image) -> tuple[Index, Index]:
    """The first pixels of the cells whose lowest row begins and ends with one value."""
    ny, nx = (n // _CELL * _CELL for n in image.shape)
    found = np.nonzero(image[:ny:_CELL, :nx:_CELL] == image[:ny:_CELL, _CELL - 1 : nx : _CELL])
    return found[0] * _CELL, found[1] * _CELL


def _pixels(rows: Index, columns: Index) -> tuple[Index, Index]:
    """Indices of the pixels of cells, (n, 4, 4) and what broadcasts to it."""
    along = np.arange(_CELL)
    return rows[:, None, None] + along[:, None], columns[:, None, None] + along


def _brightest(exposure: Exposure) -> float:
    """The value below which a block is a filling; minus infinity where noise does not keep values apart."""
    step = _SPARSE * _CELL
    here, beside = (exposure.image[::step, first::step] for first in (0, 1))
    width = min(here.shape[1], beside.shape[1])
    here, beside, variance = here[:, :width], beside[:, :width], exposure.variance[::step, ::step][:, :width]
    with np.errstate(invalid="ignore"):
        usable = (here != beside) & np.isfinite(here - beside) & (variance > 0)
    usable &= (exposure.mask[::step, ::step][:, :width] & np.int32(exposure.bits(*_KNOWN))) == 0
    if not usable.any():
        return -np.inf
    sigma = np.sqrt(variance[usable])
    apart = np.abs(here - beside)[usable]
    if np.median(apart / sigma) < _NOISELESS or apart.min() > _COARSE * np.median(sigma):
        return -np.inf
    return float(np.median(here[usable]) + _BRIGHT * np.median(sigma))


def _with_blocks(exposure: Exposure, rows: Index, columns: Index, values: Any) -> tuple[Exposure, int]:
    """Mark what has a block's value in and about its cells."""
    planes = with_planes(exposure.planes, "NO_DATA")
    ny, nx = exposure.shape
    cells = np.zeros((-(-ny // _CELL), -(-nx // _CELL)), bool)
    cells[rows // _CELL, columns // _CELL] = True
    near = np.nonzero(grown(cells, _REACH))
    where = _pixels(*(np.minimum(first * _CELL, n - _CELL) for first, n in zip(near, (ny, nx), strict=True)))
    found, count = np.unique(values, return_counts=True)
    pixels, bits = exposure.image[where], exposure.mask[where]
    filled = np.zeros(pixels.shape, bool)
    for value in found[np.argsort(-count, kind="stable")[:_MOST]]:
        filled |= pixels == value
    filled &= (bits & np.int32(exposure.bits(*_KNOWN))) == 0
    before = np.count_nonzero(exposure.has("NO_DATA"))
    exposure.mask[where] = np.where(filled, bits | np.int32(1 << planes["NO_DATA"]), bits)
    exposure = exposure.replace(planes=planes)
    return exposure, int(np.count_nonzero(exposure.has("NO_DATA")) - before)
