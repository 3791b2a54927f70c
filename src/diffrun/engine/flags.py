# SPDX-License-Identifier: BSD-3-Clause
"""Which mask planes each source touches: base_PixelFlags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from diffrun.engine.footprint import Footprint, all_pixels
from diffrun.engine.stamps import Floats, nearest_pixel
from diffrun.files.afw.exposure import Exposure

Bools = NDArray[np.bool_]

#: Flag of base_PixelFlags: the planes looked for in the whole footprint.
ANYWHERE: Mapping[str, tuple[str, ...]] = {
    "edge": ("EDGE", "NO_DATA"),
    "interpolated": ("INTRP",),
    "saturated": ("SAT", "SAT_TEMPLATE"),
    "cr": ("CR",),
    "bad": ("BAD",),
    "suspect": ("SUSPECT",),
}
#: Flag of base_PixelFlags: the planes looked for in the 3 x 3 pixels about the centre.
CENTER: Mapping[str, tuple[str, ...]] = {
    "interpolatedCenter": ("INTRP",),
    "saturatedCenter": ("SAT", "SAT_TEMPLATE"),
    "crCenter": ("CR",),
    "suspectCenter": ("SUSPECT",),
}


def pixel_flags(
    footprints: Sequence[Footprint], exposure: Exposure, x: Floats, y: Floats
) -> dict[str, Bools]:
    """Flags of N sources, by the name that follows ``base_PixelFlags_flag_``.

    Parameters
    ----------
    footprints : `Sequence` [`Footprint`]
    exposure : `Exposure`
        Whose mask is looked at.
    x, y : `numpy.ndarray`, (N,)
        Centres, parent pixels.
    """
    n = len(footprints)
    rows, columns, owner = all_pixels(footprints, exposure.xy0, exposure.shape)
    anywhere = np.zeros(n, exposure.mask.dtype)
    np.bitwise_or.at(anywhere, owner, exposure.mask[rows, columns])
    center = bits_at_center(exposure, x, y)
    ny, nx = exposure.shape
    column, row = nearest_pixel(x) - exposure.xy0[0], nearest_pixel(y) - exposure.xy0[1]
    off = (column < 0) | (column >= nx) | (row < 0) | (row >= ny)
    flags = {"offimage": off}
    flags.update({name: (anywhere & exposure.bits(*planes)) != 0 for name, planes in ANYWHERE.items()})
    flags.update({name: (center & exposure.bits(*planes)) != 0 for name, planes in CENTER.items()})
    return flags


def bits_at_center(exposure: Exposure, x: Floats, y: Floats) -> NDArray[np.int32]:
    """All bits of the 3 x 3 pixels about each centre that lie on the image, (N,)."""
    ny, nx = exposure.shape
    steps = np.arange(-1, 2)
    columns = (nearest_pixel(x) - exposure.xy0[0])[:, None, None] + steps
    rows = (nearest_pixel(y) - exposure.xy0[1])[:, None, None] + steps[:, None]
    on = (columns >= 0) & (columns < nx) & (rows >= 0) & (rows < ny)
    bits = np.where(on, exposure.mask[np.clip(rows, 0, ny - 1), np.clip(columns, 0, nx - 1)], 0)
    return np.asarray(np.bitwise_or.reduce(bits.reshape(len(x), -1), axis=1)).astype(np.int32)
