# SPDX-License-Identifier: BSD-3-Clause
"""Pixels that tell nothing of the sky: missing, filled with one value, saturated, dead."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Bool = NDArray[np.bool_]
Image = NDArray[np.float32]

_EIGHT = np.ones((3, 3), bool)
#: A flat patch counts from this many pixels; on a grid of values as coarse as the noise it may be chance.
_FLAT_SIDE, _FLAT_SIDE_COARSE = 2, 5
#: Pixels at the very top by which a saturation level is known.
_TOP_PIXELS = 12
_FAR_BELOW = 15.0


def filled(image: Image, step: float, sigma: float) -> Bool:
    """Patches of one exact value, which real noise never leaves: fill values, whatever they are.

    Parameters
    ----------
    image : `numpy.ndarray`, (ny, nx), float32
        NaN where missing.
    step : `float`
        Distance of neighbouring values, 0 for real numbers.
    sigma : `float`
        Noise; where it is not above the step, no patch is believed.
    """
    if step > 0 and not sigma > 0.5 * step:
        return np.zeros(image.shape, bool)
    side = _FLAT_SIDE if step == 0 else _FLAT_SIDE_COARSE
    seed = np.ones((image.shape[0] - side + 1, image.shape[1] - side + 1), bool)
    corner = image[: seed.shape[0], : seed.shape[1]]
    for i in range(side):
        for j in range(side):
            seed &= image[i : i + seed.shape[0], j : j + seed.shape[1]] == corner
    found = np.zeros(image.shape, bool)
    if not seed.any():
        return found
    for i in range(side):
        for j in range(side):
            found[i : i + seed.shape[0], j : j + seed.shape[1]] |= seed
    # Thin parts of a patch have no square in them: they touch it and hold its value.
    for value in np.unique(corner[seed])[:64]:
        same = image == value
        found |= ndimage.binary_propagation(found & same, _EIGHT, same)
    return found


def saturation_level(image: Image, level: float, sky: float, sigma: float) -> tuple[float, str]:
    """The level from which pixels are saturated, infinite for none, and a word on where it is from.

    Parameters
    ----------
    level : `float`
        What a card or the user says, NaN for nothing.
    """
    top = float(np.nanmax(image))
    if np.isfinite(level):
        if level > sky + 20 * sigma:
            return level, f"{level:g}"
        return (
            np.inf,
            f"the saturation level {level:g} is not believed: the sky is at {sky:.6g}",
        )
    if top > sky + 100 * sigma:
        near = image >= top - 1e-4 * (top - sky)
        patches, count = ndimage.label(near, _EIGHT)
        sizes = np.bincount(patches.ravel())[1:] if count else np.zeros(0, int)
        if near.sum() >= _TOP_PIXELS and sizes.max() >= 3:
            return float(np.nanmin(image[near])), f"{top:g}, at which {int(near.sum())} pixels pile up"
    return np.inf, "unknown: no card tells it and no pixels pile up at a top value"


def far_below(image: Image, sigma: Image) -> Bool:
    """Pixels far below the sky, as dead ones are and no light can be."""
    return np.asarray(image < -_FAR_BELOW * sigma)


def interpolated(image: Image, hole: Bool, reach: int) -> tuple[Image, Bool]:
    """The image with small holes closed by the mean of what is near, and the pixels too far for that.

    Parameters
    ----------
    image : `numpy.ndarray`, (ny, nx), float32
    hole : `numpy.ndarray`, (ny, nx), bool
        Pixels without a value of their own.
    reach : `int`
        How far from the next good pixel a value is still made up.
    """
    if not hole.any():
        return image, hole
    out = np.where(hole, np.float32(0), image)
    left = hole.copy()
    for _ in range(reach):
        rows, columns = np.nonzero(left & ndimage.binary_dilation(~left, _EIGHT))
        total, count = np.zeros(len(rows)), np.zeros(len(rows))
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                y = np.clip(rows + dy, 0, image.shape[0] - 1)
                x = np.clip(columns + dx, 0, image.shape[1] - 1)
                good = ~left[y, x]
                weight = good / (1.0 + abs(dy * dx))
                total += weight * np.where(good, out[y, x], 0)
                count += weight
        out[rows, columns] = total / np.maximum(count, 1e-9)
        left[rows, columns] = False
        if not left.any():
            break
    return out, left
